"""Bilinear resizing (align_corners=True), as Triton kernels for maps that lie channels last.

In mixed precision PyTorch resizes in float32, from and to copies; here numbers are read and written as they are, with
float32 in between, and the gradient is gathered in one order, so that results repeat to the bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

ROWS, CHANNELS, WARPS = 16, 256, 8  # of a program's tile


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """x (N, C, h, w) on a GPU, best channels last -> (N, C, H, W) of the same dtype; size: (H, W).

    Equal to F.interpolate(x, size, mode='bilinear', align_corners=True) up to rounding.
    """
    if min(*x.shape[-2:], *size) == 1:  # no distance between corners
        return F.interpolate(x, size=size, mode='bilinear', align_corners=True)
    return _Resize.apply(x, *size)


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        ctx.shape = x.shape
        y = _empty((*x.shape[:2], height, width), x)
        _run(_interpolate, x, y, x.shape, y.shape)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        dx = _empty(ctx.shape, dy)
        taps = [1 + -(-2 * (large - 1) // (small - 1)) for small, large in zip(dx.shape[2:], dy.shape[2:])]
        _run(_gather, dy, dx, dx.shape, dy.shape, TAPS_H=taps[0], TAPS_W=taps[1])
        return dx, None, None


def _empty(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _run(kernel: Any, source: torch.Tensor, target: torch.Tensor, small: Any, large: Any, **constants: int) -> None:
    channels = target.shape[1]
    rows, tile = target.numel() // channels, min(CHANNELS, triton.next_power_of_2(channels))
    (h, w), (height, width) = small[2:], large[2:]
    kernel[triton.cdiv(rows, ROWS), triton.cdiv(channels, tile)](
        source.contiguous(memory_format=torch.channels_last), target, rows, channels, h, w, height, width,
        (h - 1) / (height - 1), (w - 1) / (width - 1), **constants, ROWS=ROWS, CHANNELS=tile, num_warps=WARPS,
    )  # fmt: skip


@triton.jit
def _interpolate(x, y, rows, channels, h, w, height, width, step_h, step_w, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (r < rows)[:, None] & (c < channels)[None, :]
    top, lower = _between(r // width % height, step_h, h)
    left, right = _between(r % width, step_w, w)
    first = (r // (width * height)).to(tl.int64) * h + top
    second = tl.where(top < h - 1, first + 1, first)
    end = tl.where(left < w - 1, left + 1, left)
    upper = _mix(x, first * w + left, first * w + end, right, c, channels, inside)
    under = _mix(x, second * w + left, second * w + end, right, c, channels, inside)
    value = upper * (1 - lower)[:, None] + under * lower[:, None]
    tl.store(y + r.to(tl.int64)[:, None] * channels + c[None, :], value.to(y.dtype.element_ty), inside)


@triton.jit
def _between(index, step, size):
    """The position before an output's place in the input, and the share of the next one."""
    place = index.to(tl.float32) * step
    before = tl.minimum(place.to(tl.int32), size - 1)
    return before, place - before


@triton.jit
def _mix(x, first, second, share, c, channels, inside):
    one = tl.load(x + first[:, None] * channels + c[None, :], inside, 0).to(tl.float32)
    other = tl.load(x + second[:, None] * channels + c[None, :], inside, 0).to(tl.float32)
    return one * (1 - share)[:, None] + other * share[:, None]


@triton.jit
def _gather(
    dy, dx, rows, channels, h, w, height, width, step_h, step_w,
    TAPS_H: tl.constexpr, TAPS_W: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """For each input the outputs that it has a share in: those less than one input away."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (r < rows)[:, None] & (c < channels)[None, :]
    i, j = r // w % h, r % w
    image = (r // (w * h)).to(tl.int64) * height
    top = ((i - 1).to(tl.float32) / step_h).to(tl.int32)
    left = ((j - 1).to(tl.float32) / step_w).to(tl.int32)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for a in range(TAPS_H):
        share_h = _share(top + a, i, step_h, height)
        for b in tl.static_range(TAPS_W):
            share = share_h * _share(left + b, j, step_w, width)
            at = ((image + top + a) * width + left + b)[:, None] * channels + c[None, :]
            total += share[:, None] * tl.load(dy + at, inside & (share > 0)[:, None], 0).to(tl.float32)
    tl.store(dx + r.to(tl.int64)[:, None] * channels + c[None, :], total.to(dx.dtype.element_ty), inside)


@triton.jit
def _share(output, position, step, size):
    """The weight of an input position in an output; 0 outside."""
    distance = tl.abs(output.to(tl.float32) * step - position.to(tl.float32))
    return tl.where((output >= 0) & (output < size), tl.maximum(1 - distance, 0), 0)
