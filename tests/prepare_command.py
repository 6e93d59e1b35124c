"""What the tests of lib.tools.prepare share."""

import json
from pathlib import Path

import pytest

from lib.tools.prepare import __main__ as prepare


def run(capsys: pytest.CaptureFixture, *arguments) -> str:
    """Runs the command line; returns what it prints."""
    prepare.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def fail(capsys: pytest.CaptureFixture, *arguments) -> str:
    """Runs a command line that cannot work; returns the one line with which it ends."""
    with pytest.raises(SystemExit) as stop:
        prepare.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1
    return captured.err


def write_json(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def snapshot(folder: Path) -> dict:
    """Everything in a folder with its kind and times: equal means untouched."""
    stats = {path: path.lstat() for path in folder.rglob('*')}
    return {path: (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
