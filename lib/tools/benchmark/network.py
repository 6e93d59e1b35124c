"""Sections step, launches, test: a training step's speed, memory and operations; the test loop beside its network."""

import dataclasses
import functools
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch.utils._python_dispatch import TorchDispatchMode

from cvpack.device import configure_device, peak_memory_gb, trim_memory
from cvpack.trainer import Outcome
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.records import Records, select
from lib.inference import build_estimator, predict
from lib.loader import test_loader
from lib.models.mspn import build_mspn
from lib.tools.benchmark.measure import Options, Row, compare, take_turns
from lib.training import Trainer, build_schedule
from lib.training.trainer import WARM_UP

PLAIN = ('SOLVER.PRECISION=fp32', 'SOLVER.CHANNELS_LAST=False')
# Steps before a graph is replayed.
UNTIL_REPLAY = WARM_UP + 1
FASTEST = 'graph without biases, own kernels'
FASTEST_SETTINGS = 'SOLVER.CUDA_GRAPH=True', 'SOLVER.DROP_BIAS=True', 'SOLVER.TRITON=True'
# What an optimised step must reach against the plain one on a GPU.
GPU_REACH = '>= 3'
# With fewer images weights and optimiser would hide what the activations take.
MEMORY_BATCH = 16
STEPS_FOR_MEMORY = 2

# Of the test: so many batches that the loop's start and end hardly count.
BATCHES = {'cpu': 8, 'cuda': 128}
TEST_REACH = {'cpu': '<= 0.1', 'cuda': '<= 0.25'}

# The number of operations depends on neither, but for the time that counting takes.
SMALL_BATCH, SMALL_INPUT = 2, 'INPUT_SHAPE=[32,32]'
# Besides views.
WITHOUT_KERNEL = {'empty', 'empty_like', 'empty_strided', 'new_empty', 'promote_types'}
LOW = torch.bfloat16, torch.float16
# Groups by the file of the project, or of PyTorch, that asks for an operation: the engine is called from the last.
GROUPS = {'lib/utils/heatmap.py': 'targets', 'lib/models/loss.py': 'loss', 'torch/optim/': 'optimiser'}
GROUPS |= {'torch/autograd/graph.py': 'backward pass'}
COUNTERS, COPIES, FORWARD = "BatchNorm's counters", "autocast's copies", 'forward pass'


class Steps:
    """A trainer and batches of images in memory, used in turn; calling it takes one step."""

    def __init__(self, options: Options, settings: tuple[str, ...], batches: int = 1) -> None:
        cfg = options.config(*settings)
        torch.manual_seed(0)
        self.trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), options.device)
        self.batches = [_batch(cfg, options.device) for _ in range(batches)]
        self.iteration = 0

    def __call__(self) -> Outcome:
        self.iteration += 1
        return self.trainer.step(self.iteration, self.batches[self.iteration % len(self.batches)])


def _batch(cfg: EasyDict, device: torch.device) -> dict[str, torch.Tensor]:
    """What train_loader gives, of random numbers; pinned where there is a GPU to copy it to."""
    batch, joints = cfg.SOLVER.IMS_PER_GPU, cfg.DATASET.KEYPOINT.NUM
    values = {
        'image': torch.randint(0, 256, (batch, *cfg.INPUT_SHAPE, 3), dtype=torch.uint8),
        'keypoints': torch.rand(batch, joints, 3) * torch.tensor([*cfg.INPUT_SHAPE[::-1], 3]),
    }
    return {name: value.pin_memory() if device.type == 'cuda' else value for name, value in values.items()}


def step(options: Options) -> Iterator[Row]:
    """Speed of each kind of step against a plain one; memory with and without activation checkpointing."""
    best = f'SOLVER.PRECISION={options.fastest}'
    variants = {'fp32, channels-last': (), f'{options.fastest}, channels-last': (best,)}
    warm_up = 1
    if options.device.type == 'cuda':
        variants[f'{options.fastest}, {FASTEST}'] = (best, *FASTEST_SETTINGS)
        warm_up = UNTIL_REPLAY
    runs = [Steps(options, settings) for settings in (PLAIN, *variants.values())]
    seconds = take_turns(options.repeats, *runs, device=options.device, warm_up=warm_up)
    plain, *others = (options.batch / t for t in seconds)
    what = f'{options.stages} stages, batch {options.batch}'
    yield Row('step', f'{what}, fp32, eager, images/s', plain)
    for name, speed in zip(variants, others):
        reach = GPU_REACH if options.device.type == 'cuda' and speed == max(others) else ''
        yield compare('step', f'{what}, {name}, against the first, images/s', speed, plain, reach)
    del runs
    trim_memory()
    many = dataclasses.replace(options, batch=max(options.batch, MEMORY_BATCH))
    efficient, without = (_peak_memory(many, flag) for flag in (True, False))
    what = f'{options.stages} stages, batch {many.batch}, fp32'
    yield compare('step', f'{what}, peak memory with RUN_EFFICIENT against without, GB', efficient, without, '<= 0.6')


