"""Where a training run begins: at a checkpoint, or anew, and never over other work."""

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
    """Resumes the run from a checkpoint, or begins it, provided that no other work would be mixed with its own.

    args: checkpoint, what -c names, and resume, whether to look for the newest oneself
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
        told = load_pretrained(trainer.model, _weight_file(trainer.cfg), trainer.cfg.MODEL.WEIGHT_STAGES)
        for line in told.splitlines():
            logger.info(line)


def _resume_newest(trainer: Trainer, folder: Path, logger: logging.Logger) -> bool:
    """Resumes from the newest checkpoint in the folder that can be resumed from; says which could not.

    Raises InputError where a newer one is of another run, which must not be mixed with this one.
    """

    def resume_first_good() -> Path | None:
        for saved in reversed(in_order(folder)):
            try:
                trainer.resume(saved.path, logger)
                return saved.path
            except OtherRun as error:
                raise InputError(f'{error}; or choose another folder with --set OUTPUT_DIR=...') from None
            except InputError as error:
                logger.info(f'{error}; trying the checkpoint before')
        return None

    chosen = dist.agree(resume_first_good)
    if chosen is None:
        logger.info(f'{folder} has no checkpoint to go on from: a fresh start')
        return False
    if not dist.is_main():
        trainer.resume(chosen, logger)
    logger.info(f'going on from {chosen}')
    return True


def named_checkpoint(folder: Path, name: str | None) -> Path | None:
    """The file that -c means; None without one.

    Raises InputError if the folder holds what training would write over, or take for its own later: checkpoints of
    another run, or of this one that are newer than the file.
    """
    if name is None:
        file = None
    elif name in ('last', 'best') or name.isdigit():
        file = checkpoint.find(folder, name)
    else:
        file = follow(Path(name) if Path(name).is_file() else folder / name)
        if not file.is_file():
            what = 'is a folder' if file.is_dir() else 'does not exist'
            raise InputError(f'{file} {what}: name a checkpoint that train.py wrote')
    others = in_order(folder)
    own = [saved for saved in others if file and saved.path.exists() and saved.path.samefile(file)]
    newer = [saved.path.name for saved in others if own and own[0] < saved and saved.samples < math.inf]
    remedy = 'go on from the newest with -c last, move them away, or choose another folder with --set OUTPUT_DIR=...'
    if others and not own:
        which = f', of which {file} is none' if file else ''
        last = others[-1].iteration
        raise InputError(f'{folder} holds checkpoints of an earlier run (to iteration {last}){which}: {remedy}')
    if newer:
        raise InputError(f'{folder} holds newer checkpoints than {file} ({", ".join(newer)}): {remedy}')
    return file


def _weight_file(cfg: EasyDict) -> Path:
    """The pretrained ResNet's file, relative to the repository or absolute."""
    path = REPOSITORY / cfg.MODEL.WEIGHT
    if not path.is_file():
        raise InputError(
            f'MODEL.WEIGHT: {path} does not exist: get it with '
            f'`python -m lib.tools.prepare weights --backbone {cfg.MODEL.BACKBONE}` and name what that writes, '
            "or train from scratch with --set MODEL.WEIGHT=''"
        )
    return path
