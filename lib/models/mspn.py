"""MSPN: multi-stage pose network (Li et al., arXiv 1901.00148, figure 2).

Each stage is a ResNet that goes down from H/4 x W/4 to H/32 x W/32 (`downsample`) and a light path back up
(`upsample`) with a heatmap head at each of its four levels. A stage passes its features to the next one at every
level (cross-stage aggregation).

Attribute names make the state-dict keys of published checkpoints and are therefore fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import nn

from lib.models.recompute import run_block
from lib.models.resnet import ConvBNReLU, ResNetStem, ResNetTrunk

Skips = list[tuple[torch.Tensor, torch.Tensor]]


def _resize(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(x, size=size, mode='bilinear', align_corners=True)


@dataclass
class StageOutput:
    """heatmaps: of the requested levels, coarse to fine, each (N, K, h, w)
    skips:    per level, finest first, the two tensors that the next stage adds to its trunk; None in the last stage
    features: the next stage's input (N, width, h, w); None in the last stage
    """

    heatmaps: list[torch.Tensor]
    skips: Skips | None = None
    features: torch.Tensor | None = None


class UpsampleUnit(nn.Module):
    """One level of the upsample path: adds the trunk's features to those from below, and predicts heatmaps.

    in_channels:    of the trunk's features at this level
    channels:       of the upsample path
    coarsest:       there is no unit below
    feeds_next:     has the convolutions of the next stage's skips
    cross_channels: of the next stage's input, which cross_conv makes at the finest level; 0 at the others
    fused_resize:   what resizes in train mode (cvpack/kernels); None: PyTorch
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_keypoints: int,
        coarsest: bool,
        feeds_next: bool,
        cross_channels: int,
        efficient: bool,
    ) -> None:
        super().__init__()
        self.efficient = efficient
        self.fused_resize: Callable[..., torch.Tensor] | None = None
        self.u_skip = ConvBNReLU(in_channels, channels, 1, relu=coarsest)
        if not coarsest:
            self.up_conv = ConvBNReLU(channels, channels, 1)
        if feeds_next:
            self.skip1 = ConvBNReLU(in_channels, in_channels, 1)
            self.skip2 = ConvBNReLU(channels, in_channels, 1)
        if cross_channels:
            self.cross_conv = ConvBNReLU(channels, cross_channels, 1)
        self.res_conv1 = ConvBNReLU(channels, channels, 1)
        self.res_conv2 = ConvBNReLU(channels, num_keypoints, 3, relu=False)

    def forward(self, level: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        """The level's features (N, channels, h', w').

        level: (N, in_channels, h', w'); below: (N, channels, h'/2, w'/2), None at the coarsest level
        """
        return self._run(self._merge, level, below)

    def heatmaps(self, features: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """The level's heatmaps (N, K, *size), in float32 at least: loss and decoding need more than half precision."""
        heatmaps = self._run(self._head, features)
        return _resize(heatmaps.to(torch.promote_types(heatmaps.dtype, torch.float32)), size)

    def skips(self, level: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The two tensors that the next stage adds to its trunk, in the level's shape."""
        return self._run(self.skip1, level), self._run(self.skip2, features)

    def _merge(self, level: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        out = self.u_skip(level)
        if below is None:
            return out
        resize = self.fused_resize if self.fused_resize is not None and self.training else _resize
        return self.up_conv(resize(below, level.shape[-2:]), add=out)

    def _head(self, out: torch.Tensor) -> torch.Tensor:
        return self.res_conv2(self.res_conv1(out))

    def _run(self, block: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
        return run_block(block, *inputs, owner=self, efficient=self.efficient)


class UpsamplePath(nn.Module):
    """The upsample path, from `up1` at the coarsest level to `up4` at the finest.

    next_channels: of the next stage's input; 0 in the last stage
    """

    def __init__(
        self,
        level_channels: tuple[int, ...],
        channels: int,
        num_keypoints: int,
        next_channels: int,
        efficient: bool,
    ) -> None:
        super().__init__()
        self.feeds_next = next_channels > 0
        for i, in_channels in enumerate(reversed(level_channels)):
            unit = UpsampleUnit(
                in_channels,
                channels,
                num_keypoints,
                coarsest=i == 0,
                feeds_next=self.feeds_next,
                cross_channels=next_channels if i == 3 else 0,
                efficient=efficient,
            )
            setattr(self, f'up{i + 1}', unit)

    def forward(self, levels: list[torch.Tensor], all_heatmaps: bool) -> StageOutput:
        """levels: the trunk's, finest first; all_heatmaps: those of all levels, else only the last stage's finest."""
        size = levels[0].shape[-2:]
        heatmaps, skips, below = [], [], None
        for i, level in enumerate(reversed(levels)):
            unit = getattr(self, f'up{i + 1}')
            below = unit(level, below)
            if all_heatmaps or (i == 3 and not self.feeds_next):
                heatmaps.append(unit.heatmaps(below, size))
            if self.feeds_next:
                skips.append(unit.skips(level, below))
        if not self.feeds_next:
            return StageOutput(heatmaps)
        return StageOutput(heatmaps, skips[::-1], unit.cross_conv(below))


class Stage(nn.Module):
    """One stage: a ResNet trunk down, a light path up."""

    def __init__(
        self, backbone: str, width: int, channels: int, num_keypoints: int, has_next: bool, efficient: bool
    ) -> None:
        super().__init__()
        self.downsample = ResNetTrunk(backbone, width, efficient)
        next_channels = width if has_next else 0
        self.upsample = UpsamplePath(self.downsample.channels, channels, num_keypoints, next_channels, efficient)

    def forward(self, x: torch.Tensor, skips: Skips | None, all_heatmaps: bool) -> StageOutput:
        """x (N, width, h, w); skips of the previous stage or None; all_heatmaps as in UpsamplePath."""
        return self.upsample(self.downsample(x, skips), all_heatmaps)


class MSPN(nn.Module):
    """The network.

    num_stages:    1 or more
    num_keypoints: K
    channels:      of the upsample path (256 in the paper)
    backbone:      'Res-18', 'Res-34', 'Res-50', 'Res-101' or 'Res-152'
    width:         channels of the stem, and of the trunks' first layer before expansion (ResNet's 64)
    efficient:     activation checkpointing: same outputs and gradients, less memory, slower
    """

    def __init__(
        self,
        num_stages: int,
        num_keypoints: int,
        channels: int = 256,
        backbone: str = 'Res-50',
        width: int = 64,
        efficient: bool = False,
    ) -> None:
        super().__init__()
        self.num_stages, self.efficient = num_stages, efficient
        self.top = ResNetStem(width)
        for i in range(num_stages):
            has_next = i < num_stages - 1
            setattr(self, f'stage{i}', Stage(backbone, width, channels, num_keypoints, has_next, efficient))

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[list[torch.Tensor]]:
        """images (N, 3, H, W), BGR, normalised, H and W divisible by 32; h, w = H/4, W/4.

        Eval mode: the last stage's finest heatmaps (N, K, h, w).
        Train mode: stages of four levels, coarse to fine, of (N, K, h, w).
        """
        features, skips = run_block(self.top, images, owner=self.top, efficient=self.efficient), None
        outputs = []
        for i in range(self.num_stages):
            stage = getattr(self, f'stage{i}')(features, skips, all_heatmaps=self.training)
            features, skips = stage.features, stage.skips
            outputs.append(stage.heatmaps)
        return outputs if self.training else outputs[-1][-1]


def build_mspn(cfg: EasyDict) -> MSPN:
    """The network that a configuration describes, newly initialised."""
    return MSPN(
        num_stages=cfg.MODEL.STAGE_NUM,
        num_keypoints=cfg.DATASET.KEYPOINT.NUM,
        channels=cfg.MODEL.UPSAMPLE_CHANNEL_NUM,
        backbone=cfg.MODEL.BACKBONE,
        width=cfg.MODEL.WIDTH,
        efficient=cfg.RUN_EFFICIENT,
    )
