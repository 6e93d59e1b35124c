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
WARMUP, PAPER_WARMUP = 0.025, 2400  # of the iterations, and at most


@dataclass(frozen=True)
class Settings:
    """The values, and the reasons of those that depend on the data."""

    input_shape: tuple[int, int]
    shape_reason: str
    kernels: tuple[int, ...]
    topk: int
    max_iter: int
    length_reason: str
    checkpoint_period: int
    warmup_iters: int


def settings_for(people: int, aspect_ratio: float, joints: int, device: str) -> Settings:
    """people: to train on; aspect_ratio: the boxes' median width / height; device: 'cuda' or 'cpu'"""
    shape = input_shape(aspect_ratio, CPU_AREA if device == 'cpu' else math.prod(PAPER_SHAPE))
    iterations, reason = max_iter(people, device)
    return Settings(
        input_shape=shape,
        shape_reason=f"The boxes' median width / height is {aspect_ratio:.2f}",
        kernels=kernels(shape),
        topk=min(8, joints),
        max_iter=iterations,
        length_reason=reason,
        checkpoint_period=max(iterations // (SHORT_CHECKPOINTS if iterations < SHORT else CHECKPOINTS), 1),
        warmup_iters=min(max(round(WARMUP * iterations), 1), PAPER_WARMUP),
    )


def max_iter(people: int, device: str) -> tuple[int, str]:
    """Iterations in batches of BATCH, and why."""
    of = f'of {people:,} people in batches of {BATCH}'
    iterations = math.ceil(EPOCHS * people / BATCH)
    reason = f'{EPOCHS:.0f} epochs, as in the published COCO run, {of}'
    if iterations < MIN_ITERATIONS:
        iterations, reason = (
            MIN_ITERATIONS,
            f'The fewest that are worth it; {EPOCHS:.0f} epochs {of}, as in the published COCO run, would be fewer',
        )
    if iterations > PAPER_ITERATIONS * PAPER_GPUS:
        iterations, reason = PAPER_ITERATIONS * PAPER_GPUS, f'As many images as in the published COCO run, {of}'
    if device == 'cpu' and iterations > CPU_ITERATIONS:
        reason = f'What a CPU can do; on a GPU {iterations:,} ({reason})'
        iterations = CPU_ITERATIONS
    return iterations, reason


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
