"""How a command ends early: one clear line instead of a traceback, and an exit code.

0   done
2   the user's input cannot be used, or what was trained could not be saved
3   a loss or gradient is not finite
4   another process of the job died or hangs
75  stopped by SIGTERM or SIGUSR1 after saving; start it again (EX_TEMPFAIL)
"""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec('P')
T = TypeVar('T')

# Errors of a path given by the user: the system will not even say whether it exists.
UNUSABLE_PATHS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
MAX_NAME_LENGTH = 200


class CleanExit(Exception):
    """Ends a command; the message gives the reason in one line. Bugs raise other exceptions."""

    exit_code = 1
    # Whether the process may be left at once: without waiting for threads, or for work on a GPU that never ends.
    at_once = False


class InputError(CleanExit, ValueError):
    """Bad input from the user: the message names the file, key or value and says what to do."""

    exit_code = 2


class OtherRun(InputError):
    """An intact checkpoint of another network or another training run: nothing may overwrite it."""


class NotFinite(CleanExit, ArithmeticError):
    """A loss or gradient of some rank is not finite.

    losses: this rank's
    """

    exit_code = 3

    def __init__(self, iteration: int, losses: dict[str, float], message: str = '') -> None:
        super().__init__(message or f'iteration {iteration}: a loss or gradient is not finite')
        self.iteration, self.losses = iteration, losses


class PeerLost(CleanExit, RuntimeError):
    """Another process of the job died or hangs."""

    exit_code = 4
    at_once = True


class Preempted(CleanExit):
    """The run was asked to stop, and saved."""

    exit_code = 75

    def __init__(self, iteration: int, remedy: str = 'start it again to resume') -> None:
        super().__init__(f'stopped after iteration {iteration} as asked; {remedy}')
        self.iteration = iteration


def exits_cleanly(main: Callable[P, T]) -> Callable[P, T]:
    """Decorates a command's entry point: a CleanExit becomes one line on stderr and its exit code.

    So does a path that the system refuses to look at.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return main(*args, **kwargs)
        except CleanExit as error:
            # A DataLoader worker's error arrives inside that process's traceback, with the message last.
            message = str(error).rstrip().rpartition('\n')[2]
            _exit(message.partition('InputError: ')[2] or message, error.exit_code, error.at_once)
        except OSError as error:
            if error.errno not in UNUSABLE_PATHS or error.filename is None:
                raise
            name = str(error.filename)
            name = name if len(name) <= MAX_NAME_LENGTH else f'{name[:MAX_NAME_LENGTH]}...'
            _exit(f'{name} cannot be used ({error.strerror}): name another path', InputError.exit_code)

    return run


def _exit(message: str, code: int, at_once: bool = False) -> NoReturn:
    # Names from files may hold terminal escape sequences: these are written out.
    text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in message)
    with contextlib.suppress(OSError):  # whether or not there still is a console
        print(f'error: {text}', file=sys.stderr, flush=True)
        sys.stdout.flush()
    if at_once:
        os._exit(code)
    sys.exit(code)
