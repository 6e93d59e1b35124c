"""Which of a folder's checkpoints is newer: the one with more samples behind it.

The N of `iter-N.pth` counts batches, whose size may have changed while a run was interrupted. What has been seen is
`samples` in the file. Files that do not say, as the published code's, count as N batches of `samples_an_iteration` in
the oldest that does: whoever goes on from one takes it for that.
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

    samples: float  # infinite: it cannot be read
    iteration: int
    path: Path
    told: bool  # the file itself says how many


def samples_of(state: dict[str, Any]) -> float:
    """The samples behind a checkpoint's content; -1 if it does not say."""
    return _count(state, 'samples', -1)


def samples(path: Path) -> float:
    """The samples behind a checkpoint; -1 if it does not say, infinite if it cannot be read."""
    state = _read(path)
    return math.inf if state is None else samples_of(state)


def _count(state: dict[str, Any], key: str, absent: int) -> int:
    value = state.get(key)
    return value if isinstance(value, int) else absent


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint, for its numbers; None if it cannot be read."""
    try:
        # Tensors stay on the disk: a matter of milliseconds, whatever the size.
        state = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception:  # damaged, or of a format that cannot be mapped
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
        except Exception:
            return None
    return state if isinstance(state, dict) else None


def in_order(folder: Path) -> list[Saved]:
    """The checkpoints in a folder, the least work first; those that cannot be read last: they may be the newest."""
    names = ((path, PATTERN.fullmatch(path.name)) for path in folder.glob('iter-*.pth'))
    counts = []
    for path, match in names:
        if match and (state := _read(path)) is not None:
            counts.append((samples_of(state), _count(state, 'samples_an_iteration', 1), int(match[1]), path))
        elif match:
            counts.append((math.inf, 1, int(match[1]), path))
    batch = next((batch for seen, batch, *_ in sorted(counts) if 0 <= seen < math.inf), 1)
    return sorted(
        Saved(seen if seen >= 0 else iteration * batch, iteration, path, 0 <= seen < math.inf)
        for seen, _, iteration, path in counts
    )


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most work behind it; None if there is none.

    That is the one that `iter-last.pth` stands for, unless another has more samples behind it.
    """
    order, last = in_order(folder), follow(folder / LATEST)
    if last.is_file():
        least = samples(last)
        newer = [saved.path for saved in order if saved.told and saved.samples >= least]
        return newer[-1] if newer else last
    return order[-1].path if order else None


def newest_saved(folder: Path) -> str:
    """For a message: which checkpoint there is to go on from."""
    readable = [saved.path for saved in in_order(folder) if saved.samples < math.inf]
    return f'the newest whole checkpoint is {readable[-1].name}' if readable else 'no checkpoint is whole'
