"""How a command ends that cannot go on: one clear line instead of a traceback, and an exit code.

0   done
2   the user's input cannot be used, or what was trained could not be saved
3   a loss or gradient is not finite
4   another process of the job died or hangs
75  asked to stop (SIGTERM, SIGUSR1): saved, to be started again (EX_TEMPFAIL)
"""

import errno
import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec('P')
T = TypeVar('T')

# Of a path that a user named, wherever it is looked at: whether it exists cannot even be asked.
UNUSABLE_PATHS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
MAX_NAME_LENGTH = 200


class Ending(Exception):
    """The end of a command for a reason that its message tells in one line. Bugs raise other exceptions."""

    exit_code = 1


class InputError(Ending, ValueError):
    """Bad input from the user: the message names the file, key or value and says what to do."""

    exit_code = 2


class OtherRun(InputError):
    """A checkpoint is whole, but of another network, or trained otherwise: nothing may be written over it."""


class NotFinite(Ending, ArithmeticError):
    """A loss or gradient of some rank is not finite.

    losses: this rank's
    """

    exit_code = 3

    def __init__(self, iteration: int, losses: dict[str, float], message: str = '') -> None:
        super().__init__(message or f'iteration {iteration}: a loss or gradient is not finite')
        self.iteration, self.losses = iteration, losses


class PeerLost(Ending, RuntimeError):
    """Another process of the job died or hangs."""

    exit_code = 4


class Preempted(Ending):
    """The run was asked to stop, and saved."""

    exit_code = 75

    def __init__(self, iteration: int, remedy: str = 'start it again to go on') -> None:
        super().__init__(f'stopped after iteration {iteration} as asked; {remedy}')
        self.iteration = iteration


def _printable(text: str) -> str:
    """The text with what would steer a terminal, as names in files may, written out."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def exits_cleanly(main: Callable[P, T]) -> Callable[P, T]:
    """Decorates a command's entry point: an Ending becomes one line on stderr and its exit code.

    So does a path that the system does not let it look at.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return main(*args, **kwargs)
        except Ending as error:
            # From a loader's worker it comes wrapped in that process's traceback, the message last.
            message = str(error).rstrip().rpartition('\n')[2]
            _end(message.partition('InputError: ')[2] or message, error.exit_code)
        except OSError as error:
            if error.errno not in UNUSABLE_PATHS or error.filename is None:
                raise
            name = str(error.filename)
            name = name if len(name) <= MAX_NAME_LENGTH else f'{name[:MAX_NAME_LENGTH]}...'
            _end(f'{name} cannot be used ({error.strerror}): name another path', InputError.exit_code)

    return run


def _end(message: str, code: int) -> NoReturn:
    print(f'error: {_printable(message)}', file=sys.stderr, flush=True)
    sys.exit(code)
