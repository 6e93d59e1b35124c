"""Checkpoints: written atomically; read as data, never as code.

A folder of checkpoints holds `iter-N.pth`, the link `iter-last.pth` to the newest and, where a run is validated,
`iter-best.pth` to the best; on a file system without links these are text files with the name. If a new checkpoint
needs the name of an older one, that becomes `iter-N.earlier-1.pth` (cvpack/checkpoint_order.py says which is newer).
"""

import itertools
import math
import os
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cvpack.checkpoint_order import LATEST, in_order, newest, newest_saved, samples, samples_of
from cvpack.errors import InputError
from cvpack.files import atomic_write, follow, point
from cvpack.stand_ins import stand_ins_for, without_stand_ins

BEST = 'iter-best.pth'
NO_DATA = 'which is not data'


class LinkError(OSError):
    """A checkpoint was written, but `iter-last.pth` could not be pointed at it."""


def save(folder: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Writes `iter-N.pth` atomically, then points `iter-last.pth` at it.

    A file of that name at another position of the run (the batch size has changed) is renamed. Raises OSError if it
    cannot write, LinkError if only the link failed.
    """
    path = folder / f'iter-{iteration}.pth'
    if path.exists() and samples(path) != samples_of(state):
        _rename(path)
    write(path, state)
    try:
        point(folder / LATEST, path)
    except OSError as error:
        raise LinkError(f'{path} is saved, but {LATEST} cannot be pointed at it ({error.strerror or error})') from None
    return path


def _rename(path: Path) -> None:
    """Makes way for another checkpoint of this name. An unreadable file gets a name that nothing looks for."""
    if math.isinf(samples(path)):
        names = (f'{path.name}.unreadable-{number}' for number in itertools.count(1))
    else:
        names = (f'{path.stem}.earlier-{number}.pth' for number in itertools.count(1))
    other = next(other for other in map(path.with_name, names) if not os.path.lexists(other))
    for link in (path.with_name(LATEST), path.with_name(BEST)):
        if follow(link) == path:
            point(link, other)
    path.rename(other)


def write(path: Path, state: dict[str, Any]) -> None:
    """Writes a file for `load`, atomically. Raises OSError if it cannot."""
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's zip writer hides the file's own error
        raise error.__context__ if isinstance(error.__context__, OSError) else OSError(None, str(error)) from None


class Writer:
    """Saves checkpoints in the background from copies in host memory: training waits only for the copy.

    keep:   how many of the newest checkpoints stay, besides the best and unreadable ones; 0: all. Those newer than the
            one just written do not count
    report: called with a line about what went wrong; earlier checkpoints are intact then, and the next save may succeed
    """

    def __init__(self, folder: Path, keep: int, report: Callable[[str], None]) -> None:
        self.folder, self.keep, self.report = folder, keep, report
        self.thread: threading.Thread | None = None
        self.failure: str | None = None

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Copies the state, waits for the previous checkpoint, and starts writing this one."""
        copy = _on_host(state)
        self.wait()
        self.thread = threading.Thread(target=self._write, args=(iteration, copy))
        self.thread.start()

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def close(self) -> None:
        """Waits for the last checkpoint. Raises InputError if it could not be written."""
        self.wait()
        if self.failure:
            raise InputError(self.failure)

    def _write(self, iteration: int, state: dict[str, Any]) -> None:
        path = self.folder / f'iter-{iteration}.pth'
        self.failure = f'{path} was not written'
        try:
            save(self.folder, iteration, state)
        except LinkError as error:
            self.report(str(error))
        except OSError as error:
            reason = error.strerror or error
            self.failure = f'{path} could not be written ({reason}): make room; {newest_saved(self.folder)}'
            self.report(self.failure)
            return
        self.failure = None
        if self.keep:
            self._prune(path)

    def _prune(self, written: Path) -> None:
        paths = [saved.path for saved in in_order(self.folder)]
        known = paths[: paths.index(written) + 1] if written in paths else []
        best = follow(self.folder / BEST).resolve()
        for old in known[: -self.keep]:
            if old.resolve() != best:
                try:
                    old.unlink()
                except OSError as error:
                    self.report(f'{old}, an old checkpoint, cannot be removed ({error.strerror or error})')


def _on_host(value: Any) -> Any:
    """A copy with every tensor in host memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, dict):
        return {key: _on_host(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_host(inner) for inner in value)
    return value


def load(path: Path) -> dict[str, Any]:
    """Reads a file written by torch.save onto the CPU: tensors, plain values and numpy arrays. Links are followed.

    Objects of other packages, which other projects store beside their weights, become Foreign objects that do nothing;
    names that could do harm are refused. Nothing in the file is run.

    Raises InputError for a file that is absent, damaged, or not made of data.
    """
    path = follow(path)
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise InputError(f'{path} {what}: name a file written by train.py or torch.save')
    try:
        content = _read(path)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = _reason(error)
        remedy = 'save its tensors alone' if reason.endswith(NO_DATA) else 'get it again'
        raise InputError(f'{path} is not a readable checkpoint ({reason[:150]}): {remedy}') from None
    if not isinstance(content, dict):
        raise InputError(f'{path} holds a {type(content).__name__}, not a checkpoint: name another file')
    return content


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        with stand_ins_for(path):
            return without_stand_ins(torch.load(path, map_location='cpu', weights_only=True))


def _reason(error: Exception) -> str:
    """An error of torch.load in a line, without its advice and terminal escapes."""
    text = re.sub(r'\x1b\[[\d;]*m', '', str(error)).rpartition('WeightsUnpickler error: ')[2].strip()
    # A refused name; or a class, derived from dict or list, say, whose content is refused.
    match = re.search(r"GLOBAL (\S+)|\ACan only .*<class '(.+)'>|\A'(\S+)' object does not support", text)
    if match:
        return f'it names {next(filter(None, match.groups()))}, {NO_DATA}'
    return f'{type(error).__name__}: {text}'.split('\n')[0]


def iterations(folder: Path) -> list[int]:
    """The iterations of the checkpoints in the folder, ascending."""
    names = (re.fullmatch(r'iter-(\d+)\.pth', path.name) for path in folder.glob('iter-*.pth'))
    return sorted(int(match[1]) for match in names if match)


def find(folder: Path, iteration: str) -> Path:
    """The checkpoint of an iteration as given on a command line: a number, 'last' (the newest) or 'best'.

    Raises InputError that lists the available ones.
    """
    name = folder / f'iter-{iteration}.pth'
    path = newest(folder) if iteration == 'last' else follow(name)
    if path is not None and path.is_file():
        return path
    available = ', '.join(map(str, iterations(folder))) or 'none'
    raise InputError(f'no checkpoint {name.name} in {folder}; iterations there: {available}')
