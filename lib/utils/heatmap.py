"""Heatmaps, both ways: joints -> target maps (encode), predicted maps -> joints (decode).

Whole batches at once, on the device that the tensors are on. OpenCV's GaussianBlur is a linear, separable map, so
a blur is two small matrix products, and the blur of a single cell is an outer product of two of its columns.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from lib.utils.transforms import PIXELS_PER_SCALE

PEAK = 255.0
# Decoding blurs and searches on a map with this many empty cells around it (SPEC: test).
DECODE_PADDING = 10
# A peak and its runner-up closer than this (cells) give no direction to shift in.
MIN_SHIFT_DISTANCE = 1e-3


@functools.lru_cache(maxsize=64)
def blur_matrix(length: int, kernel: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(length, length) matrix B with B @ x = OpenCV's Gaussian blur of x: sigma 0, border reflect-101.

    The taps are OpenCV's own: for small kernels they differ from the formula for sigma.
    """
    taps = cv2.getGaussianKernel(kernel, 0, cv2.CV_64F)[:, 0]
    matrix = np.zeros((length, length))
    rows = np.arange(length)
    for offset, tap in enumerate(taps, start=-(kernel // 2)):
        columns = np.abs(rows + offset) % (2 * length - 2)
        columns = np.minimum(columns, 2 * length - 2 - columns)
        np.add.at(matrix, (rows, columns), tap)
    return torch.from_numpy(matrix).to(device, dtype)


@functools.lru_cache(maxsize=64)
def _profiles(length: int, kernels: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """(length, kernels, length): the blur of a one at each cell, scaled to a maximum of one."""
    profiles = torch.stack([blur_matrix(length, k, device, torch.float32).T for k in kernels], dim=1)
    return profiles / profiles.amax(dim=2, keepdim=True)


def encode(
    joints: torch.Tensor,
    visibility: torch.Tensor,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    kernels: Sequence[int],
) -> torch.Tensor:
    """Target heatmaps, (N, len(kernels), K, h, w) float32 on the joints' device, peaks at 255.

    joints:       (N, K, 2), x and y in input pixels
    visibility:   (N, K, 1); a joint below 1, or outside the map, gets an empty map
    input_shape:  (H, W); output_shape: (h, w)
    kernels:      sizes of the Gaussian kernels, odd, in heatmap cells; the paper's widest first
    """
    (height, width), (h, w) = input_shape, output_shape
    size = joints.new_tensor([w, h])
    cells = (joints * size / joints.new_tensor([width, height])).trunc()
    drawn = ((cells >= 0) & (cells < size)).all(-1) & (visibility[..., 0] >= 1)
    columns, rows = torch.where(drawn[..., None], cells, 0).long().unbind(-1)
    across = _profiles(w, tuple(kernels), joints.device)[columns]
    down = _profiles(h, tuple(kernels), joints.device)[rows] * (PEAK * drawn)[..., None, None]
    targets = torch.empty(
        joints.shape[0], len(kernels), joints.shape[1], h, w, dtype=torch.float32, device=joints.device
    )
    torch.mul(down.transpose(1, 2)[..., :, None], across.transpose(1, 2)[..., None, :], out=targets)
    return targets


def mirror(heatmaps: torch.Tensor, permutation: Sequence[int]) -> torch.Tensor:
    """Heatmaps (N, K, h, w) of a mirrored image -> those of the image: flipped, paired joints swapped.

    permutation: for every joint the index of its mirror joint
    """
    return heatmaps.flip(-1)[:, list(permutation)]


def decode(
    heatmaps: torch.Tensor,
    center: torch.Tensor,
    scale: torch.Tensor,
    input_shape: Sequence[int],
    kernel: int,
    shifts: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints and their scores from predicted heatmaps.

    heatmaps: (N, K, h, w), peaks near 255
    center, scale: (N, 2), the crop's centre in image pixels and its size in units of 200 image pixels
    input_shape:   (H, W) of the crop
    kernel:        size of the Gaussian blur before the search, odd
    shifts:        a joint moves by these shares of a cell from the peak towards the runners-up, in turn

    Returns keypoints (N, K, 2) in image pixels and scores (N, K, 1): the unblurred map there / 255 + 0.5.
    """
    h, w = heatmaps.shape[2:]
    peaks = _highest_cells(_blur_padded(heatmaps, kernel), 1 + len(shifts))
    xy = peaks[0]
    for shift, runner_up in zip(shifts, peaks[1:]):
        step = runner_up - xy
        distance = step.norm(dim=-1, keepdim=True)
        xy = xy + torch.where(distance > MIN_SHIFT_DISTANCE, shift * step / distance, 0)
    xy = torch.minimum(xy.clamp(min=0), xy.new_tensor([w - 1, h - 1]))

    columns, rows = xy.round().long().unbind(-1)
    scores = heatmaps.flatten(2).gather(2, (rows * w + columns)[..., None]) / PEAK + 0.5

    stride = xy.new_tensor([input_shape[1] / w, input_shape[0] / h])
    in_crop = (xy * stride + stride / 2) / xy.new_tensor([input_shape[1], input_shape[0]])
    size = (scale * PIXELS_PER_SCALE)[:, None]
    return in_crop * size + center[:, None] - size / 2, scores


def _blur_padded(heatmaps: torch.Tensor, kernel: int) -> torch.Tensor:
    """The blur of the maps with DECODE_PADDING empty cells around them: (N, K, h + 20, w + 20)."""
    left, right = (
        blur_matrix(size + 2 * DECODE_PADDING, kernel, heatmaps.device, heatmaps.dtype)[
            :, DECODE_PADDING : DECODE_PADDING + size
        ]
        for size in heatmaps.shape[2:]
    )
    return left @ heatmaps @ right.T


def _highest_cells(padded: torch.Tensor, count: int) -> list[torch.Tensor]:
    """(x, y) (N, K, 2) of each padded map's highest cell, then of the highest once that one is set to 0, and so on.

    In cells of the unpadded map. Ties go to the first in reading order, as numpy's argmax has it.
    """
    flat = padded.flatten(2)
    cells = []
    for _ in range(count):
        index = flat.argmax(dim=2, keepdim=True)
        flat = flat.scatter(2, index, 0)
        xy = torch.cat([index % padded.shape[3], index // padded.shape[3]], dim=2)
        cells.append((xy - DECODE_PADDING).to(padded.dtype))
    return cells
