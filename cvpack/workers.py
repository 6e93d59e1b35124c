"""DataLoader workers that run out of shared memory or open files: errors that say so."""

import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Iterator

from cvpack.errors import InputError

SHARED_MEMORY = (
    'the workers that load data ran out of shared memory (/dev/shm): give it more, in Docker with --shm-size=8g or '
    '--ipc=host'
)
OPEN_FILES = 'the workers that load data ran out of open files: allow more (ulimit -n 65536)'
# How torch and Python's multiprocessing say so.
MESSAGES = {
    r'items of ancdata|Too many open files': OPEN_FILES,
    r'signal: Bus error|</torch_': SHARED_MEMORY,
}
NUMBERS = {errno.ENOSPC: SHARED_MEMORY, errno.EMFILE: OPEN_FILES, errno.ENFILE: OPEN_FILES}


@contextlib.contextmanager
def reporting_starved_workers(fewer: str) -> Iterator[None]:
    """Turns the errors of a DataLoader whose workers lack shared memory or open files into InputError.

    Goes around the whole job: torch raises them wherever the main thread is when a worker's end is noticed.

    fewer: how the user reduces the number of workers, as the last clause of the message
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        message = f'{error} {error.__cause__}'
        for pattern, text in MESSAGES.items():
            if re.search(pattern, message):
                raise InputError(f'{text}, or {fewer}') from None
        raise


@contextlib.contextmanager
def starting_workers(fewer: str) -> Iterator[None]:
    """The same for the start of the workers, whose errors are the system's own."""
    try:
        yield
    except OSError as error:
        if error.errno not in NUMBERS:
            raise
        _delete_iterator(error)
        raise InputError(f'{NUMBERS[error.errno]}, or {fewer}') from None


def _delete_iterator(error: OSError) -> None:
    """Deletes torch's half-made iterator, held by the error's frames: its destructor fails too and would print that."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook
