"""What the section gpu measures: the card's floors, kinds of training steps, training and testing from JPEGs, tests."""

import dataclasses
import functools
import importlib.util
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from cvpack.device import configure_device, peak_memory_gb
from lib.config import REPOSITORY
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.records import select
from lib.models.cost import count_cost
from lib.models.mspn import build_mspn
from lib.tools.benchmark import failures
from lib.tools.benchmark.measure import Options, Row, compare, finish, take_turns
from lib.tools.benchmark.network import FASTEST, FASTEST_SETTINGS, GPU_REACH, Steps, tester
from lib.tools.benchmark.parts import BOXES, many_boxes

Known = dict[str, float | None]  # values of the rows so far, by name

COPY = 'copy on the card, bytes read and written, GB/s'
# What multiplies matrices in fp32 here is TF32, as in PyTorch's convolutions by default.
PRODUCT = {'bf16': 'matrix product, bf16, TFLOP/s', 'fp32': 'matrix product, TF32, TFLOP/s'}
ELEMENTS, SIDE, TIMES = 2**28, 8192, 20

# How a step is run.
PLAIN, EAGER, GRAPH, LEAN = 'plain', 'eager', 'graph', 'graph without biases'
EXACT = f'{FASTEST}, deterministic'
SETTINGS = {
    PLAIN: ('SOLVER.CHANNELS_LAST=False',),
    EAGER: (),
    GRAPH: ('SOLVER.CUDA_GRAPH=True',),
    LEAN: ('SOLVER.CUDA_GRAPH=True', 'SOLVER.DROP_BIAS=True'),
    FASTEST: FASTEST_SETTINGS,
    EXACT: FASTEST_SETTINGS,
}
# Images/s to reach with 2 stages in bf16, by batch.
REACH = {32: '>= 1000', 128: '>= 2000'}
READY_REACH = '<= 60'

# Forward, gradient of the input and gradient of the weights, of a multiplication and an addition each.
FLOPS_PER_MAC = 3 * 2
# Over the convolutions' outputs, by convolution, BatchNorm and ReLU in both directions, none of them fused.
PASSES = 14
BYTES = {'bf16': 2, 'fp32': 4}

DIFFERENT_BATCHES = 4
WARM_UP = 8  # steps until a graph is captured and replayed
STRETCHES, STRETCH_SECONDS, STRETCH_STEPS = 3, 1.0, (5, 30)
FULL_SPEED = 1.5  # times the median step: the first step below that ends getting ready

TESTS = 'tests/test_gpu.py', 'tests/cvpack/test_kernels.py', 'tests/models/test_kernels.py'
TEST_PROCESSES, MAX_CHARACTERS = 8, 20_000
EXPERIMENT = 'mspn.2xstg.coco'
WORKERS = 14
# Of 8 GPUs' 40: one GPU trains 320, with a line every 20. The first lines are of getting ready.
ITERATIONS, LINES_LEFT_OUT = 40, 3
VAL_BOXES = 104_125  # that the published code's detector found in COCO's val2017
TESTED_BOXES = 1024, 6144


class Failed(Exception):
    """Why a piece could not be measured, in one line."""


@dataclass(frozen=True)
class StepKind:
    """A kind of training step. precision: 'fp32' or 'bf16'; how: PLAIN, EAGER, ..."""

    stages: int
    precision: str
    batch: int
    how: str

    def __str__(self) -> str:
        return f'{self.stages} stage{"s" * (self.stages > 1)}, {self.precision}, batch {self.batch}, {self.how}'

    @property
    def speed(self) -> str:
        """The name of its main row."""
        return f'{self}, images/s'


