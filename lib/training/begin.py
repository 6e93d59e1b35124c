"""Where a training run begins: at a checkpoint, or anew, and never over other work."""

import argparse
import logging
import math
from pathlib import Path

from easydict import EasyDict

from cvpack import checkpoint, dist
from cvpack.checkpoint_order import in_order
from cvpack.errors import InputError
from cvpack.files import follow
from lib.config import REPOSITORY
from lib.models.weights import load_pretrained
from lib.training import Trainer


def begin(cfg: EasyDict, args: argparse.Namespace, trainer: Trainer, logger: logging.Logger) -> None:
    """Has the trainer go on from a checkpoint, or begin, provided that no other work would be mixed with its own."""
    folder = Path(cfg.OUTPUT_DIR)
    if args.resume:
        resumed = trainer.resume_newest(folder, logger)
    else:
        file = dist.agree(lambda: named_checkpoint(folder, args.checkpoint))
        resumed = file is not None
        if resumed:
            trainer.resume(file, logger)
    if not resumed and cfg.MODEL.WEIGHT:
        for line in load_pretrained(trainer.model, _weight_file(cfg), cfg.MODEL.WEIGHT_STAGES).splitlines():
            logger.info(line)


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
