"""Locations of the repository, the data and the outputs, and the revision of the code."""

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
    """The folder with `dataset/` and `model_logs/`: $MSPN_HOME if set, else the repository."""
    return Path(os.environ.get('MSPN_HOME') or REPOSITORY).expanduser().resolve()


@functools.cache
def git_revision() -> str:
    """The repository's commit, with '-dirty' if files differ from it; 'unknown' outside a git checkout.

    Cached, so that a run keeps the revision it started with.
    """
    command = ['git', '-C', str(REPOSITORY), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


@contextlib.contextmanager
def writing(cfg: EasyDict) -> Iterator[None]:
    """Turns an OSError of its body, which writes into the output folder, into an InputError."""
    try:
        yield
    except OSError as error:
        path = error.filename or cfg.OUTPUT_DIR
        reason = error.strerror or error
        raise InputError(f'cannot write {path} ({reason}): free space, or set another OUTPUT_DIR') from None
