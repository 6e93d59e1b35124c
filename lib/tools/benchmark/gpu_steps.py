"""Of the section gpu: the card's floors, and training steps of every kind against them."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from cvpack.device import peak_memory_gb
from lib.models.mspn import build_mspn, count_cost
from lib.tools.benchmark.measure import Options, Row, compare
from lib.tools.benchmark.step import GPU_REACH, Steps

Known = dict[str, float]  # values of the rows so far, by name

COPY = 'copy on the card, bytes read and written, GB/s'
# What multiplies matrices in fp32 here is TF32, as in PyTorch's convolutions by default.
PRODUCT = {'bf16': 'matrix product, bf16, TFLOP/s', 'fp32': 'matrix product, TF32, TFLOP/s'}
ELEMENTS, SIDE, TIMES = 2**28, 8192, 20

# How a step is run. The last is what SOLVER.COMPILE did before: torch.compile of the network in one piece.
PLAIN, EAGER, GRAPH, LEAN = 'plain', 'eager', 'graph', 'graph without biases'
COMPILED, WHOLE = 'compiled + graph', 'compiled as a whole'
SETTINGS = {
    PLAIN: ('SOLVER.CHANNELS_LAST=False',),
    EAGER: (),
    GRAPH: ('SOLVER.CUDA_GRAPH=True',),
    LEAN: ('SOLVER.CUDA_GRAPH=True', 'SOLVER.DROP_BIAS=True'),
    COMPILED: ('SOLVER.CUDA_GRAPH=True', 'SOLVER.COMPILE=True'),
    WHOLE: (),
}

# Forward, gradient of the input and gradient of the weights, of a multiplication and an addition each.
FLOPS_PER_MAC = 3 * 2
# Over the convolutions' outputs, by convolution, BatchNorm and ReLU in both directions, none of them fused.
PASSES = 14
BYTES = {'bf16': 2, 'fp32': 4}

DIFFERENT_BATCHES = 4
WARM_UP = 8  # steps until a graph is captured and replayed
STRETCHES, STRETCH_SECONDS, STRETCH_STEPS = 3, 1.0, (5, 30)
FULL_SPEED = 1.5  # times the median step: the first step below that ends getting ready
READY = '<= 60'


@dataclass(frozen=True)
class Issue:
    """A kind of training step. precision: 'fp32' or 'bf16'; how: PLAIN, EAGER, ..."""

    stages: int
    precision: str
    batch: int
    how: str

    def __str__(self) -> str:
        return f'{self.stages} stage{"s" * (self.stages > 1)}, {self.precision}, batch {self.batch}, {self.how}'

    @property
    def settings(self) -> tuple[str, ...]:
        """Of the configuration."""
        return f'SOLVER.PRECISION={self.precision}', *SETTINGS[self.how]

    def options(self, options: Options) -> Options:
        """The same options for the kind's network and batch."""
        return dataclasses.replace(options, stages=self.stages, batch=self.batch)

    @property
    def speed(self) -> str:
        """The name of its main row."""
        return f'{self}, images/s'


REACH = {
    Issue(2, 'bf16', batch, how): f'>= {aim}' for batch, aim in ((32, 1000), (128, 2000)) for how in (LEAN, COMPILED)
}
REACH_AGAINST_PLAIN = {Issue(2, 'bf16', 32, how): GPU_REACH for how in (LEAN, COMPILED)}


