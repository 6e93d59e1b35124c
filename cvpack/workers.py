"""DataLoader workers: signals and memory; errors that say so where they lack shared memory or open files."""

import contextlib
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

from cvpack.device import c_function, keep_freed_memory, trim_memory
from cvpack.errors import InputError

# Linux's prctl.h
PR_SET_PDEATHSIG = 1

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
    """The same for the start of the workers, whose errors are the system's own.

    The workers inherit a blocked SIGTERM, lest one to the process group end them before configure_worker sees it.
    """
    try:
        with _blocking_sigterm():
            yield
    except OSError as error:
        if error.errno not in NUMBERS:
            raise
        _delete_iterator(error)
        raise InputError(f'{NUMBERS[error.errno]}, or {fewer}') from None


@contextlib.contextmanager
def _blocking_sigterm() -> Iterator[None]:
    """Holds SIGTERM back, where a worker can wait for it; a pending one is delivered at the end."""
    if not hasattr(signal, 'sigwaitinfo'):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _delete_iterator(error: OSError) -> None:
    """Deletes torch's half-made iterator, held by the error's frames: its destructor fails too and would print that."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook


def _obey_parent_alone() -> None:
    """Ends the process at a SIGTERM from its parent, which has no more use for it; others mean the parent."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def configure_worker() -> None:
    """To be called by a worker when it starts.

    It works on when the process group is asked to stop, for its trainer finishes the iteration, and dies with that.
    """
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'SIGBUS'):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # too little shared memory: the trainer tells that, once
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # a no-op after starting_workers
        threading.Thread(target=_obey_parent_alone, daemon=True).start()
    if prctl := c_function('prctl'):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    trim_memory()
    keep_freed_memory()
