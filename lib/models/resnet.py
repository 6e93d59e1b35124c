"""ResNet (He et al., CVPR 2016) as MSPN uses it: a stem shared by all stages, and one trunk per stage.

Attribute names make the state-dict keys of published checkpoints and are therefore fixed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from lib.models.recompute import run_block


class ConvBNReLU(nn.Module):
    """The conv unit: convolution with bias, BatchNorm, optional addition, optional ReLU. Keeps h x w at stride 1.

    drops_bias: skip the bias in train mode (lib/models/conv_bn.py)
    fused_norm: what computes all but the convolution in train mode (cvpack/kernels); None: PyTorch
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = relu
        self.drops_bias = False
        self.fused_norm: Callable[..., torch.Tensor] | None = None

    def forward(self, x: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        """x (N, in_channels, H, W); add, in the output's shape, before the ReLU."""
        trains = self.training and self.bn.training  # frozen, BatchNorm does not cancel a bias
        dropped = self.conv.bias if self.drops_bias and trains else None
        x = self.conv(x) if dropped is None else self._without_bias(x)
        if self.fused_norm is not None and trains:
            return self.fused_norm(x, self.bn, add, self.relu, dropped)
        x = self.bn(x)
        if dropped is not None:
            assert self.bn.running_mean is not None
            # The bias would have shifted the mean. `data`: autograd has saved the mean, though it does not use it.
            self.bn.running_mean.data.add_(dropped.data, alpha=self.bn.momentum)
        if add is not None:
            x = x + add
        return F.relu(x, inplace=True) if self.relu else x

    def _without_bias(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1: the block of ResNet-50 and deeper."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv_bn_relu1 = ConvBNReLU(in_channels, width, 1)
        self.conv_bn_relu2 = ConvBNReLU(width, width, 3, stride)
        self.conv_bn_relu3 = ConvBNReLU(width, out_channels, 1)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv_bn_relu2(self.conv_bn_relu1(x))
        return self.conv_bn_relu3(out, add=x if self.downsample is None else self.downsample(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: the block of ResNet-18 and 34."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv_bn_relu1 = ConvBNReLU(in_channels, width, 3, stride)
        self.conv_bn_relu2 = ConvBNReLU(width, width, 3)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv_bn_relu1(x)
        return self.conv_bn_relu2(out, add=x if self.downsample is None else self.downsample(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> ConvBNReLU | None:
    """The projection of a block that changes the shape; None (the identity) for others."""
    if stride == 1 and in_channels == out_channels:
        return None
    return ConvBNReLU(in_channels, out_channels, 1, stride, relu=False)


BACKBONES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    'Res-18': (BasicBlock, (2, 2, 2, 2)),
    'Res-34': (BasicBlock, (3, 4, 6, 3)),
    'Res-50': (Bottleneck, (3, 4, 6, 3)),
    'Res-101': (Bottleneck, (3, 4, 23, 3)),
    'Res-152': (Bottleneck, (3, 8, 36, 3)),
}


class ResNetStem(nn.Module):
    """7x7 convolution and max-pool: (N, 3, H, W) -> (N, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(3, width, 7, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(self.conv(images), 3, stride=2, padding=1)


class ResNetTrunk(nn.Module):
    """The four layers of a ResNet, whose outputs are the levels of a stage.

    backbone:  a key of BACKBONES
    width:     channels of the stem, the trunk's input, and of the first layer's 3x3 convolutions; doubles at each layer
    efficient: recompute each block in the backward pass instead of keeping its activations

    `channels` holds the levels' channels, finest first.
    """

    def __init__(self, backbone: str, width: int, efficient: bool) -> None:
        super().__init__()
        block, depths = BACKBONES[backbone]
        self.efficient = efficient
        self.channels = tuple(width * 2**i * block.expansion for i in range(4))
        in_channels = width
        for i, (depth, out_channels) in enumerate(zip(depths, self.channels)):
            blocks = [block(in_channels, width * 2**i, stride=1 if i == 0 else 2)]
            blocks += [block(out_channels, width * 2**i, stride=1) for _ in range(depth - 1)]
            setattr(self, f'layer{i + 1}', nn.Sequential(*blocks))
            in_channels = out_channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(
        self, x: torch.Tensor, skips: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    ) -> list[torch.Tensor]:
        """(N, width, H/4, W/4) -> four levels, finest first: (N, channels[i], H/4/2^i, W/4/2^i).

        skips: per level, finest first, the previous stage's two tensors to add (cross-stage aggregation: paper,
               section 3.2); the sums feed the next layer
        """
        levels = []
        for i in range(4):
            for block in getattr(self, f'layer{i + 1}'):
                x = run_block(block, x, owner=block, efficient=self.efficient)
            if skips is not None:
                x = x + skips[i][0] + skips[i][1]
            levels.append(x)
        return levels
