"""The benchmark's sections gpu and launches: each piece at a tiny size on the CPU, and how one fails."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from lib.tools.benchmark import gpu
from lib.tools.benchmark.gpu import Piece, Worker
from lib.tools.benchmark.gpu_pieces import (
    EAGER,
    PLAIN,
    Failed,
    StepKind,
    cost_of_a_sample,
    floors,
    gpu_tests,
    many_tested,
    steps_of,
    training,
)
from lib.tools.benchmark.measure import Options, Row, finish
from lib.tools.benchmark.network import COUNTERS, launches_of_a_step

CPU = torch.device('cpu')
TINY = 'INPUT_SHAPE=[64,64]', 'MODEL.BACKBONE=Res-18', 'MODEL.WIDTH=16', 'MODEL.UPSAMPLE_CHANNEL_NUM=16'
LINE = 'iter 20/40 | lr 1e-3 | total_loss 1.0 | {} img/s | data {}% | mem 2.5 GB | left 0:00'


def options(tmp_path, **changes) -> Options:
    tiny = Options(tmp_path, tmp_path, CPU, stages=1, batch=2, repeats=1, settings=TINY)
    return Options(**{**vars(tiny), **changes})


def is_running(pid: str, seconds: float) -> bool:
    """Whether a process is there, and not dying, all that time."""
    status, end = Path(f'/proc/{pid}/stat'), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if status.read_text().split()[2] in 'ZX':
                return False
        except (FileNotFoundError, ProcessLookupError):
            return False
        time.sleep(0.02)
    return True


def test_launches_of_a_step(tmp_path):
    counted = launches_of_a_step(options(tmp_path), 'fp32')
    assert counted.launching['loss'] == 21
    assert counted.launching['targets'] == 26
    assert counted.launching[COUNTERS] > 0
    assert counted.all > counted.launching.total()


def test_cost_of_a_sample(tmp_path):
    """The floors of 2 stages at 256x192 that docs/performance.md names."""
    flops, outputs = cost_of_a_sample(options(tmp_path, stages=2, batch=1, settings=()))
    assert flops == pytest.approx(67.6e9, rel=0.001)
    assert outputs == pytest.approx(30.5e6, rel=0.001)


def test_every_piece(monkeypatch, synthetic_coco, tmp_path):
    for name, value in {'WARM_UP': 2, 'STRETCH_STEPS': (1, 1), 'WORKERS': 0}.items():
        monkeypatch.setattr(f'lib.tools.benchmark.gpu_pieces.{name}', value)
    own, known, rows = options(tmp_path, root=synthetic_coco), {}, []
    plain, eager = (StepKind(1, 'fp32', 2, how) for how in (PLAIN, EAGER))
    pieces = [
        partial(floors, elements=1000, side=64),
        partial(steps_of, kind=plain),
        partial(steps_of, kind=eager),
        partial(many_tested, precision='fp32', batch=8, counts=(8, 16)),
    ]
    for piece in pieces:
        for row in piece(own, known):
            rows.append(row)
            known[row.name] = row.value
    assert all(value is not None for value in known.values())
    by_name = {row.name: row for row in rows}
    against = by_name[f'{eager}, against the plain fp32 step, images/s']
    assert against.ratio == pytest.approx(known[eager.speed] / known[plain.speed])
    compute = by_name[f'{eager}, against the compute floor, ms; ratio: the floor to the step']
    assert compute.ratio == pytest.approx(compute.against / compute.value)


def good(*_):
    yield Row('gpu', 'process', os.getpid())


def bad(*_, how: str):
    yield Row('gpu', 'before', 1)
    if how == 'ends':
        os._exit(9)
    if how == 'hangs':
        time.sleep(60)
    raise ValueError(how)


def test_a_piece_that_fails_is_a_row(monkeypatch, tmp_path):
    """So is one whose process ends, and one that does not fit into the time; the others go on."""
    pieces = [Piece('good', 1, good), Piece('good', 1, good), Piece('fails', 1, partial(bad, how='fails'))]
    pieces += [Piece('good', 1, good), Piece('ends', 1, partial(bad, how='ends')), Piece('long', 999, good)]
    monkeypatch.setattr(gpu, 'plan', lambda _: [*pieces, Piece('good', 1, good)])
    first, second, _, failed, third, ended, long, last = gpu.gpu(options(tmp_path, minutes=5.0))
    assert failed.name == 'fails: failed: ValueError: fails'
    assert ended.name.startswith('ends: failed: ')
    assert long.name.startswith('long: skipped, takes about 999 s')
    assert all(row.value is None for row in (failed, ended, long))
    assert first.value == second.value  # a process is kept until a piece fails
    assert len({first.value, third.value, last.value}) == 3


def test_a_piece_that_hangs_is_ended(tmp_path):
    worker = Worker(CPU, tmp_path)
    assert len(list(worker.rows(good, limit=60))) == 1
    pid = worker.pid
    with pytest.raises(Failed, match='took longer than 1 s'):
        list(worker.rows(partial(bad, how='hangs'), limit=1))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='the system does not tell of processes')
def test_a_command_is_ended_with_what_it_started(tmp_path):
    text, code = finish(['sh', '-c', 'sleep 60 & echo $!; wait'], tmp_path, limit=0.5)
    assert code is None
    assert not is_running(text.strip(), seconds=5)


ENDED = """
import sys
from pathlib import Path
import torch
from lib.tools.benchmark import gpu
from lib.tools.benchmark.measure import Options, finish

folder = Path(sys.argv[1])
piece = gpu.Piece('long', 1, lambda *_: finish(['sh', '-c', 'echo $$ > pid; sleep 60'], folder, 60), command=True)
gpu.plan = lambda _: [piece]
list(gpu.gpu(Options(folder, folder, torch.device('cpu'), 1, 1, 1)))
"""


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='the system does not tell of processes')
def test_whoever_ends_the_benchmark_ends_what_it_started(tmp_path):
    process = subprocess.Popen([sys.executable, '-c', ENDED, str(tmp_path)])
    pid = tmp_path / 'pid'
    end = time.monotonic() + 60
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert not is_running(pid.read_text().strip(), seconds=5)


def test_tests_that_fail_are_told(monkeypatch, tmp_path, capsys):
    """Also when time is up before the last one."""
    (tmp_path / 'test_it.py').write_text(
        'import time\n\n\ndef test_bad():\n    assert 1 == 2\n\n\ndef test_long():\n    time.sleep(60)\n'
    )
    monkeypatch.setattr('lib.tools.benchmark.gpu_pieces.TESTS', (str(tmp_path / 'test_it.py'),))
    (row,) = gpu_tests(options(tmp_path), {}, 15)
    assert row.value is None and 'out of time after 15 s, 1 failed by then' in row.name
    assert 'assert 1 == 2' in capsys.readouterr().err.partition('test_bad')[2]


def test_what_training_logs(monkeypatch, synthetic_coco, tmp_path):
    """The lines after the first three, also of a run that fails then."""
    log = '\n'.join([*(LINE.format(100.0 * i, i) for i in range(6)), 'error: no room'])
    monkeypatch.setattr('lib.tools.benchmark.gpu_pieces.finish', lambda *_: (log, 2))
    measured = training(options(tmp_path, root=synthetic_coco), {}, 10, batch=2)
    assert [next(measured).value for _ in range(3)] == [400, 0.04, 2.5]
    with pytest.raises(Failed, match='exit code 2: error: no room'):
        next(measured)
