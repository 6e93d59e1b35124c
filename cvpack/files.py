"""Files, read and written: a user's json; our own, whole or not at all."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cvpack.errors import InputError


def read_json(path: Path, remedy: str = 'get it again') -> Any:
    """The content of a json file. Raises InputError, which ends in `remedy`, where it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f'{path} does not exist: {remedy}') from None
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): {remedy}') from None
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not valid json ({error}): {remedy}') from None


def write_json(path: Path, content: Any) -> None:
    """Writes content as indented json. Raises OSError."""
    path.write_text(json.dumps(content, indent=2) + '\n')


def sha256(path: Path) -> str:
    """The digest of a file's content, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes path's place once it is whole and on the disk; until then path stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
