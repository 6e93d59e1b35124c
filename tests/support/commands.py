"""Experiments and command lines, run in this process or as a user runs them, and the line that one is refused with."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cvpack import checkpoint
from cvpack.trainer import TrainStep
from lib.config import REPOSITORY
from lib.models.mspn import build_mspn
from tests.support.settings import load_config


def call(monkeypatch: pytest.MonkeyPatch, entry: Callable, *arguments: str, name: str = 'mspn.2xstg.coco') -> None:
    """The engine's `train` or `test` of an experiment in this process, with a command line."""
    monkeypatch.setattr(sys, 'argv', ['script.py', *arguments])
    entry(load_config(name), build_mspn)


def stop_and_fail(patch: pytest.MonkeyPatch, *at: int, number: signal.Signals | None = signal.SIGTERM) -> None:
    """Has these iterations' checkpoints find no room, and the first of them a signal, where one is given."""
    step, write = TrainStep.__call__, checkpoint.write

    def struck(self, iteration, *batches):
        if number is not None and iteration == at[0]:
            os.kill(os.getpid(), number)
        return step(self, iteration, *batches)

    def full(path, state):
        if state['iteration'] in at:
            raise OSError(28, 'No space left on device')
        write(path, state)

    patch.setattr(TrainStep, '__call__', struck)
    patch.setattr(checkpoint, 'write', full)


def world(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment by which a launcher tells one of `count` processes on this machine of the others."""
    place = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': count, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    return {name: str(value) for name, value in place.items()}


def run_script(
    script: str, *arguments: str, experiment: str | Path, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess:
    """Runs an experiment's script in its folder, as a user would; returns the finished process.

    experiment: the name of one in exps, or a folder
    """
    return subprocess.run(
        [sys.executable, *launcher, script, *arguments],
        cwd=REPOSITORY / 'exps' / experiment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def refused(capsys: pytest.CaptureFixture, entry: Callable, *arguments, code: int = 2) -> str:
    """The one line on stderr with which a command line ends, and without a traceback."""
    with pytest.raises(SystemExit) as stop:
        entry([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == code
    assert error.startswith('error: ') and error.count('\n') == 1 and len(error) < 1000, error
    return error


def experiment(entry: Callable, monkeypatch: pytest.MonkeyPatch, name: str = 'mspn.2xstg.coco') -> Callable:
    """The engine's `train` or `test` as a function of a command line, in this process."""

    return lambda arguments: call(monkeypatch, entry, *arguments, name=name)


def names_all(error: str, *pieces: object) -> None:
    """Asserts that the line holds every piece: file, field, value, remedy."""
    for piece in pieces:
        assert str(piece) in error, f'{piece} is not in: {error}'
