"""Sections data, targets, loss, decode: each part against a single library call on the same numbers, on one thread."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.joints import TrainSamples
from lib.datasets.records import Records, select
from lib.loader import test_loader, train_loader, train_samples
from lib.models.loss import build_loss
from lib.tools.benchmark.measure import Options, Row, compare, one_thread, take_turns
from lib.utils import heatmap
from lib.utils.transforms import PIXELS_PER_SCALE

BATCH = 32
PEOPLE = 200
WORKERS = 2
WARM_UP, BATCHES = 8, 60
# What a person detector finds in an image of COCO's val set, and how many images to measure on.
BOXES, IMAGES = 20, 40


def data(options: Options) -> Iterator[Row]:
    """A sample against cv2.imread of its file, in training and in test; its bytes; two workers."""
    options.needs_data()
    cfg = options.config(f'SOLVER.IMS_PER_GPU={BATCH}', f'DATALOADER.NUM_WORKERS={WORKERS}')
    samples, reducing = train_samples(cfg), train_samples(options.config('DATALOADER.REDUCED_JPEG=True'))
    indices = range(min(PEOPLE, len(samples)))
    read = _reader([samples.records.path(index) for index in indices])

    def make(samples: TrainSamples) -> Callable[[], object]:
        position = count()  # the same augmentations, with and without an option

        def run() -> None:
            for index in indices:
                samples[index, next(position)]

        return run

    with one_thread():
        times = take_turns(options.repeats, make(samples), read, make(reducing))
    sample, floor, reduced = (1000 * seconds / len(indices) for seconds in times)
    yield compare('data', 'a training sample against cv2.imread of its file, ms', sample, floor, '<= 1.35')
    yield compare('data', 'a training sample with DATALOADER.REDUCED_JPEG against without, ms', reduced, sample)
    megabytes = sum(value.nbytes for value in samples[0, 0].values()) / 1e6
    yield Row('data', 'a sample from worker to trainer, MB', megabytes, reach='<= 0.16')

    loader = iter(train_loader(cfg, samples, first=0, batches=(options.repeats + 1) * (WARM_UP + BATCHES)))
    speed = statistics.median(_images_per_second(loader) for _ in range(options.repeats))
    name = f'loader with {WORKERS} workers against {WORKERS} / time of a sample, images/s'
    yield compare('data', name, speed, WORKERS / (sample / 1000), '>= 0.85')

    people = many_boxes(CocoReader(COCO.at(options.root)).test_set('val', gt_boxes=True).records, IMAGES, BOXES)
    files = [people.root / path.decode() for path in np.unique(people.paths)]
    cfg = options.config(f'TEST.IMS_PER_GPU={BATCH}', 'DATALOADER.NUM_WORKERS=0', 'MODEL.DEVICE=cpu')

    def load() -> None:
        for _ in test_loader(cfg, people):
            pass

    with one_thread():
        box, file = take_turns(options.repeats, load, _reader(files))
    name = f"a test sample's cost a box against cv2.imread of its file, {BOXES} boxes an image, ms"
    yield compare('data', name, 1000 * box / len(people), 1000 * file / len(files), '<= 0.35')


def _reader(files: list) -> Callable[[], object]:
    def read() -> None:
        for file in files:
            cv2.imread(str(file), cv2.IMREAD_COLOR)

    return read


def _images_per_second(loader: Iterator) -> float:
    for _ in range(WARM_UP):
        next(loader)
    start = time.perf_counter()
    images = sum(len(next(loader)['image']) for _ in range(BATCHES))
    return images / (time.perf_counter() - start)


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


def _joints(options: Options) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (B, K, 2) all over the crop, in input pixels, and visibility (B, K, 1)."""
    cfg, rng = options.config(), np.random.default_rng(0)
    shape = BATCH, cfg.DATASET.KEYPOINT.NUM
    joints = rng.uniform(0, 1, (*shape, 2)) * cfg.INPUT_SHAPE[::-1]
    return torch.from_numpy(joints).float(), torch.from_numpy(rng.integers(0, 3, (*shape, 1))).float()


def targets(options: Options) -> Iterator[Row]:
    """Five levels of target heatmaps of a batch against filling as many bytes."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    arguments = joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    buffer = heatmap.encode(*arguments)
    with one_thread():
        times = take_turns(10 * options.repeats, lambda: heatmap.encode(*arguments), lambda: buffer.fill_(1.0))
    encode, fill = (1000 * seconds for seconds in times)
    yield compare('targets', f'encode {BATCH} people against Tensor.fill_, ms', encode, fill, '<= 4')


def loss(options: Options) -> Iterator[Row]:
    """Forward and backward of one stage's loss against plain mean squared errors."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    kernels = cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    labels = heatmap.encode(joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, kernels)
    outputs = [torch.randn_like(labels[:, 0]).requires_grad_() for _ in range(4)]
    plain = [labels[:, level].contiguous() for level in range(1, 5)]
    criterion = build_loss(cfg)

    def backward(total: torch.Tensor) -> None:
        for output in outputs:
            output.grad = None
        total.backward()

    with one_thread():
        times = take_turns(
            10 * options.repeats,
            lambda: backward(criterion([outputs], visibility, labels)['total_loss']),
            lambda: backward(torch.stack([*map(F.mse_loss, outputs, plain)]).sum()),
        )
    ours, floor = (1000 * seconds for seconds in times)
    yield compare('loss', f'four levels, batch {BATCH}, against F.mse_loss, ms', ours, floor, '<= 3')


def decode(options: Options) -> Iterator[Row]:
    """Joints of predicted maps against the blur that the published code begins with."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    kernel, shifts = cfg.TEST.GAUSSIAN_KERNEL, cfg.TEST.SHIFT_RATIOS
    clean = heatmap.encode(joints, 0 * visibility + 2, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, [15])[:, 0]
    maps = clean + torch.rand_like(clean)
    center, scale = torch.full((2, BATCH, 2), 1.0)
    padded = F.pad(maps, (heatmap.DECODE_PADDING,) * 4).flatten(0, 1).numpy()

    def blur() -> None:
        for one in padded:
            cv2.GaussianBlur(one, (kernel, kernel), 0)

    with one_thread():
        times = take_turns(
            10 * options.repeats,
            lambda: heatmap.decode(maps, center, scale, cfg.INPUT_SHAPE, kernel, shifts),
            blur,
        )
    ours, floor = (1000 * seconds / BATCH for seconds in times)
    yield compare('decode', 'a person against cv2.GaussianBlur, ms', ours, floor, '<= 3')
