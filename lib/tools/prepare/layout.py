"""Puts files into a data set's folder without ever writing over, or deleting, what lies there."""

import filecmp
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvpack.errors import InputError


def place(path: Path, content: Path | bytes) -> str:
    """Makes path a link to content, or a file that holds it, whole or not at all; says which in a word.

    Where the file system has no links, path becomes a copy, of a folder with all that is in it. What is there and right
    is kept. Raises InputError where something else is there, or a copy cannot be made.
    """
    if os.path.lexists(path):
        if isinstance(content, Path):
            right = path.exists() and (path.samefile(content) or _is_copy(path, content))
        else:
            right = path.is_file() and path.read_bytes() == content
        if right:
            return 'kept'
        wanted = f'a link to {content}' if isinstance(content, Path) else 'what would be written now'
        raise InputError(f'{path} exists and is not {wanted}: move it away and run this again')
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        try:
            path.symlink_to(os.path.abspath(content))
        except (OSError, NotImplementedError) as error:
            return _copy(path, content, getattr(error, 'strerror', None) or str(error))
        return f'linked to {content}'
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return 'written'


def _copy(path: Path, content: Path, no_link: str) -> str:
    """Makes path a copy of a file or folder, whole or not at all; says so."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        if content.is_dir():
            temporary.mkdir()
        for name in tqdm(_files(content), f'copying {content}', disable=None, unit=' files'):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content / name, temporary / name)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f'{path} can be neither a link to {content} ({no_link}) nor a copy of it ({error.strerror or error}): '
            'make room there, or name another folder with --target'
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    return f'copied from {content}, as there can be no link ({no_link})'


def _is_copy(path: Path, content: Path) -> bool:
    """Of folders, whether they hold files of the same names and sizes."""
    if content.is_file():
        return path.is_file() and filecmp.cmp(path, content, shallow=False)
    return path.is_dir() and _files(path) == _files(content)


def _files(path: Path) -> dict[str, int]:
    """{name relative to the path: bytes} of all files in a folder; of a file, itself as ''."""
    files = [path]
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]
    return {str(file.relative_to(path)): file.stat().st_size for file in files if file.exists()}


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