def wait_for(device: torch.device) -> None:
    """Until the device has done what was launched."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def floors(options: Options, known: Known, elements: int = ELEMENTS, side: int = SIDE) -> Iterator[Row]:
    """What the card reaches on large random data: moving bytes, multiplying matrices."""
    device = options.device
    source = torch.randn(elements, device=device)
    target = torch.empty_like(source)
    seconds = _median_seconds(device, lambda: target.copy_(source))
    yield Row('gpu', COPY, 2 * source.nbytes / seconds / 1e9)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        for precision, dtype in (('bf16', torch.bfloat16), ('fp32', torch.float32)):
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            seconds = _median_seconds(device, functools.partial(torch.mm, a, b))
            yield Row('gpu', PRODUCT[precision], 2 * side**3 / seconds / 1e12)
    finally:
        torch.set_float32_matmul_precision(before)


def _median_seconds(device: torch.device, function: Callable[[], object]) -> float:
    """Of a function on the device; on a GPU by its own clock."""
    for _ in range(3):
        function()
    if device.type != 'cuda':
        times = []
        for _ in range(TIMES):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(TIMES + 1)]
    marks[0].record()
    for mark in marks[1:]:
        function()
        mark.record()
    torch.cuda.synchronize(device)
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks)) / 1000


@functools.lru_cache(maxsize=8)
def cost_of_a_sample(options: Options) -> tuple[int, int]:
    """Floating-point operations of a training step, and numbers that the convolutions give in a forward pass.

    options: of batch 1
    """
    cfg = options.config()
    _, macs, _ = count_cost(cfg)
    images, outputs = 2, 0  # of one image alone a level of 1x1 would leave BatchNorm without statistics

    def count(_: nn.Module, __: tuple, output: torch.Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    with torch.device('meta'), torch.no_grad():
        model = build_mspn(cfg).train()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.empty(images, 3, *cfg.INPUT_SHAPE))
    return FLOPS_PER_MAC * macs, outputs // images


def steps_of(options: Options, known: Known, kind: Issue) -> Iterator[Row]:
    """Speed, memory and time to get ready of a kind of step; against the plain one and the floors that are known."""
    own, device = kind.options(options), options.device
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    steps = Steps(own, kind.settings, DIFFERENT_BATCHES)
    if kind.how == WHOLE:
        steps.trainer.model.compile(mode='reduce-overhead')
    ends = [time.perf_counter() - start]
    for _ in range(WARM_UP):
        steps()
        wait_for(device)
        ends.append(time.perf_counter() - start)
    seconds = seconds_of_a_step(steps, device, about=ends[-1] - ends[-2])
    ready = next((b for a, b in pairwise(ends) if b - a <= FULL_SPEED * seconds), ends[-1])
    speed = kind.batch / seconds
    yield Row('gpu', kind.speed, speed, reach=REACH.get(kind, ''))
    plain = known.get(dataclasses.replace(kind, precision='fp32', how=PLAIN).speed)
    if plain:
        reach = REACH_AGAINST_PLAIN.get(kind, '')
        yield compare('gpu', f'{kind}, against the plain fp32 step, images/s', speed, plain, reach)
    yield Row('gpu', f'{kind}, ms', 1000 * seconds)
    yield from _shares(own, known, kind, seconds)
    yield Row('gpu', f'{kind}, peak memory, GB', peak_memory_gb(device))
    yield Row('gpu', f'{kind}, ready after, s', ready, reach=READY if 'compiled' in kind.how else '')


def seconds_of_a_step(steps: Steps, device: torch.device, about: float) -> float:
    """The median of stretches of steps, waited for at the end of each. about: seconds that a step takes."""
    least, most = STRETCH_STEPS
    count = max(least, min(most, round(STRETCH_SECONDS / max(about, 1e-6))))
    times = []
    for _ in range(STRETCHES):
        start = time.perf_counter()
        for _ in range(count):
            steps()
        wait_for(device)
        times.append((time.perf_counter() - start) / count)
    return statistics.median(times)


def _shares(own: Options, known: Known, kind: Issue, seconds: float) -> Iterator[Row]:
    flops, outputs = cost_of_a_sample(dataclasses.replace(own, batch=1))
    if product := known.get(PRODUCT[kind.precision]):
        floor = kind.batch * flops / (product * 1e12)
        name = f'{kind}, against the compute floor, ms; ratio: share'
        yield Row('gpu', name, 1000 * seconds, 1000 * floor, floor / seconds)
    if copy := known.get(COPY):
        floor = kind.batch * outputs * PASSES * BYTES[kind.precision] / (copy * 1e9)
        name = f'{kind}, against the memory floor, ms; ratio: share'
        yield Row('gpu', name, 1000 * seconds, 1000 * floor, floor / seconds)
