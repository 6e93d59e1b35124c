"""Reading and writing files: json, digests, atomic writes, links."""

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cvpack.errors import InputError

MAX_POINTER_BYTES = 256


def read_json(path: Path, remedy: str = 'get it again') -> Any:
    """The content of a json file. Raises InputError, ending in `remedy`, if it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f'{path} does not exist: {remedy}') from None
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): {remedy}') from None
    except UnicodeDecodeError:
        raise InputError(f'{path} is not in UTF-8: save it in UTF-8, or {remedy}') from None
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not valid json ({error}): {remedy}') from None


def write_json(path: Path, content: Any) -> None:
    """Writes content as indented json, atomically. Raises OSError."""
    with atomic_write(path) as file:
        file.write(f'{json.dumps(content, indent=2)}\n'.encode())


def sha256(path: Path) -> str:
    """The digest of a file's content, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` once it is complete and on disk; until then `path` is untouched.

    Its temporary name is this process's own, in case another writes the same file. An OSError names the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{platform.node()}-{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files of writes that were killed. Nobody else may be writing in the folder."""
    for unfinished in folder.glob('*.tmp'):
        unfinished.unlink(missing_ok=True)


def point(link: Path, path: Path) -> None:
    """Makes `link` a link to a file in the same folder, atomically. Raises OSError if it cannot.

    On a file system without links it becomes a text file with the name, which `follow` understands.
    """
    temporary = link.with_name(f'{link.name}.tmp')
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(path.name)
        os.replace(temporary, link)
    except (OSError, NotImplementedError):
        with atomic_write(link) as file:
            file.write(f'{path.name}\n'.encode())


def follow(path: Path) -> Path:
    """The file that a link, or a text file in its place, points to; any other path unchanged."""
    try:
        if path.is_symlink():
            return path.parent / path.readlink()
        name = path.read_text().strip() if path.stat().st_size <= MAX_POINTER_BYTES else ''
    except (OSError, ValueError):  # absent, or not text
        return path
    return path.with_name(name) if re.fullmatch(rf'[\w.-]+{re.escape(path.suffix)}', name) else path
