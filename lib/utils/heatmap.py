"""Heatmaps, both ways: joints -> target maps (encode), predicted maps -> joints (decode).

Whole batches at once, on the device that the tensors are on, which the host never waits for. OpenCV's GaussianBlur
is a linear, separable map, so the blur of a single cell is an outer product of two profiles; predicted maps are
blurred by a depthwise convolution.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.utils.transforms import PIXELS_PER_SCALE

PEAK = 255.0
# Decoding blurs and searches on a map with this many empty cells around it, as the published code does.
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
    # Constants as numbers, not tensors: making one on a GPU would wait for all that was launched before.
    columns, rows = (joints[..., 0] * (w / width)).trunc(), (joints[..., 1] * (h / height)).trunc()
    drawn = (columns >= 0) & (columns < w) & (rows >= 0) & (rows < h) & (visibility[..., 0] >= 1)
    columns, rows = (torch.where(drawn, cells, 0).long() for cells in (columns, rows))
    across = _profiles(w, tuple(kernels), joints.device)[columns]
    down = _profiles(h, tuple(kernels), joints.device)[rows] * (PEAK * drawn)[..., None, None]
    targets = torch.empty(
        joints.shape[0], len(kernels), joints.shape[1], h, w, dtype=torch.float32, device=joints.device
    )
    torch.mul(down.transpose(1, 2)[..., :, None], across.transpose(1, 2)[..., None, :], out=targets)
    return targets


def mirror(heatmaps: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Heatmaps (N, K, h, w) of a mirrored image -> those of the image: flipped, paired joints swapped.

    permutation: (K,) int64, for every joint the index of its mirror joint
    """
    return heatmaps.flip(-1).index_select(1, permutation)


def decode(
    heatmaps: torch.Tensor,
    center: torch.Tensor,
    scale: torch.Tensor,
    input_shape: Sequence[int],
    kernel: int,
    shifts: Sequence[float],
    traced: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints and their scores from predicted heatmaps.

    heatmaps: (N, K, h, w), peaks near 255
    center, scale: (N, 2), the crop's centre in image pixels and its size in units of 200 image pixels
    input_shape:   (H, W) of the crop
    kernel:        size of the Gaussian blur before the search, odd, below 2 * DECODE_PADDING
    shifts:        a joint moves by these shares of a cell from the peak towards the runners-up, in turn
    traced:        use operations that leave N free in a graph that is exported; slower elsewhere, the same result

    Returns keypoints (N, K, 2) in image pixels and scores (N, K, 1): the unblurred map there / 255 + 0.5.
    """
    h, w = heatmaps.shape[2:]
    peaks = _highest_cells(_blur_with_margin(heatmaps, kernel, traced), kernel // 2, 1 + len(shifts))
    xy = peaks[0]
    for shift, runner_up in zip(shifts, peaks[1:]):
        step = runner_up - xy
        distance = step.norm(dim=-1, keepdim=True)
        xy = xy + torch.where(distance > MIN_SHIFT_DISTANCE, shift * step / distance, 0)
    x, y = xy[..., 0].clamp(0, w - 1), xy[..., 1].clamp(0, h - 1)

    cells = y.round().long() * w + x.round().long()
    scores = heatmaps.flatten(2).gather(2, cells[..., None]) / PEAK + 0.5

    (height, width), down, across = input_shape, input_shape[0] / h, input_shape[1] / w
    in_crop = torch.stack([(x * across + across / 2) / width, (y * down + down / 2) / height], dim=-1)
    size = (scale * PIXELS_PER_SCALE)[:, None]
    return in_crop * size + center[:, None] - size / 2, scores


@functools.lru_cache(maxsize=64)
def _gaussian(kernel: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, kernel, kernel): the weight of OpenCV's Gaussian blur, sigma 0, as a convolution."""
    taps = cv2.getGaussianKernel(kernel, 0, cv2.CV_64F)
    return torch.from_numpy(taps @ taps.T).to(device, dtype)[None, None]


def _blur_with_margin(heatmaps: torch.Tensor, kernel: int, traced: bool) -> torch.Tensor:
    """The blur of the maps among empty cells, as far as it reaches: (N, K, h + 2 m, w + 2 m), m = kernel // 2."""
    margin = kernel // 2
    if traced:  # a graph's number of groups is a constant
        maps, weight = heatmaps.flatten(0, 1)[:, None], _gaussian(kernel, heatmaps.device, heatmaps.dtype)
        return F.conv2d(maps, weight, padding=2 * margin)[:, 0].unflatten(0, heatmaps.shape[:2])
    # Samples and joints alike are channels of one image, which suits CPUs' blocked layouts best; and the margin is
    # written out, as oneDNN has no fast depthwise convolution that pads by more than half a kernel.
    maps = F.pad(heatmaps.flatten(0, 1)[None], (margin,) * 4)
    count = maps.shape[1]
    weight = _gaussian(kernel, maps.device, maps.dtype).expand(count, -1, -1, -1)
    return F.conv2d(maps, weight, padding=margin, groups=count)[0].unflatten(0, heatmaps.shape[:2])


def _highest_cells(blurred: torch.Tensor, margin: int, count: int) -> list[torch.Tensor]:
    """(x, y) (N, K, 2) of each map's highest cell, then of the highest once that one is set to 0, and so on.

    blurred: maps with `margin` more cells on each side; they are changed in place
    In cells of the map without margin. Ties go to the first in reading order, as numpy's argmax has it. All beyond
    the margin is 0, so where nothing is higher the first cell of all the padding is taken.
    """
    flat, width = blurred.flatten(2), blurred.shape[3]
    cells = []
    for _ in range(count):
        value, index = flat.max(dim=2, keepdim=True)
        flat.scatter_(2, index, 0)
        xy = torch.cat([index % width, index // width], dim=2) - margin
        cells.append(torch.where(value > 0, xy, -DECODE_PADDING).to(blurred.dtype))
    return cells
