"""Which of a folder's checkpoints is newer: the one with more samples behind it.

The N of `iter-N.pth` counts batches, whose size may have changed while a run was interrupted. What has been seen is
`samples` in the file; the published code's files, which do not say, come before those that do, by their N.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cvpack.files import follow

LATEST = 'iter-last.pth'
PATTERN = re.compile(r'iter-(\d+)(\.earlier-\d+)?\.pth')


class Saved(NamedTuple):
    """A checkpoint of a folder; the less work is behind it, the smaller it is."""

    samples: float  # -1: the file does not say; infinite: it cannot be read
    iteration: int
    path: Path


def samples_of(state: dict[str, Any]) -> float:
    """The samples behind a checkpoint's content; -1 if it does not say."""
    value = state.get('samples')
    return value if isinstance(value, int) else -1


def samples(path: Path) -> float:
    """The samples behind a checkpoint; -1 if it does not say, infinite if it cannot be read."""
    try:
        # Tensors stay on the disk: a matter of milliseconds, whatever the size.
        state = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception:  # damaged, or of a format that cannot be mapped
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
        except Exception:
            return math.inf
    return samples_of(state) if isinstance(state, dict) else math.inf


def in_order(folder: Path) -> list[Saved]:
    """The checkpoints in a folder, the least work first; those that cannot be read last: they may be the newest."""
    names = ((path, PATTERN.fullmatch(path.name)) for path in folder.glob('iter-*.pth'))
    return sorted(Saved(samples(path), int(match[1]), path) for path, match in names if match)


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most work behind it; None if there is none.

    That is the one that `iter-last.pth` stands for, unless another has more samples behind it.
    """
    order, last = in_order(folder), follow(folder / LATEST)
    if last.is_file():
        least = max(samples(last), 0)
        newer = [saved.path for saved in order if least <= saved.samples < math.inf]
        return newer[-1] if newer else last
    return order[-1].path if order else None


def newest_saved(folder: Path) -> str:
    """For a message: which checkpoint there is to go on from."""
    readable = [saved.path for saved in in_order(folder) if saved.samples < math.inf]
    return f'the newest whole checkpoint is {readable[-1].name}' if readable else 'no checkpoint is whole'
