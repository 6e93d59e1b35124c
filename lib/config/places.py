"""Where the repository, the data and the outputs lie, and which revision of the code this is."""

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from easydict import EasyDict

from cvpack.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]


def home() -> Path:
    """The folder that holds `dataset/` and `model_logs/`: $MSPN_HOME if set, else the repository."""
    return Path(os.environ.get('MSPN_HOME') or REPOSITORY).expanduser().resolve()


@functools.cache
def git_revision() -> str:
    """The repository's commit, with '-dirty' when files differ from it; 'unknown' outside a git checkout.

    Asked once: a run is of the code that it began with, whatever is committed while it goes on.
    """
    command = ['git', '-C', str(REPOSITORY), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


@contextlib.contextmanager
def writing(cfg: EasyDict) -> Iterator[None]:
    """Its body writes into the output folder. Raises InputError where that cannot be done."""
    try:
        yield
    except OSError as error:
        path = error.filename or cfg.OUTPUT_DIR
        reason = error.strerror or error
        raise InputError(f'cannot write {path} ({reason}): make room, or choose a folder with OUTPUT_DIR') from None
