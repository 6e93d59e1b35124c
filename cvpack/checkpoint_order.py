"""Which of a folder's checkpoints is newer: the one that has seen more samples.

The N of `iter-N.pth` counts batches, whose size may have changed while a run was interrupted. The number of samples
is `samples` in the file. Files without it, such as the published code's, count as N batches of the
`samples_an_iteration` of the oldest file that has it, as a run that resumes from one assumes.
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
    """A checkpoint in a folder; they sort by age, oldest first."""

    samples: float  # infinite: it cannot be read
    iteration: int
    path: Path
    recorded: bool  # whether `samples` is in the file


def samples_of(state: dict[str, Any] | None) -> float:
    """The samples that a checkpoint's content has seen; -1 if it does not say, infinite if it could not be read."""
    return math.inf if state is None else _count(state, 'samples', -1)


def samples(path: Path) -> float:
    """The samples that a checkpoint has seen, as samples_of."""
    return samples_of(_read(path))


def _count(state: dict[str, Any], key: str, absent: int) -> int:
    value = state.get(key)
    return value if isinstance(value, int) else absent


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint, for its numbers; None if it cannot be read."""
    for mapped in (True, False):  # mapped, tensors stay on disk: milliseconds at any size. Old formats cannot be
        try:
            state = torch.load(path, map_location='cpu', weights_only=True, mmap=mapped)
        except Exception:
            continue
        return state if isinstance(state, dict) else None
    return None


def in_order(folder: Path) -> list[Saved]:
    """A folder's checkpoints, oldest first; unreadable ones last, since they may be the newest."""
    counts = []
    for path in folder.glob('iter-*.pth'):
        if match := PATTERN.fullmatch(path.name):
            state = _read(path)
            batch = _count(state or {}, 'samples_an_iteration', 1)
            counts.append((samples_of(state), batch, int(match[1]), path))
    batch = next((batch for seen, batch, *_ in sorted(counts) if 0 <= seen < math.inf), 1)
    return sorted(
        Saved(seen if seen >= 0 else iteration * batch, iteration, path, 0 <= seen < math.inf)
        for seen, _, iteration, path in counts
    )


def newest(folder: Path) -> Path | None:
    """The checkpoint that has seen the most samples; None if there is none.

    That is the one `iter-last.pth` points to, unless another has seen more.
    """
    order, last = in_order(folder), follow(folder / LATEST)
    if last.is_file():
        fewest = samples(last)
        newer = [saved.path for saved in order if saved.recorded and saved.samples >= fewest]
        return newer[-1] if newer else last
    return order[-1].path if order else None


def newest_saved(folder: Path) -> str:
    """For a message: which checkpoint a run can resume from."""
    readable = [saved.path for saved in in_order(folder) if saved.samples < math.inf]
    return f'the newest intact checkpoint is {readable[-1].name}' if readable else 'there is no intact checkpoint'
