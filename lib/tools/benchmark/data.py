"""Section data: a sample against the decoding of its JPEG, in training and test; the loader against its workers."""

import dataclasses
import statistics
import time
from collections.abc import Iterator
from itertools import count

import cv2
import numpy as np

from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.joints import TrainSamples
from lib.datasets.records import Records, select
from lib.loader import test_loader, train_loader, train_samples
from lib.tools.benchmark.measure import Options, Row, Run, compare, one_thread, take_turns
from lib.utils.transforms import PIXELS_PER_SCALE

PEOPLE = 200
WORKERS = 2
WARM_UP, BATCHES = 8, 60
# What a person detector finds in an image of COCO's val set, and how many images to measure on.
BOXES, IMAGES = 20, 40


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
    yield _test_sample(options)


def _test_sample(options: Options) -> Row:
    """The test's loader, batches included, on images with many boxes each."""
    people = many_boxes(CocoReader(COCO.at(options.root)).test_set('val', gt_boxes=True).records, IMAGES, BOXES)
    cfg = options.config('TEST.IMS_PER_GPU=32', 'DATALOADER.NUM_WORKERS=0', 'MODEL.DEVICE=cpu')
    paths = [str(people.root / path.decode()) for path in np.unique(people.paths)]

    def load() -> None:
        for _ in test_loader(cfg, people):
            pass

    def decode() -> None:
        for path in paths:
            cv2.imread(path, cv2.IMREAD_COLOR)

    with one_thread():
        load_time, decode_time = take_turns(options.repeats, load, decode)
    name = f"a test sample's cost a box against cv2.imread of its file, {BOXES} boxes an image, ms"
    return compare('data', name, 1000 * load_time / len(people), 1000 * decode_time / len(paths), '<= 0.35')


def many_boxes(people: Records, images: int, boxes: int) -> Records:
    """So many boxes in each of the first images: those of its people again and again, moved and scaled at random,
    in an order that mixes the images, as a detector's by falling score.
    """
    rng = np.random.default_rng(0)
    files = np.unique(people.paths)[:images]
    chosen = [np.resize(np.flatnonzero(people.paths == file), boxes) for file in files]
    many = select(people, rng.permutation(np.concatenate(chosen)))
    sides = many.scale * PIXELS_PER_SCALE
    center = many.center + sides * rng.normal(0, 0.1, sides.shape)
    scale = many.scale * rng.uniform(0.8, 1.25, (len(many), 1))
    return dataclasses.replace(many, center=center.astype(np.float32), scale=scale.astype(np.float32))


def _images_per_second(loader: Iterator) -> float:
    for _ in range(WARM_UP):
        next(loader)
    start = time.perf_counter()
    images = sum(len(next(loader)['image']) for _ in range(BATCHES))
    return images / (time.perf_counter() - start)