def _peak_memory(options: Options, efficient: bool) -> float:
    """GB at the peak of a few steps, in a process of its own: a peak never falls, and exec passes it on."""
    # Not a Pool, which ends its process by SIGTERM: where that is ignored, it would wait forever.
    with ProcessPoolExecutor(1, multiprocessing.get_context('forkserver')) as process:
        return process.submit(_run_and_measure, options, efficient).result()


def _run_and_measure(options: Options, efficient: bool) -> float:
    before = peak_memory_gb(options.device)  # on a CPU: Python and its libraries
    configure_device(options.device, spare_memory=efficient)
    steps = Steps(options, (f'RUN_EFFICIENT={efficient}',))
    for _ in range(STEPS_FOR_MEMORY):
        steps()
    return peak_memory_gb(options.device) - before


class Dispatched(TorchDispatchMode):
    """Counts operations while it is entered: `all`, and by group in `launching` those that launch kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.all = 0
        self.launching: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        self.all += 1
        if func.namespace != 'profiler' and not func.is_view and name not in WITHOUT_KERNEL:
            self.launching[_group(name, args, result)] += 1
        return result


def _group(name: str, args: tuple, result: Any) -> str:
    if name in ('add_', '_foreach_add_'):
        first = args[0] if name == 'add_' else args[0][0]
        if first.dtype == torch.int64:
            return COUNTERS
    if name == '_to_copy' and (args[0].dtype in LOW or result.dtype in LOW):
        return COPIES
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename.replace('\\', '/')
        if group := next((group for part, group in GROUPS.items() if part in file), None):
            return group
        frame = frame.f_back
    return FORWARD


def launches_of_a_step(options: Options, precision: str) -> Dispatched:
    """What an eager step of the trainer dispatches, once what is kept from step to step is there."""
    settings = *options.settings, SMALL_INPUT, f'SOLVER.PRECISION={precision}'
    steps = Steps(dataclasses.replace(options, device=torch.device('cpu'), batch=SMALL_BATCH, settings=settings), ())
    steps()
    with Dispatched() as counted:
        steps()
    return counted


def launches(options: Options) -> Iterator[Row]:
    """All operations of an eager step, those that launch kernels on a GPU, and these by group; counted on the CPU."""
    for precision in ('fp32', 'bf16'):
        counted = launches_of_a_step(options, precision)
        what, total = f'{options.stages} stages, {precision}, an eager step', counted.launching.total()
        yield Row('launches', f'{what}: operations dispatched', counted.all)
        yield Row('launches', f'{what}: of these launch kernels', total)
        for group, number in counted.launching.most_common():
            yield Row('launches', f'{what}: {group}', number, total, number / total)


def tester(options: Options, *settings: str) -> tuple[Callable, Callable]:
    """A network's test: a function that tests records; one that makes, of records, a function that takes their first
    batch through the network alone, as often as there are batches."""
    cfg, device = options.config(*settings), options.device
    estimator = build_estimator(cfg, build_mspn(cfg), device)

    def alone(records: Records) -> Callable[[], None]:
        loader = test_loader(cfg, records)
        crops = next(iter(loader))['image'].to(device)

        @torch.inference_mode()
        def forward() -> None:
            for _ in range(len(loader)):
                estimator.heatmaps(crops)

        return forward

    return lambda records: predict(cfg, [estimator], records, device), alone


def test(options: Options) -> Iterator[Row]:
    """The test loop with flip test, from JPEGs to joints, against the network's forward passes alone."""
    options.needs_data()
    people, count = (
        CocoReader(COCO.at(options.root)).test_set('val', gt_boxes=True).records,
        BATCHES[options.device.type],
    )
    records = select(people, np.resize(np.arange(len(people)), count * options.batch))
    for precision in dict.fromkeys(('fp32', options.fastest)):
        run, alone = tester(options, f'TEST.PRECISION={precision}', f'TEST.IMS_PER_GPU={options.batch}')
        runs = functools.partial(run, records), alone(records)
        loop, forward = take_turns(options.repeats, *runs, device=options.device)
        what = f'{options.stages} stages, {precision}'
        yield Row('test', f'{what}, flip test, images/s', len(records) / loop)
        name = f'{what}, loop against forward alone, s; ratio: share of the rest'
        yield Row('test', name, loop, forward, (loop - forward) / loop, TEST_REACH[options.device.type])


vars(test)['__test__'] = False  # not a test case, whatever pytest makes of the name
