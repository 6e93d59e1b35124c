"""The passes of batch_norm.py over maps, as Triton kernels; each program has a part of the rows and of the channels."""

import triton
import triton.language as tl


@triton.jit
def sum_values(
    x, parts, rows, channels, rows_a_part,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Of x - x[0] and of its square: so near the mean, the variance does not drown in rounding."""
    c, exists = _channels(1, channels, CHANNELS)
    origin = tl.load(x + c, exists, 0).to(tl.float32)[None, :]
    first = tl.zeros((ROWS, CHANNELS), tl.float32)
    second = tl.zeros((ROWS, CHANNELS), tl.float32)
    start = tl.program_id(0) * rows_a_part
    for row in tl.range(start, min(start + rows_a_part, rows), ROWS, num_stages=STAGES):
        at, inside = _positions(row, c, rows, channels, ROWS)
        value = tl.where(inside, tl.load(x + at, inside, 0).to(tl.float32) - origin, 0)
        first += value
        second += value * value
    _store_sums(first, second, parts, c, exists, channels)


@triton.jit
def finish_statistics(
    parts, count, statistics, x, running_mean, running_var, shift, eps, rate, rows, channels,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / standard deviation; updates the running statistics."""
    c, exists = _channels(0, channels, CHANNELS)
    first, second = _total(parts, count, c, exists, channels, ROWS, CHANNELS)
    offset = first / rows
    mean = tl.load(x + c, exists, 0).to(tl.float32) + offset
    variance = second / rows - offset * offset
    variance = tl.where(variance < 0, 0, variance)  # keeps NaN
    tl.store(statistics + c, mean, exists)
    tl.store(statistics + channels + c, 1 / tl.sqrt(variance + eps), exists)
    if shift is not None:
        mean += tl.load(shift + c, exists, 0)
    old_mean, old_var = tl.load(running_mean + c, exists, 0), tl.load(running_var + c, exists, 0)
    tl.store(running_mean + c, old_mean + rate * (mean - old_mean), exists)
    tl.store(running_var + c, old_var + rate * (variance * (rows / (rows - 1.0)) - old_var), exists)


@triton.jit
def normalize(
    x, add, y, statistics, weight, bias, rows, channels, rows_a_part,
    RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y: x normalised, plus what is added, behind the ReLU."""
    c, exists = _channels(1, channels, CHANNELS)
    mean, _, factor, offset = _affine(statistics, weight, bias, c, exists, channels)
    start = tl.program_id(0) * rows_a_part
    for row in tl.range(start, min(start + rows_a_part, rows), ROWS, num_stages=STAGES):
        at, inside = _positions(row, c, rows, channels, ROWS)
        z = (tl.load(x + at, inside, 0).to(tl.float32) - mean) * factor + offset
        if add is not None:
            z += tl.load(add + at, inside, 0).to(tl.float32)
        if RELU:
            z = tl.where(z < 0, 0, z)  # keeps NaN
        tl.store(y + at, z.to(y.dtype.element_ty), inside)


@triton.jit
def sum_gradients(
    x, dy, y, dz, statistics, weight, bias, parts, rows, channels, rows_a_part,
    RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Of dz, the gradient behind the ReLU, and of dz times the normalised x. With y, stores dz."""
    c, exists = _channels(1, channels, CHANNELS)
    mean, scale, factor, offset = _affine(statistics, weight, bias, c, exists, channels)
    first = tl.zeros((ROWS, CHANNELS), tl.float32)
    second = tl.zeros((ROWS, CHANNELS), tl.float32)
    start = tl.program_id(0) * rows_a_part
    for row in tl.range(start, min(start + rows_a_part, rows), ROWS, num_stages=STAGES):
        at, inside = _positions(row, c, rows, channels, ROWS)
        centered = tl.load(x + at, inside, 0).to(tl.float32) - mean
        gradient = tl.load(dy + at, inside, 0).to(tl.float32)
        if y is not None:
            gradient = tl.where(tl.load(y + at, inside, 0) > 0, gradient, 0)
            tl.store(dz + at, gradient.to(dz.dtype.element_ty), inside)
        if RELU:
            gradient = tl.where(centered * factor + offset > 0, gradient, 0)
        first += gradient
        second += gradient * (centered * scale)
    _store_sums(first, second, parts, c, exists, channels)


@triton.jit
def finish_gradients(
    parts, count, sums, rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """The gradients of bias and weight."""
    c, exists = _channels(0, channels, CHANNELS)
    first, second = _total(parts, count, c, exists, channels, ROWS, CHANNELS)
    tl.store(sums + c, first, exists)
    tl.store(sums + channels + c, second, exists)


@triton.jit
def differentiate(
    x, dz, dx, sums, statistics, weight, bias, rows, channels, rows_a_part,
    RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dx, the gradient of x, from dz and the sums over it."""
    c, exists = _channels(1, channels, CHANNELS)
    mean, scale, factor, offset = _affine(statistics, weight, bias, c, exists, channels)
    average = tl.load(sums + c, exists, 0)[None, :] / rows
    slope = tl.load(sums + channels + c, exists, 0)[None, :] / rows * scale
    start = tl.program_id(0) * rows_a_part
    for row in tl.range(start, min(start + rows_a_part, rows), ROWS, num_stages=STAGES):
        at, inside = _positions(row, c, rows, channels, ROWS)
        centered = tl.load(x + at, inside, 0).to(tl.float32) - mean
        gradient = tl.load(dz + at, inside, 0).to(tl.float32)
        if RELU:
            gradient = tl.where(centered * factor + offset > 0, gradient, 0)
        gradient = factor * (gradient - average - slope * centered)
        tl.store(dx + at, gradient.to(dx.dtype.element_ty), inside)


@triton.jit
def _channels(axis: tl.constexpr, channels, CHANNELS: tl.constexpr):
    """This program's channels, and which of them exist."""
    c = tl.program_id(axis) * CHANNELS + tl.arange(0, CHANNELS)
    return c, c < channels


@triton.jit
def _positions(start, c, rows, channels, ROWS: tl.constexpr):
    """Where a tile's numbers lie, and which of them exist."""
    r = start + tl.arange(0, ROWS)
    return r.to(tl.int64)[:, None] * channels + c[None, :], (r < rows)[:, None] & (c < channels)[None, :]


@triton.jit
def _affine(statistics, weight, bias, c, exists, channels):
    """Mean, 1 / standard deviation, factor and offset, as rows: z = (x - mean) * factor + offset."""
    mean, scale = tl.load(statistics + c, exists, 0), tl.load(statistics + channels + c, exists, 0)
    factor = scale * tl.load(weight + c, exists, 0).to(tl.float32)
    offset = tl.load(bias + c, exists, 0).to(tl.float32)
    return mean[None, :], scale[None, :], factor[None, :], offset[None, :]


@triton.jit
def _store_sums(first, second, parts, c, exists, channels):
    at = parts + tl.program_id(0) * 2 * channels + c
    tl.store(at, tl.sum(first, 0), exists)
    tl.store(at + channels, tl.sum(second, 0), exists)


@triton.jit
def _total(parts, count, c, exists, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """The two sums of all parts."""
    first = tl.zeros((ROWS, CHANNELS), tl.float32)
    second = tl.zeros((ROWS, CHANNELS), tl.float32)
    for part in range(0, count, ROWS):
        p = part + tl.arange(0, ROWS)
        inside = (p < count)[:, None] & exists[None, :]
        at = parts + p[:, None] * 2 * channels + c[None, :]
        first += tl.load(at, inside, 0)
        second += tl.load(at + channels, inside, 0)
    return tl.sum(first, 0), tl.sum(second, 0)
