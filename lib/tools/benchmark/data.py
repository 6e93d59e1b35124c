"""Section data: a training sample against the decoding of its JPEG; the loader against its workers."""

import statistics
import time
from collections.abc import Iterator
from itertools import count

import cv2

from lib.datasets.joints import TrainSamples
from lib.loader import train_loader, train_samples
from lib.tools.benchmark.measure import Options, Row, Run, compare, one_thread, take_turns

PEOPLE = 200
WORKERS = 2
WARM_UP, BATCHES = 8, 60


def data(options: Options) -> Iterator[Row]:
    """One sample with all augmentation on one thread, its bytes, and two workers."""
    options.needs_data()
    cfg = options.config('SOLVER.IMS_PER_GPU=32', f'DATALOADER.NUM_WORKERS={WORKERS}')
    samples = train_samples(cfg)
    reducing = train_samples(options.config('DATALOADER.REDUCED_JPEG=True'))
    indices = range(min(PEOPLE, len(samples)))
    paths = [str(samples.records.path(index)) for index in indices]

    def make(samples: TrainSamples) -> Run:
        position = count()  # the same augmentations, with and without an option

        def run() -> None:
            for index in indices:
                samples[index, next(position)]

        return run

    def decode() -> None:
        for path in paths:
            cv2.imread(path, cv2.IMREAD_COLOR)

    with one_thread():
        times = take_turns(options.repeats, make(samples), decode, make(reducing))
    sample, floor, reduced = (1000 * t / len(indices) for t in times)
    yield compare('data', 'a training sample against cv2.imread of its file, ms', sample, floor, '<= 1.35')
    yield compare('data', 'a training sample with DATALOADER.REDUCED_JPEG against without, ms', reduced, sample)

    megabytes = sum(value.nbytes for value in samples[0, 0].values()) / 1e6
    yield Row('data', 'a sample from worker to trainer, MB', megabytes, reach='<= 0.16')

    loader = iter(train_loader(cfg, samples, first=0, batches=(options.repeats + 1) * (WARM_UP + BATCHES)))
    speeds = [_images_per_second(loader) for _ in range(options.repeats)]
    speed = statistics.median(speeds)
    name = f'loader with {WORKERS} workers against {WORKERS} / time of a sample, images/s'
    yield compare('data', name, speed, WORKERS / (sample / 1000), '>= 0.85')


def _images_per_second(loader: Iterator) -> float:
    for _ in range(WARM_UP):
        next(loader)
    start = time.perf_counter()
    images = sum(len(next(loader)['image']) for _ in range(BATCHES))
    return images / (time.perf_counter() - start)
