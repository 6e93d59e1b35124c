"""BatchNorm in train mode, together with the addition and the ReLU that follow it: two passes over the maps forward and
two backward, where PyTorch takes up to seven. Triton kernels for maps that lie channels last: a matrix of rows, the
positions of all images, by channels.

Programs take parts of the rows and then add their sums in one order, so that results repeat to the bit.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import nn
from torch.autograd.function import once_differentiable

from cvpack.kernels import batch_norm_passes as passes


class Tile(NamedTuple):
    """What a program reads at once.

    rows:     of numbers of two bytes; of larger ones fewer, since a block's shared memory holds them
    programs: about how many share the maps; each loops over its part
    stages:   so many loads of a loop are under way at once
    """

    rows: int
    channels: int
    programs: int = 1
    stages: int = 1


# Of maps, and of the sums of their parts: the fastest of those tried on an H200, in whole training steps.
MAPS, SUMS = Tile(64, 64, programs=528, stages=3), Tile(256, 8)


def batch_norm_relu(
    x: torch.Tensor,
    norm: nn.BatchNorm2d,
    add: torch.Tensor | None = None,
    relu: bool = True,
    shift: torch.Tensor | None = None,
) -> torch.Tensor:
    """relu(norm(x) + add) in train mode, rounded once; updates the norm's running statistics and counter.

    x:     (N, C, H, W) on a GPU, best channels last; computed in float32
    norm:  affine, with running statistics and a momentum
    add:   of x's shape, or broadcast to it
    shift: (C,) what the running mean gets besides x's mean: the bias that a convolution left out

    Raises ValueError, as the norm does, if there is a single value per channel.
    """
    if x.numel() <= x.shape[1]:
        raise ValueError(f'Expected more than 1 value per channel when training, got input size {x.shape}')
    assert norm.num_batches_tracked is not None
    if add is not None:
        add = add.expand_as(x)
    norm.num_batches_tracked.add_(1)
    return _BatchNormReLU.apply(x, add, norm.weight, norm.bias, norm, relu, shift)


class _BatchNormReLU(torch.autograd.Function):
    """As batch_norm_relu; x and add of one shape."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        add: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        norm: nn.BatchNorm2d,
        relu: bool,
        shift: torch.Tensor | None,
    ) -> torch.Tensor:
        maps = _Maps(x)
        x, add = _channels_last(x), None if add is None else _channels_last(add)
        y = torch.empty_like(x, dtype=x.dtype if add is None else torch.promote_types(x.dtype, add.dtype))
        parts = maps.sum(passes.sum_values, x)
        running = norm.running_mean, norm.running_var, shift
        statistics = maps.finish(passes.finish_statistics, parts, x, *running, norm.eps, norm.momentum)
        maps.each(passes.normalize, x, add, y, statistics, weight, bias, RELU=relu)
        # Without an addition x says where the ReLU was 0.
        ctx.save_for_backward(x, y if relu and add is not None else None, statistics, weight, bias)
        ctx.relu, ctx.adds = relu, add is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, statistics, weight, bias = ctx.saved_tensors
        maps, dy, dx = _Maps(x), _channels_last(dy), torch.empty_like(x)
        # Behind the ReLU, what is added has the gradient dz: written in the first pass, read in the second.
        masked = None if y is None else torch.empty_like(y)
        dz, relu = dy if masked is None else masked, ctx.relu and y is None
        parts = maps.sum(passes.sum_gradients, x, dy, y, masked, statistics, weight, bias, RELU=relu)
        sums = maps.finish(passes.finish_gradients, parts)
        maps.each(passes.differentiate, x, dz, dx, sums, statistics, weight, bias, RELU=relu)
        return dx, dz if ctx.adds else None, sums[1], sums[0], None, None, None


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def tile_rows(size: int) -> int:
    """The rows of a tile of numbers of so many bytes."""
    return 2 * MAPS.rows // size


class _Maps:
    """Runs kernels over maps (N, C, H, W), whose rows and channels their programs share."""

    def __init__(self, x: torch.Tensor) -> None:
        self.device, self.channels = x.device, x.shape[1]
        self.rows = x.numel() // self.channels
        self.tile_rows = tile_rows(x.element_size())

    def each(self, kernel: Any, *tensors: torch.Tensor | None, **constants: Any) -> None:
        """A kernel that writes to maps."""
        parts, columns, rows_a_part = self._grid()
        kernel[parts, columns](
            *tensors, self.rows, self.channels, rows_a_part,
            **constants, ROWS=self.tile_rows, CHANNELS=MAPS.channels, STAGES=MAPS.stages,
        )  # fmt: skip

    def sum(self, kernel: Any, *tensors: torch.Tensor | None, **constants: Any) -> torch.Tensor:
        """A kernel that sums two numbers per channel over the rows: (parts, 2, C) float32."""
        parts = torch.empty(self._grid()[0], 2, self.channels, dtype=torch.float32, device=self.device)
        self.each(kernel, *tensors, parts, **constants)
        return parts

    def finish(self, kernel: Any, parts: torch.Tensor, *others: torch.Tensor | float | None) -> torch.Tensor:
        """A kernel that makes two numbers per channel from their sums: (2, C) float32."""
        result = torch.empty_like(parts[0])
        kernel[triton.cdiv(self.channels, SUMS.channels), 1](
            parts, len(parts), result, *others, self.rows, self.channels, ROWS=SUMS.rows, CHANNELS=SUMS.channels
        )
        return result

    def _grid(self) -> tuple[int, int, int]:
        """The parts of the rows, the tiles side by side, and the rows in a part."""
        columns, tiles = triton.cdiv(self.channels, MAPS.channels), triton.cdiv(self.rows, self.tile_rows)
        tiles_a_part = triton.cdiv(tiles, max(1, MAPS.programs // columns))
        return triton.cdiv(tiles, tiles_a_part), columns, tiles_a_part * self.tile_rows
