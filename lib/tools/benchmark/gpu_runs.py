"""Of the section gpu: whole runs. The GPU tests, training from JPEGs by train.py, a test of a detector's boxes."""

import contextlib
import dataclasses
import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.config import REPOSITORY
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.records import Records
from lib.inference import build_estimator, predict
from lib.models.mspn import build_mspn
from lib.tools.benchmark.gpu_steps import Known
from lib.tools.benchmark.measure import Options, Row

TESTS = 'tests/test_gpu.py'
EXPERIMENT = 'mspn.2xstg.coco'
WORKERS = 14
# Of 8 GPUs' 40: one GPU trains 320, with a line every 20. The first lines are of getting ready.
ITERATIONS, LINES_LEFT_OUT = 40, 3
TRAINED = 'training from JPEGs, bf16, graph without biases, batch'
DATA_REACH = '<= 0.05'

VAL_BOXES = 104_125  # that the published code's detector found in COCO's val2017
BOXES_AN_IMAGE = 20
BOXES = 1024, 6144
TESTED = f"COCO val's {VAL_BOXES:,} boxes with flip, graph,"
TEST_REACH = '<= 90'


class Failed(Exception):
    """Why a piece gave no figures, in a line."""


def finish(command: list[str], folder: Path, environment: dict[str, str], limit: float) -> tuple[str, int | None]:
    """Runs a command to its end, or for `limit` seconds: it and what it started are ended. Its output and exit code.

    The code is None if it was ended.
    """
    pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, start_new_session=True, **pipe)
    try:
        return process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        return _end(process), None
    finally:
        if process.returncode is None:
            _end(process)


def _end(process: subprocess.Popen) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def gpu_tests(options: Options, known: Known, limit: float, file: str = TESTS) -> Iterator[Row]:
    """How many of the GPU tests pass and which fail; of those that time leaves."""
    if importlib.util.find_spec('pytest') is None:
        raise Failed("pytest is not installed (pip install -e '.[dev]')")
    if not (REPOSITORY / file).is_file():
        raise Failed(f'{REPOSITORY} has no {file}')
    command = [sys.executable, '-m', 'pytest', '-v', '--tb=short', '-p', 'no:cacheprovider', '-rfE', file]
    text, code = finish(command, REPOSITORY, environment(), limit)
    passed = len(re.findall(r'^tests/\S+::.* PASSED', text, re.MULTILINE))
    failed = dict.fromkeys(re.findall(r'^(?:FAILED|ERROR) (tests/\S+::.*?)(?: - .*)?$', text, re.MULTILINE))
    failed = failed or dict.fromkeys(re.findall(r'^(tests/\S+::.*) (?:FAILED|ERROR)', text, re.MULTILINE))
    if code is None or failed or code not in (0, 1):
        print('\n'.join(text.splitlines()[-60:]), file=sys.stderr, flush=True)
    yield Row('gpu', f'GPU tests passed{"; out of time before the rest" if code is None else ""}', passed)
    yield Row('gpu', f'GPU tests failed: {"; ".join(failed) or "none"}', len(failed), reach='<= 0')
    if code not in (0, 1, None):
        raise Failed(f'pytest ended with exit code {code}: {_last_line(text)}')


def environment() -> dict[str, str]:
    """Of a command: it finds the project from anywhere."""
    paths = [str(REPOSITORY), os.environ.get('PYTHONPATH', '')]
    return {'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'PYTHONUNBUFFERED': '1'}


def _last_line(text: str) -> str:
    return text.strip().rpartition('\n')[2][:300]


def training(options: Options, known: Known, limit: float, batch: int) -> Iterator[Row]:
    """The experiment's train.py on the data set: what its log says of speed and of waiting for data."""
    options.needs_data()
    settings = (
        f'DATASET.ROOT={options.root}',
        f'OUTPUT_DIR={options.scratch / f"training-{batch}"}',
        'MODEL.WEIGHT=',
        f'SOLVER.IMS_PER_GPU={batch}',
        f'SOLVER.MAX_ITER={ITERATIONS}',
        f'SOLVER.CHECKPOINT_PERIOD={ITERATIONS}',
        'SOLVER.PRECISION=bf16',
        'SOLVER.CUDA_GRAPH=True',
        'SOLVER.DROP_BIAS=True',
        f'DATALOADER.NUM_WORKERS={WORKERS}',
        *options.settings,
    )
    command = [sys.executable, 'train.py', '--set', *settings]
    text, code = finish(command, REPOSITORY / 'exps' / EXPERIMENT, environment(), limit)
    lines = re.findall(r'\| ([\d.]+) img/s \| data (\d+)% \| mem ([\d.]+)', text)[LINES_LEFT_OUT:]
    if lines:
        speeds, shares, memory = (list(map(float, column)) for column in zip(*lines))
        yield Row('gpu', f'{TRAINED} {batch}, images/s', statistics.median(speeds))
        name = f'{TRAINED} {batch}, share of waiting for data with {WORKERS} workers'
        yield Row('gpu', name, statistics.mean(shares) / 100, reach=DATA_REACH)
        yield Row('gpu', f'{TRAINED} {batch}, memory, GB', max(memory))
    if code:
        raise Failed(f'train.py ended with exit code {code}: {_last_line(text)}')
    if code is None:
        raise Failed(f'train.py took longer than {limit:.0f} s: {_last_line(text)}')


def test_run(
    options: Options, known: Known, precision: str, batch: int, counts: tuple[int, int] = BOXES
) -> Iterator[Row]:
    """The test of many boxes from their JPEGs on; COCO val's from what more boxes cost."""
    options.needs_data()
    cfg = options.config(
        f'TEST.PRECISION={precision}',
        f'TEST.IMS_PER_GPU={batch}',
        'TEST.CUDA_GRAPH=True',
        f'DATALOADER.NUM_WORKERS={WORKERS}',
    )
    dataset = COCO.at(options.root)
    file = dataset.boxes('val')
    people = CocoReader(dataset).test_set('val', gt_boxes=file is None or not file.is_file()).records
    estimator = build_estimator(cfg, build_mspn(cfg), options.device)
    few, many = (detected(people, count) for count in counts)
    seconds = []
    for records in (few, few, many):  # the first gets ready
        start = time.perf_counter()
        predict(cfg, [estimator], records, options.device)
        seconds.append(time.perf_counter() - start)
    _, less, more = seconds
    box = (more - less) / (len(many) - len(few))
    what = f'{precision}, batch {batch}'
    yield Row('gpu', f'{TESTED} {what}, s', less + box * (VAL_BOXES - len(few)), reach=TEST_REACH)
    yield Row('gpu', f'test with flip, graph, {what}, of {len(many)} boxes, boxes/s', len(many) / more)


test_run.__test__ = False  # not a test case, whatever pytest makes of the name


def detected(people: Records, count: int) -> Records:
    """So many boxes as a detector leaves them: many near every person, one image after the other."""
    rng = np.random.default_rng(0)
    indices = np.arange(count) // BOXES_AN_IMAGE % len(people)
    chosen = {name: getattr(people, name)[indices] for name in ('paths', 'ids', 'scores')}
    scale = people.scale[indices]
    center = people.center[indices] + 20 * scale * rng.normal(0, 1, scale.shape)  # a tenth of the box's size
    boxes = {'center': np.float32(center), 'scale': np.float32(scale * rng.uniform(0.7, 1.3, scale.shape))}
    return dataclasses.replace(people, **chosen, **boxes, joints=None, visibility=None)
