"""Heatmaps, both ways: joints -> target maps (encode), predicted maps -> joints (decode).

Both work on batches, on the tensors' device, which the host never waits for. OpenCV's GaussianBlur is linear and
separable, so the blur of a single cell is an outer product of two profiles; predicted maps are blurred by a depthwise
convolution. lib/utils/codec.py describes the codecs.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.utils.codec import CODECS
from lib.utils.transforms import PIXELS_PER_SCALE

PEAK = 255.0
# Added to a joint's peak, about 0 to 1, to make its score, as in the published code.
SCORE_OFFSET = 0.5
# Decoding blurs and searches a map with this many empty cells around it, as in the published code.
DECODE_PADDING = 10
# A peak and its runner-up closer than this (cells) give no direction to shift in.
MIN_SHIFT_DISTANCE = 1e-3
# Lower bound of a map before its log is taken; a peak is near 255.
MIN_HEAT = 1e-10


@functools.lru_cache(maxsize=64)
def _profiles(length: int, kernels: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(kernels, length, length): OpenCV's blur of a one in each cell (sigma 0), scaled to a maximum of one; and
    (kernels, 1) int64, the first index, kept on the device like them.
    """
    blurred = np.stack([cv2.GaussianBlur(np.eye(length), (kernel, 1), 0) for kernel in kernels])
    profiles = torch.from_numpy(blurred).to(device, torch.float32)
    return profiles / profiles.amax(dim=2, keepdim=True), torch.arange(len(kernels), device=device)[:, None]


