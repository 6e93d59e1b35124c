"""Sections targets, loss, decode: each against a single library call on the same numbers, on one thread."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.models.loss import build_loss
from lib.tools.benchmark.measure import Options, Row, compare, one_thread, take_turns
from lib.utils import heatmap

BATCH = 32


def _joints(options: Options) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (B, K, 2) all over the crop, in input pixels, and visibility (B, K, 1)."""
    cfg, rng = options.config(), np.random.default_rng(0)
    shape = BATCH, cfg.DATASET.KEYPOINT.NUM
    joints = rng.uniform(0, 1, (*shape, 2)) * cfg.INPUT_SHAPE[::-1]
    return torch.from_numpy(joints).float(), torch.from_numpy(rng.integers(0, 3, (*shape, 1))).float()


def _encode(options: Options) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of _joints, and their visibility."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    kernels = cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    return heatmap.encode(joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, kernels), visibility


def targets(options: Options) -> Iterator[Row]:
    """Five levels of target heatmaps of a batch against filling as many bytes."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    buffer, _ = _encode(options)
    kernels = cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    with one_thread():
        encode, fill = take_turns(
            10 * options.repeats,
            lambda: heatmap.encode(joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, kernels),
            lambda: buffer.fill_(1.0),
        )
    yield compare('targets', f'encode {BATCH} people against Tensor.fill_, ms', 1000 * encode, 1000 * fill, '<= 4')


def loss(options: Options) -> Iterator[Row]:
    """Forward and backward of one stage's loss against plain mean squared errors."""
    labels, visibility = _encode(options)
    outputs = [torch.randn_like(labels[:, 0]).requires_grad_() for _ in range(4)]
    plain = [labels[:, level].contiguous() for level in range(1, 5)]
    criterion = build_loss(options.config())

    def backward(total: torch.Tensor) -> None:
        for output in outputs:
            output.grad = None
        total.backward()

    with one_thread():
        ours, floor = take_turns(
            10 * options.repeats,
            lambda: backward(criterion([outputs], visibility, labels)['total_loss']),
            lambda: backward(sum(map(F.mse_loss, outputs, plain))),
        )
    yield compare('loss', f'four levels, batch {BATCH}, against F.mse_loss, ms', 1000 * ours, 1000 * floor, '<= 3')


def decode(options: Options) -> Iterator[Row]:
    """Joints of predicted maps against the blur that the published code begins with."""
    cfg, (joints, visibility) = options.config(), _joints(options)
    kernel, shifts = cfg.TEST.GAUSSIAN_KERNEL, cfg.TEST.SHIFT_RATIOS
    clean = heatmap.encode(joints, 0 * visibility + 2, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, [15])[:, 0]
    maps = clean + torch.rand_like(clean)
    center, scale = torch.full((2, BATCH, 2), 1.0)
    border = heatmap.DECODE_PADDING
    padded = F.pad(maps, (border,) * 4).flatten(0, 1).numpy()

    def blur() -> None:
        for one in padded:
            cv2.GaussianBlur(one, (kernel, kernel), 0)

    with one_thread():
        ours, floor = take_turns(
            10 * options.repeats,
            lambda: heatmap.decode(maps, center, scale, cfg.INPUT_SHAPE, kernel, shifts),
            blur,
        )
    a_person = 1000 / BATCH
    yield compare('decode', 'a person against cv2.GaussianBlur, ms', ours * a_person, floor * a_person, '<= 3')
