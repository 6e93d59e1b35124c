"""Lines of the log, and TensorBoard."""

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from cvpack.logger import DataTimer, TrainLog
from lib.config import REPOSITORY


def test_train_log(tmp_path, caplog):
    """A line every 20 iterations and at the end, with everything in it."""
    logger = logging.getLogger('test_train_log')
    timer = DataTimer(range(45))
    log = TrainLog(logger, tmp_path, 0, 45, lambda iteration: 32 * iteration, timer, torch.device('cpu'))
    with caplog.at_level(logging.INFO):
        for iteration, _ in enumerate(timer, start=1):
            log(iteration, 1e-3, {'total_loss': torch.tensor(2.5)})
    log.close()
    lines = [record.message for record in caplog.records]
    assert [line.split(' | ')[0] for line in lines] == ['iter 20/45', 'iter 40/45', 'iter 45/45']
    assert 'lr 1.000e-03 | total_loss 2.5000 | ' in lines[0]
    assert 'left 0:00:00' in lines[2]
    assert timer.seconds > 0
    assert len(list(tmp_path.glob('events*'))) == 1


LINES = """
import sys
from pathlib import Path
from cvpack.logger import get_logger
log = get_logger(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(3):
    log.info(f'line {number} ü')
"""


def log_lines(file: Path, stdout, encoding: str = 'utf-8', errors=subprocess.PIPE) -> subprocess.Popen:
    """A process that logs three lines once it is sent one."""
    return subprocess.Popen(
        [sys.executable, '-c', LINES, str(file)],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=errors,
        text=True,
        env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONPATH': str(REPOSITORY)},
    )


@pytest.mark.parametrize('console', ['closed', 'full'])
def test_a_run_outlives_its_console(tmp_path, console):
    file = tmp_path / 'log.txt'
    with open('/dev/full', 'w') as full:
        process = log_lines(file, full if console == 'full' else subprocess.PIPE)
    if console == 'closed':
        process.stdout.close()
    _, errors = process.communicate('go\n')
    assert (process.returncode, errors) == (0, '')
    lines = [line.partition(' ')[2].partition(' ')[2] for line in file.read_text(encoding='utf-8').splitlines()]
    assert len(lines) == 4 and {'line 0 ü', 'line 1 ü', 'line 2 ü'} < {*lines}
    assert any(line.startswith('the console cannot be written to') for line in lines)


def test_a_console_without_a_character_shows_its_code(tmp_path):
    process = log_lines(tmp_path / 'log.txt', subprocess.PIPE, 'ascii')
    output, errors = process.communicate('go\n')
    assert (process.returncode, errors) == (0, '') and output.splitlines()[2].endswith(r'line 2 \xfc')


def test_a_log_file_that_cannot_be_written_is_told_once():
    process = log_lines(Path('/dev/full'), subprocess.PIPE)
    output, errors = process.communicate('go\n')
    assert process.returncode == 0 and len(output.splitlines()) == 3
    assert errors.startswith('/dev/full cannot be written ([Errno 28]') and errors.count('\n') == 1


def test_everything_on_a_full_disk():
    with open('/dev/full', 'w') as full:
        process = log_lines(Path('/dev/full'), full, errors=full)
    process.communicate('go\n')
    assert process.returncode == 0


@pytest.mark.parametrize('told_at', ['the next line', 'the end'])
def test_tensorboard_on_a_full_disk_is_a_line(tmp_path, monkeypatch, caplog, told_at):
    """Its thread ends by an exception, which is no traceback."""

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    tracebacks = []
    monkeypatch.setattr(threading, 'excepthook', tracebacks.append)
    log = TrainLog(
        logging.getLogger('full'), tmp_path, 0, 45, lambda iteration: 32 * iteration, DataTimer(()), torch.device('cpu')
    )
    hook = threading.excepthook
    monkeypatch.setattr(RecordWriter, 'write', full)
    log.add(1, {'total_loss': 2.5})
    log.writer.file_writer.event_writer._async_writer._worker.join(10)
    if told_at == 'the next line':
        log.add(2, {'total_loss': 2.5})
    log.close()
    assert not tracebacks and threading.excepthook != hook
    assert [record.message for record in caplog.records] == [
        'TensorBoard cannot write (No space left on device): continuing without it'
    ]
    bug = threading.Thread(target=full)
    bug.start()
    bug.join()
    assert len(tracebacks) == 1


def test_a_pause_is_not_in_the_speed(tmp_path):
    log = TrainLog(
        logging.getLogger('quiet'),
        tmp_path,
        0,
        1,
        lambda iteration: iteration,
        type('Timer', (), {'seconds': 0.0}),
        'cpu',
    )
    before = log.mark[1]
    with log.paused():
        time.sleep(0.05)
    assert log.mark[1] - before >= 0.05
    log.close()
