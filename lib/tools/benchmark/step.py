"""Section step: training steps of several kinds against a plain one, on images in memory; peak memory."""

import multiprocessing
from collections.abc import Iterator

import torch
from easydict import EasyDict

from cvpack.device import configure_device, peak_memory_gb, trim_memory
from cvpack.trainer import Outcome
from lib.models.mspn import build_mspn
from lib.tools.benchmark.measure import Options, Row, compare, take_turns
from lib.training import Trainer, build_schedule

PLAIN = ('SOLVER.PRECISION=fp32', 'SOLVER.CHANNELS_LAST=False')
BF16 = ('SOLVER.PRECISION=bf16', 'SOLVER.CHANNELS_LAST=True')
FP32 = ('SOLVER.PRECISION=fp32', 'SOLVER.CHANNELS_LAST=True')
# What an optimised step must reach against the plain one, where the aim is set.
GPU_REACH = '>= 3'
# With fewer images weights and optimiser would hide what the activations take.
MEMORY_BATCH = 16
STEPS_FOR_MEMORY = 2


def fastest_settings(options: Options) -> tuple[str, tuple[str, ...]]:
    """The name and the settings of the precision that the device is fastest in."""
    return ('bf16', BF16) if options.has_bf16 else ('fp32', FP32)


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
    """Speed of each kind of step, then memory with and without activation checkpointing."""
    precision, fastest = fastest_settings(options)
    variants = {'fp32, channels-last': FP32, f'{precision}, channels-last': fastest}
    if options.compile:
        variants[f'{precision}, channels-last, compiled'] = (*fastest, 'SOLVER.COMPILE=True')
    runs = [Steps(options, settings) for settings in (PLAIN, *variants.values())]
    plain, *others = (options.batch / t for t in take_turns(options.repeats, *runs, device=options.device))
    what = f'{options.stages} stages, batch {options.batch}'
    yield Row('step', f'{what}, fp32, eager, images/s', plain)
    best = max(others)
    for name, speed in zip(variants, others):
        reach = GPU_REACH if options.device.type == 'cuda' and speed == best else ''
        yield compare('step', f'{what}, {name}, against the first, images/s', speed, plain, reach)
    del runs
    trim_memory()
    many = options.on(options.device, max(options.batch, MEMORY_BATCH))
    efficient, without = (_peak_memory(many, flag) for flag in (True, False))
    what = f'{options.stages} stages, batch {many.batch}, fp32'
    yield compare('step', f'{what}, peak memory with RUN_EFFICIENT against without, GB', efficient, without, '<= 0.6')


def _peak_memory(options: Options, efficient: bool) -> float:
    """GB at the peak of a few steps, in a process of its own: a peak never falls, and exec passes it on."""
    with multiprocessing.get_context('forkserver').Pool(1) as pool:
        return pool.apply(_run_and_measure, (options, efficient))


def _run_and_measure(options: Options, efficient: bool) -> float:
    before = peak_memory_gb(options.device)  # on a CPU: Python and its libraries
    configure_device(options.device, spare_memory=efficient)
    steps = Steps(options, (f'RUN_EFFICIENT={efficient}',))
    for _ in range(STEPS_FOR_MEMORY):
        steps()
    return peak_memory_gb(options.device) - before