def floors(options: Options, known: Known, elements: int = ELEMENTS, side: int = SIDE) -> Iterator[Row]:
    """What the card reaches on large random data: moving bytes, multiplying matrices."""
    device = options.device
    source = torch.randn(elements, device=device)
    target = torch.empty_like(source)
    (seconds,) = take_turns(TIMES, lambda: target.copy_(source), device=device)
    yield Row('gpu', COPY, 2 * source.nbytes / seconds / 1e9)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        for precision, dtype in (('bf16', torch.bfloat16), ('fp32', torch.float32)):
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            (seconds,) = take_turns(TIMES, functools.partial(torch.mm, a, b), device=device)
            yield Row('gpu', PRODUCT[precision], 2 * side**3 / seconds / 1e12)
    finally:
        torch.set_float32_matmul_precision(before)


@functools.lru_cache(maxsize=8)
def cost_of_a_sample(options: Options) -> tuple[int, int]:
    """Floating-point operations of a training step, and numbers that the convolutions give in a forward pass.

    options: of batch 1
    """
    cfg = options.config()
    _, macs, _ = count_cost(cfg)
    images, outputs = 2, []  # of one image alone a level of 1x1 would leave BatchNorm without statistics
    with torch.device('meta'), torch.no_grad():
        model = build_mspn(cfg).train()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _, __, output: outputs.append(output.numel()))
        model(torch.empty(images, 3, *cfg.INPUT_SHAPE))
    return FLOPS_PER_MAC * macs, sum(outputs) // images


def steps_of(options: Options, known: Known, kind: StepKind) -> Iterator[Row]:
    """Speed, memory and time to get ready of a kind of step; against the plain one and the floors that are known."""
    device = options.device
    if kind.how == EXACT:
        configure_device(device, deterministic=True)
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    own = dataclasses.replace(options, stages=kind.stages, batch=kind.batch)
    ends = [time.perf_counter()]
    steps = Steps(own, (f'SOLVER.PRECISION={kind.precision}', *SETTINGS[kind.how]), DIFFERENT_BATCHES)
    for _ in range(WARM_UP):
        steps()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        ends.append(time.perf_counter())
    least, most = STRETCH_STEPS
    count = max(least, min(most, round(STRETCH_SECONDS / (ends[-1] - ends[-2]))))

    def stretch() -> None:
        for _ in range(count):
            steps()

    seconds = take_turns(STRETCHES, stretch, device=device)[0] / count
    ready = next((b for a, b in pairwise(ends) if b - a <= FULL_SPEED * seconds), ends[-1]) - ends[0]
    has_aim = (kind.stages, kind.precision) == (2, 'bf16') and kind.how == FASTEST
    speed = kind.batch / seconds
    yield Row('gpu', kind.speed, speed, reach=REACH.get(kind.batch, '') if has_aim else '')
    if plain := known.get(dataclasses.replace(kind, precision='fp32', how=PLAIN).speed):
        reach = GPU_REACH if has_aim and kind.batch == 32 else ''
        yield compare('gpu', f'{kind}, against the plain fp32 step, images/s', speed, plain, reach)
    flops, outputs = cost_of_a_sample(dataclasses.replace(own, batch=1))
    work = {'compute': (flops / 1e12, PRODUCT[kind.precision])}
    work['memory'] = outputs * PASSES * BYTES[kind.precision] / 1e9, COPY
    for name, (amount, limit) in work.items():
        if rate := known.get(limit):
            floor = kind.batch * amount / rate
            name = f'{kind}, against the {name} floor, ms; ratio: the floor to the step'
            yield Row('gpu', name, 1000 * seconds, 1000 * floor, floor / seconds)
    yield Row('gpu', f'{kind}, peak memory, GB', peak_memory_gb(device))
    yield Row('gpu', f'{kind}, ready after, s', ready, reach=READY_REACH if kind.how == FASTEST else '')


