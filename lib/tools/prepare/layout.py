"""Puts files into a data set's folder; what is already there is never overwritten or deleted."""

import filecmp
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvpack.errors import InputError
from cvpack.files import atomic_write

# Name below the target -> what to put there (a path to link to, or bytes to write), and counts to print.
Files = dict[str, tuple[Path | bytes, str]]


def place_all(target: Path, files: Files) -> None:
    """Places every file below the target and prints a line for each."""
    for name, (content, counts) in files.items():
        print(f'{target / name}: {place(target / name, content)}, {counts}')


def place(path: Path, content: Path | bytes) -> str:
    """Makes `path` a link to `content`, or a file with these bytes, atomically; returns what was done.

    On a file system without links it becomes a copy, recursively for a folder. A correct file that is already there is
    kept. Raises InputError if something else is there, or if it cannot be copied.
    """
    refuse_others({path: content})
    if os.path.lexists(path):
        return 'kept'
    if isinstance(content, bytes):
        with atomic_write(path) as file:
            file.write(content)
        return 'written'
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(os.path.abspath(content))
    except (OSError, NotImplementedError) as error:
        return _copy(path, content, getattr(error, 'strerror', None) or str(error))
    return f'linked to {content}'


def refuse_others(files: Mapping[Path, Path | bytes]) -> None:
    """Raises InputError if a path exists with another content than `place` would give it."""
    for path, content in files.items():
        if not os.path.lexists(path):
            continue
        if isinstance(content, Path):
            same = path.exists() and (path.samefile(content) or _is_copy(path, content))
        else:
            same = path.is_file() and path.read_bytes() == content
        if not same:
            wanted = f'a link to {content}' if isinstance(content, Path) else 'the file that would be written'
            raise InputError(f'{path} exists and is not {wanted}: move it away and run this again')


def _copy(path: Path, content: Path, no_link: str) -> str:
    """Copies a file or folder to `path` atomically. no_link: why it could not be linked."""
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
            f'{path} can neither be linked to {content} ({no_link}) nor copied from it ({error.strerror or error}): '
            'free some space, or name another --target'
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    return f'copied from {content}, because it cannot be linked ({no_link})'


def _is_copy(path: Path, content: Path) -> bool:
    """Whether two files are equal, or two folders hold files of the same names and sizes."""
    if content.is_file():
        return path.is_file() and filecmp.cmp(path, content, shallow=False)
    return path.is_dir() and _files(path) == _files(content)


def _files(path: Path) -> dict[str, int]:
    """{relative path: bytes} of all files in a folder, links followed; {'.': bytes} of a file."""
    folders = os.walk(path, followlinks=True) if path.is_dir() else [(str(path.parent), [], [path.name])]
    files = (Path(folder, name) for folder, _, names in folders for name in names)
    return {str(file.relative_to(path)): file.stat().st_size for file in files if file.exists()}


def as_json(value: Any) -> bytes:
    """Compact json."""
    return json.dumps(value, separators=(',', ':')).encode()


def count_missing(folder: Path, names: Iterable[str], source: str) -> str:
    """How many of these files the folder lacks, in words. Raises InputError if it lacks all of them.

    source: where to get them
    """
    names = set(names)
    missing = names.difference(os.listdir(folder))  # one listing: 100,000 stat calls take minutes on a network disk
    if len(missing) == len(names):
        raise InputError(f'{folder} has none of the {len(names)} listed images (such as {min(names)}): get {source}')
    return f'{len(names)} images listed, {len(missing)} of them missing'
