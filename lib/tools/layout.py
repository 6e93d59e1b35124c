"""Puts files into a data set's folder without ever writing over, or deleting, what lies there."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvpack.errors import InputError


def place(path: Path, content: Path | bytes) -> str:
    """Makes path a link to content, or a file that holds it, whole or not at all; says which in a word.

    What is there and right is kept. Raises InputError where something else is there.
    """
    if os.path.lexists(path):
        if isinstance(content, Path):
            right = path.exists() and path.samefile(content)
        else:
            right = path.is_file() and path.read_bytes() == content
        if right:
            return 'kept'
        wanted = f'a link to {content}' if isinstance(content, Path) else 'what would be written now'
        raise InputError(f'{path} exists and is not {wanted}: move it away and run this again')
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        path.symlink_to(os.path.abspath(content))
        return f'linked to {content}'
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return 'written'


def as_json(value: Any) -> bytes:
    """Compact json."""
    return json.dumps(value, separators=(',', ':')).encode()


def count_absent(folder: Path, names: Iterable[str], source: str) -> str:
    """Says how many of the names the folder lacks; raises InputError, with their source, if all."""
    names = set(names)
    # One listing of the folder: a look at each of 100,000 files takes minutes on a network disk.
    there = {entry.name for entry in tqdm(os.scandir(folder), f'listing {folder}', disable=None, unit=' files')}
    absent = names - there
    if len(absent) == len(names):
        raise InputError(f'{folder} has none of the {len(names)} listed images (as {min(names)}): get {source}')
    return f'{len(names)} images listed, {len(absent)} of them absent'
