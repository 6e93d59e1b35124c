"""What the user gave cannot be used: one clear line instead of a traceback."""

import functools
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input from the user: a file, a key or a value.

    The message is one line that names the thing and says what to do. Bugs of our own raise other exceptions
    and keep their traceback.
    """


def exits_cleanly(main: Callable) -> Callable:
    """Decorates a command's entry point: an InputError becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            # From a loader's worker it comes wrapped in that process's traceback, the message last.
            message = str(error).rstrip().rpartition('\n')[2]
            print(f'error: {message.partition("InputError: ")[2] or message}', file=sys.stderr, flush=True)
            sys.exit(2)

    return wrapper