@functools.lru_cache(maxsize=64)
def _sigmas(kernels: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """(kernels, 1, 1): the sigmas, in cells, for which OpenCV uses kernels of these sizes."""
    return torch.tensor([[[0.3 * ((kernel - 1) * 0.5 - 1) + 0.8]] for kernel in kernels], device=device)


def _lines(cells: torch.Tensor, length: int, kernels: tuple[int, ...], subpixel: bool) -> torch.Tensor:
    """(N, kernels, K, length): the profiles along an axis of maps with joints at `cells` (N, K); peaks at 1."""
    if not subpixel:
        profiles, kernel = _profiles(length, kernels, cells.device)
        return profiles[kernel, cells.long()[:, None]]
    distance = torch.arange(length, device=cells.device) - cells[:, None, :, None]
    return (-0.5 * (distance / _sigmas(kernels, cells.device)) ** 2).exp().float()


def encode(
    joints: torch.Tensor,
    visibility: torch.Tensor,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    kernels: Sequence[int],
    codec: str = 'standard',
) -> torch.Tensor:
    """Target heatmaps, (N, len(kernels), K, h, w) float32 on the joints' device, peaks at 255.

    joints:       (N, K, 2), x and y in input pixels
    visibility:   (N, K, 1); a joint below 1, or outside the map, gets an empty map
    input_shape:  (H, W); output_shape: (h, w)
    kernels:      sizes of the Gaussian kernels, odd, in heatmap cells; the paper's widest first
    codec:        'dark' and 'udp' have subpixel peaks
    """
    (height, width), (h, w), kernels, lengths = input_shape, output_shape, tuple(kernels), CODECS[codec]
    columns = lengths.to_cells(joints[..., 0], width, w)
    rows = lengths.to_cells(joints[..., 1], height, h)
    is_target = visibility[..., 0] >= 1
    for cells, length in ((columns.round(), w), (rows.round(), h)):
        is_target = is_target & (cells >= 0) & (cells < length)
    columns, rows = (torch.where(is_target, cells, 0) for cells in (columns, rows))
    across = _lines(columns, w, kernels, lengths.subpixel)
    down = _lines(rows, h, kernels, lengths.subpixel) * (PEAK * is_target)[:, None, :, None]
    return down[..., None] * across[..., None, :]


def mirror(heatmaps: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Heatmaps (N, K, h, w) of a flipped image -> those of the image: flipped back, left and right joints swapped.

    permutation: (K,) int64, the index of every joint's mirror joint
    """
    return heatmaps.flip(-1).index_select(1, permutation)


def decode(
    heatmaps: torch.Tensor,
    center: torch.Tensor,
    scale: torch.Tensor,
    input_shape: Sequence[int],
    kernel: int,
    shifts: Sequence[float],
    codec: str = 'standard',
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints and their scores from predicted heatmaps.

    heatmaps: (N, K, h, w), peaks near 255
    center, scale: (N, 2), the crop's centre in image pixels and its size in units of 200 image pixels
    input_shape:   (H, W) of the crop
    kernel:        size of the Gaussian blur before the search, odd, below 2 * DECODE_PADDING
    shifts:        fractions of a cell by which a joint moves from the peak towards each runner-up, in turn (standard)
    codec:         'dark' and 'udp' use a Taylor step to the subpixel position instead

    Returns keypoints (N, K, 2) in image pixels and scores (N, K, 1): the unblurred map there / 255 + 0.5.
    """
    (height, width), (h, w), lengths = input_shape, heatmaps.shape[2:], CODECS[codec]
    blurred = _blur_with_margin(heatmaps, kernel)
    xy = _subpixel_peaks(blurred, kernel // 2) if lengths.subpixel else _shifted_peaks(blurred, kernel // 2, shifts)
    x, y = xy[..., 0].clamp(0, w - 1), xy[..., 1].clamp(0, h - 1)

    cells = y.round().long() * w + x.round().long()
    scores = _flat_cells(heatmaps).gather(2, cells[..., None]) / PEAK + SCORE_OFFSET

    in_crop = torch.stack([lengths.to_crop(x, width, w), lengths.to_crop(y, height, h)], dim=-1)
    size = (scale * PIXELS_PER_SCALE)[:, None]
    return in_crop * size + center[:, None] - size / 2, scores


@functools.lru_cache(maxsize=64)
def _gaussian(kernel: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, kernel, kernel): OpenCV's Gaussian blur, sigma 0, as a convolution's weight."""
    taps = cv2.getGaussianKernel(kernel, 0, cv2.CV_64F)
    return torch.from_numpy(taps @ taps.T).to(device, dtype)[None, None]


def _blur_with_margin(heatmaps: torch.Tensor, kernel: int) -> torch.Tensor:
    """The blur of the maps among empty cells, as far as it reaches: (N, K, h + 2 m, w + 2 m), m = kernel // 2."""
    margin, joints = kernel // 2, int(heatmaps.shape[1])  # a number in an exported graph, where N is open
    weight = _gaussian(kernel, heatmaps.device, heatmaps.dtype).expand(joints, -1, -1, -1)
    # The margin is written out, as oneDNN has no fast depthwise convolution that pads by more than half a kernel.
    return F.conv2d(F.pad(heatmaps, (margin,) * 4), weight, padding=margin, groups=joints)


def _flat_cells(maps: torch.Tensor) -> torch.Tensor:
    """(N, K, h, w) -> (N, K, h * w): flatten(2) cannot be exported to ONNX with N open, as it may be 0."""
    joints, h, w = maps.shape[1:]
    return maps.reshape(-1, joints, h * w)


def _highest_cells(blurred: torch.Tensor, margin: int, count: int) -> list[torch.Tensor]:
    """(x, y) (N, K, 2), in cells of the map without margin, of each map's `count` highest cells, highest first.

    blurred: maps with `margin` more cells on each side; they are changed in place

    Ties go to the first in reading order, as in numpy's argmax. The padding beyond the margin is 0: if no cell is
    higher, the first cell of the padding is returned.
    """
    flat, width = _flat_cells(blurred), blurred.shape[3]
    cells = []
    for _ in range(count):
        value, index = flat.max(dim=2, keepdim=True)
        flat.scatter_(2, index, 0)
        xy = torch.cat([index % width, index // width], dim=2) - margin
        cells.append(torch.where(value > 0, xy, -DECODE_PADDING).to(blurred.dtype))
    return cells


def _shifted_peaks(blurred: torch.Tensor, margin: int, shifts: Sequence[float]) -> torch.Tensor:
    """(x, y) (N, K, 2), in cells, of each map's highest cell, moved towards the runners-up; as in _highest_cells."""
    xy, *runners_up = _highest_cells(blurred, margin, 1 + len(shifts))
    for shift, runner_up in zip(shifts, runners_up):
        step = runner_up - xy
        distance = step.norm(dim=-1, keepdim=True)
        xy = xy + torch.where(distance > MIN_SHIFT_DISTANCE, shift * step / distance, 0)
    return xy


def _subpixel_peaks(blurred: torch.Tensor, margin: int) -> torch.Tensor:
    """(x, y) (N, K, 2), in cells, of each map's peak: a Taylor step from the highest cell on the log of the map, which
    for a Gaussian is quadratic, so that the step ends at its centre (Zhang et al.).

    blurred: maps with `margin` more cells on each side

    On the border the step starts one cell further in, where it has neighbours on both sides. It is taken only where the
    log has a maximum, and at most to the adjacent cells.
    """
    maps = F.pad(blurred, (-margin,) * 4)
    h, w = maps.shape[2:]
    flat = _flat_cells(maps)
    highest = flat.argmax(dim=2)
    peak = torch.stack([highest % w, highest // w], dim=-1)
    x, y = peak[..., 0].clamp(1, w - 2), peak[..., 1].clamp(1, h - 2)
    around = torch.arange(-1, 2, device=maps.device)
    cells = (y[..., None, None] + around[:, None]) * w + x[..., None, None] + around
    log = flat.gather(2, _flat_cells(cells)).clamp(min=MIN_HEAT).log().unflatten(2, (3, 3))
    left, right, up, down = log[..., 1, 0], log[..., 1, 2], log[..., 0, 1], log[..., 2, 1]
    dx, dy = (right - left) / 2, (down - up) / 2
    dxx, dyy = (side + other - 2 * log[..., 1, 1] for side, other in ((left, right), (up, down)))
    dxy = (log[..., 0, 0] + log[..., 2, 2] - log[..., 0, 2] - log[..., 2, 0]) / 4
    determinant = dxx * dyy - dxy**2
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / determinant[..., None]
    has_maximum = (dxx < 0) & (determinant > 0)
    return torch.where(has_maximum[..., None], torch.stack([x, y], dim=-1) + step.clamp(-1, 1), peak)
