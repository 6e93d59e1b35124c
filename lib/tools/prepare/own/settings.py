"""What an experiment on a data set of one's own sets beside its description, each with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The published COCO run: 8 GPUs, 32 images each, 96,000 iterations, 149,813 people.
PAPER_ITERATIONS, PAPER_GPUS, BATCH, PAPER_PEOPLE = 96_000, 8, 32, 149_813
EPOCHS = PAPER_ITERATIONS * PAPER_GPUS * BATCH / PAPER_PEOPLE
PAPER_SHAPE, PAPER_KERNELS = (256, 192), (15, 11, 9, 7, 5)
MULTIPLE, MIN_SIDE, MAX_SIDE = 32, 64, 512
# On a CPU: a quarter of the pixels, and as many iterations as take about an hour on 2 cores.
CPU_AREA, CPU_ITERATIONS = 128 * 96, 1000
MIN_ITERATIONS = 500
CHECKPOINTS = 40  # in the published run; for short ones
SHORT, SHORT_CHECKPOINTS = 4000, 10
WARMUP = 0.025  # of the iterations, as published


@dataclass(frozen=True)
class Settings:
    """The values, and the reasons of those that depend on the data."""

    input_shape: tuple[int, int]
    kernels: tuple[int, ...]
    topk: int
    max_iter: int
    checkpoint_period: int
    warmup_iters: int
    shape_reason: str
    length_reason: str


def settings_for(people: int, aspect_ratio: float, joints: int, cpu: bool) -> Settings:
    """people: to train on; aspect_ratio: the boxes' median width / height; cpu: there is no GPU"""
    shape = input_shape(aspect_ratio, CPU_AREA if cpu else math.prod(PAPER_SHAPE))
    iterations = max(math.ceil(EPOCHS * people / BATCH), MIN_ITERATIONS)
    length = f'{EPOCHS:.0f} epochs, as in the published COCO run'
    if iterations == MIN_ITERATIONS:
        length = 'the fewest that are worth while'
    if iterations > PAPER_ITERATIONS * PAPER_GPUS:
        iterations, length = PAPER_ITERATIONS * PAPER_GPUS, 'as many images as in the published COCO run'
    if cpu and iterations > CPU_ITERATIONS:
        iterations, length = CPU_ITERATIONS, f'for a CPU; {iterations:,} would be {length}'
    return Settings(
        input_shape=shape,
        kernels=kernels(shape),
        topk=min(8, joints),
        max_iter=iterations,
        checkpoint_period=max(iterations // (SHORT_CHECKPOINTS if iterations < SHORT else CHECKPOINTS), 1),
        warmup_iters=max(round(WARMUP * iterations), 1),
        shape_reason=f'median width / height of the boxes: {aspect_ratio:.2f}',
        length_reason=f'{length}, of {people:,} people in batches of {BATCH}',
    )


def input_shape(aspect_ratio: float, area: int) -> tuple[int, int]:
    """(height, width), multiples of 32, with about this aspect ratio (width / height) and area."""
    sides = np.arange(MIN_SIDE, MAX_SIDE + 1, MULTIPLE)
    height, width = np.meshgrid(sides, sides, indexing='ij')
    cost = np.log(width / height / aspect_ratio) ** 2 + np.log(width * height / area) ** 2
    best = np.unravel_index(cost.argmin(), cost.shape)
    return int(height[best]), int(width[best])


def kernels(shape: Sequence[int]) -> tuple[int, ...]:
    """The published kernels for 256x192, scaled with the input's side to a tenth, and up to the next odd number."""
    factor = round(math.sqrt(math.prod(shape) / math.prod(PAPER_SHAPE)), 1)
    return tuple(max(2 * math.ceil((kernel * factor - 1) / 2) + 1, 3) for kernel in PAPER_KERNELS)
