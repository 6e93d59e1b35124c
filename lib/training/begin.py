"""Starts or resumes a training run, without overwriting or mixing in other work."""

import argparse
import logging
import math
from pathlib import Path

from easydict import EasyDict

from cvpack import checkpoint, dist
from cvpack.checkpoint_order import in_order
from cvpack.errors import InputError, OtherRun
from cvpack.files import follow
from lib.config import REPOSITORY
from lib.models.weights import load_pretrained
from lib.training.trainer import Trainer


def begin(trainer: Trainer, args: argparse.Namespace, logger: logging.Logger) -> None:
    """Resumes the run from a checkpoint, or starts it with pretrained weights. Raises InputError.

    args: checkpoint, the value of -c; resume, whether to resume from the newest checkpoint
    """
    folder = Path(trainer.cfg.OUTPUT_DIR)
    if args.resume:
        resumed = _resume_newest(trainer, folder, logger)
    else:
        file = dist.agree(lambda: named_checkpoint(folder, args.checkpoint))
        resumed = file is not None
        if file is not None:
            trainer.resume(file, logger)
    if not resumed and trainer.cfg.MODEL.WEIGHT:
        summary = load_pretrained(trainer.model, _weight_file(trainer.cfg), trainer.cfg.MODEL.WEIGHT_STAGES)
        for line in summary.splitlines():
            logger.info(line)


def _resume_newest(trainer: Trainer, folder: Path, logger: logging.Logger) -> bool:
    """Resumes from the newest usable checkpoint in the folder and logs those that are not; False without one.

    Raises InputError for a checkpoint of another run.
    """

    def resume_first_good() -> Path | None:
        for saved in reversed(in_order(folder)):
            try:
                trainer.resume(saved.path, logger)
                return saved.path
            except OtherRun as error:
                raise InputError(f'{error}; or set another folder with --set OUTPUT_DIR=...') from None
            except InputError as error:
                logger.info(f'{error}; trying the previous checkpoint')
        return None

    chosen = dist.agree(resume_first_good)
    if chosen is None:
        logger.info(f'{folder} has no checkpoint to resume from: starting from iteration 1')
        return False
    if not dist.is_main():
        trainer.resume(chosen, logger)
    logger.info(f'resumed from {chosen}')
    return True


def named_checkpoint(folder: Path, name: str | None) -> Path | None:
    """The file that -c names; None without -c.

    Raises InputError if the folder holds checkpoints of another run, or of this run that are newer than the file:
    training would overwrite them or mix with them.
    """
    if name is None:
        file = None
    elif name in ('last', 'best') or name.isdigit():
        file = checkpoint.find(folder, name)
    else:
        file = follow(Path(name) if Path(name).is_file() else folder / name)
        if not file.is_file():
            what = 'is a folder' if file.is_dir() else 'does not exist'
            raise InputError(f'{file} {what}: give a checkpoint that train.py wrote')
    others = in_order(folder)
    own = [saved for saved in others if file and saved.path.exists() and saved.path.samefile(file)]
    newer = [saved.path.name for saved in others if own and own[0] < saved and saved.samples < math.inf]
    remedy = 'resume from the newest with -c last, move them away, or set another folder with --set OUTPUT_DIR=...'
    if others and not own:
        which = f' and not {file}' if file else ''
        last = others[-1].iteration
        raise InputError(f'{folder} holds checkpoints of an earlier run (up to iteration {last}){which}: {remedy}')
    if newer:
        raise InputError(f'{folder} holds newer checkpoints than {file} ({", ".join(newer)}): {remedy}')
    return file


def _weight_file(cfg: EasyDict) -> Path:
    """The pretrained ResNet's file, relative to the repository or absolute."""
    path = REPOSITORY / cfg.MODEL.WEIGHT
    if not path.is_file():
        raise InputError(
            f'MODEL.WEIGHT: {path} does not exist: get it with '
            f'`python -m lib.tools.prepare weights --backbone {cfg.MODEL.BACKBONE}` and set the file it writes, '
            "or train from scratch with --set MODEL.WEIGHT=''"
        )
    return path
