"""What the tools' command lines share."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from cvpack.errors import InputError


def command_parser(tool: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m lib.tools.TOOL`; description: the module's docstring, shown as it is."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f'python -m lib.tools.{tool}', description=description, formatter_class=formatter)


def positive(text: str) -> int:
    """An integer of at least 1, as argparse's `type`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'{text} is not an integer of at least 1')
    return int(text)


@contextlib.contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Turns an OSError (disk full, no permission) into an InputError that names its file, or else `path`.

    option: the one that names the path
    """
    try:
        yield
    except OSError as error:
        reason = f'{error.filename or path}: {error.strerror or error}'
        raise InputError(f'{reason}: free some space, or name another {option}') from error
