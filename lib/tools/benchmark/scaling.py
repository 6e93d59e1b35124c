"""Section scaling: processes on this machine's CPU, measured; many GPUs, computed from a model."""

import os
import time
from collections.abc import Iterator

import torch
import torch.multiprocessing

from cvpack import dist
from cvpack.device import make_ready
from lib.models.mspn import count_cost
from lib.tools.benchmark.measure import Options, Row, compare, take_turns
from lib.tools.benchmark.step import BF16, Steps

PROCESSES = (1, 2, 4)
# Of each process: a network and images small enough for a CPU, on one thread.
SETTINGS = ('MODEL.STAGE_NUM=1', 'INPUT_SHAPE=[128,96]')
BATCH = 4

GPUS = (8, 64, 512)
GIGABYTES_PER_SECOND = (25, 400)
BYTES_PER_PARAMETER = 4
# Of a step's time, which gradients can travel in: the backward pass costs twice the forward pass.
BACKWARD_SHARE = 2 / 3


def scaling(options: Options) -> Iterator[Row]:
    """Efficiency of 1, 2 and 4 CPU processes; what 8, 64 and 512 GPUs would give."""
    speeds = {count: _images_per_second(options, count) for count in PROCESSES}
    for count, speed in speeds.items():
        ideal = min(count, os.cpu_count()) * speeds[1]
        yield compare('scaling', f'{count} CPU processes (gloo) against the cores they have, images/s', speed, ideal)
    yield from _computed(options)


def _images_per_second(options: Options, count: int) -> float:
    """Images a second that `count` processes train on together."""
    seconds = torch.multiprocessing.get_context('spawn').SimpleQueue()
    torch.multiprocessing.spawn(_train, (count, dist.free_port(), options, seconds), nprocs=count)
    return count * BATCH / seconds.get()


def _train(rank: int, count: int, port: int, options: Options, seconds: torch.multiprocessing.SimpleQueue) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    on_cpu = options.on(dist.setup('cpu'), batch=BATCH)
    make_ready(on_cpu.device)
    steps = Steps(on_cpu, SETTINGS)
    steps()
    dist.barrier()
    start = time.perf_counter()
    for _ in range(options.repeats):
        steps()
    dist.barrier()
    if dist.is_main():
        seconds.put((time.perf_counter() - start) / options.repeats)
    dist.cleanup()


def _computed(options: Options) -> Iterator[Row]:
    """Rows of the model: from a step measured here and the bytes of the gradients."""
    (step,) = take_turns(options.repeats, Steps(options, BF16), device=options.device)
    parameters, *_ = count_cost(options.config())
    what = f'{options.stages} stages, batch {options.batch}, bf16'
    yield Row('scaling', f'{what}: a step here, ms', 1000 * step)
    for gpus in GPUS:
        for gigabytes in GIGABYTES_PER_SECOND:
            for overlap in (False, True):
                value = efficiency(step, BYTES_PER_PARAMETER * parameters, gpus, 1e9 * gigabytes, overlap)
                how = 'with' if overlap else 'without'
                yield Row('scaling', f'computed: {gpus} GPUs at {gigabytes} GB/s {how} overlap, efficiency', value)


def efficiency(step: float, gradient_bytes: float, gpus: int, bytes_per_second: float, overlap: bool) -> float:
    """The share of its own speed that a GPU keeps among `gpus`: a computation, not a measurement.

    A ring all-reduce carries 2 (n - 1) / n of the gradients over each GPU's link. With overlap that is hidden as
    far as the backward pass lasts. Latencies, stragglers and data loading are left out.

    step: seconds of a step alone; bytes_per_second: of a GPU's link
    """
    exchange = 2 * (gpus - 1) / gpus * gradient_bytes / bytes_per_second
    shown = max(0.0, exchange - BACKWARD_SHARE * step) if overlap else exchange
    return step / (step + shown)
