"""Checkpoints: written whole or not at all, read as data and never as code.

A folder of checkpoints holds `iter-N.pth` and the link `iter-last.pth` to the newest.
"""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from cvpack.errors import InputError
from cvpack.files import replacing

LATEST = 'iter-last.pth'


def save(folder: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Writes `iter-N.pth`, whole or not at all, then points `iter-last.pth` at it."""
    path = folder / f'iter-{iteration}.pth'
    with replacing(path) as file:
        torch.save(state, file)
    link = folder / f'{LATEST}.tmp'
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    os.replace(link, folder / LATEST)
    return path


def load(path: Path) -> dict[str, Any]:
    """Reads a file written by torch.save onto the CPU; only tensors and plain values are accepted.

    Raises InputError for a file that is absent, damaged, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f'{path} does not exist: name a file written by train.py or torch.save')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first_line = str(error).strip().split('\n')[0]
        raise InputError(f'{path} is not a readable checkpoint ({first_line[:150]}): get it again') from None
    if not isinstance(content, dict):
        raise InputError(f'{path} holds a {type(content).__name__}, not a checkpoint: name another file')
    return content


def iterations(folder: Path) -> list[int]:
    """The iterations whose checkpoints lie in the folder, rising."""
    names = (re.fullmatch(r'iter-(\d+)\.pth', path.name) for path in folder.glob('iter-*.pth'))
    return sorted(int(match[1]) for match in names if match)


def find(folder: Path, iteration: str) -> Path:
    """The checkpoint of an iteration given as on a command line: a number or 'last'.

    Raises InputError that lists the ones there are.
    """
    path = folder / f'iter-{iteration}.pth'
    if path.is_file():
        return path
    there = ', '.join(map(str, iterations(folder))) or 'none'
    raise InputError(f'no checkpoint {path.name} in {folder}; iterations there: {there}')