def many_tested(
    options: Options, known: Known, precision: str, batch: int, counts: tuple[int, int] = TESTED_BOXES
) -> Iterator[Row]:
    """The test of many boxes from their JPEGs on; COCO val's from what more boxes cost."""
    options.needs_data()
    settings = f'TEST.PRECISION={precision}', f'TEST.IMS_PER_GPU={batch}', f'DATALOADER.NUM_WORKERS={WORKERS}'
    run, _ = tester(options, *settings, 'TEST.CUDA_GRAPH=True')
    people = CocoReader(COCO.at(options.root)).test_set('val', gt_boxes=True).records
    boxes = many_boxes(people, -(-max(counts) // BOXES), BOXES)
    few, many = (select(boxes, np.resize(np.arange(len(boxes)), count)) for count in counts)
    seconds = take_turns(1, lambda: run(few), lambda: run(many), device=options.device)
    box = (seconds[1] - seconds[0]) / (len(many) - len(few))
    what = f'{precision}, batch {batch}'
    total = seconds[0] + box * (VAL_BOXES - len(few))
    yield Row('gpu', f"COCO val's {VAL_BOXES:,} boxes with flip, graph, {what}, s", total, reach='<= 90')
    yield Row('gpu', f'test with flip, graph, {what}, of {len(many)} boxes, boxes/s', len(many) / seconds[1])


def training(options: Options, known: Known, limit: float, batch: int) -> Iterator[Row]:
    """The experiment's train.py on the data set: what its log says of speed and of waiting for data."""
    options.needs_data()
    settings = [f'DATASET.ROOT={options.root}', f'OUTPUT_DIR={options.scratch / f"training-{batch}"}', 'MODEL.WEIGHT=']
    settings += [f'SOLVER.{name}={ITERATIONS}' for name in ('MAX_ITER', 'CHECKPOINT_PERIOD')]
    settings += [f'SOLVER.IMS_PER_GPU={batch}', 'SOLVER.PRECISION=bf16', *SETTINGS[FASTEST]]
    settings += [f'DATALOADER.NUM_WORKERS={WORKERS}', *options.settings]
    command = [sys.executable, 'train.py', '--set', *settings]
    text, code = finish(command, REPOSITORY / 'exps' / EXPERIMENT, limit)
    lines = re.findall(r'\| ([\d.]+) img/s \| data (\d+)% \| mem ([\d.]+)', text)[LINES_LEFT_OUT:]
    if lines:
        speeds, waiting, memory = (list(map(float, column)) for column in zip(*lines))
        what = f'training from JPEGs, bf16, {FASTEST}, batch {batch}'
        yield Row('gpu', f'{what}, images/s', statistics.median(speeds))
        name = f'{what}, ratio of waiting for data with {WORKERS} workers'
        yield Row('gpu', name, statistics.mean(waiting) / 100, reach='<= 0.05')
        yield Row('gpu', f'{what}, memory, GB', max(memory))
    if code != 0:
        how = f'took longer than {limit:.0f} s' if code is None else f'ended with exit code {code}'
        raise Failed(f'train.py {how}: {_last_line(text)}')


def gpu_tests(options: Options, known: Known, limit: float) -> Iterator[Row]:
    """pytest's exit code and last line; of the tests that time leaves. Those that fail are told on stderr."""
    arguments = ['-q', '--tb=short', '-p', 'no:cacheprovider', '-p', failures.__name__]
    if importlib.util.find_spec('xdist'):
        arguments += ['--numprocesses', str(max(1, min(TEST_PROCESSES, (os.cpu_count() or 1) // 2)))]
    text, code = finish([sys.executable, '-m', 'pytest', *arguments, *TESTS], REPOSITORY, limit)
    if code != 0:
        print(text[-MAX_CHARACTERS:], file=sys.stderr, flush=True)
    failed = text.count(failures.BEGIN)
    late = f'out of time after {limit:.0f} s, {failed} failed by then: ' if code is None else ''
    yield Row('gpu', f'GPU tests, exit code of pytest: {late}{_last_line(text)}', code, reach='<= 0')


def _last_line(text: str) -> str:
    return text.strip().rpartition('\n')[2][:300]
