"""Where the repository, the data and the outputs lie, and which revision of the code this is."""

import functools
import os
import subprocess
from pathlib import Path

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
