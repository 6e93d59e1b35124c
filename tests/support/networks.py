"""Networks to compare, and one with hardly any work in it."""

import zlib

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from cvpack.batch_counters import FusedCounters
from cvpack.precision import autocast
from lib.models.mspn import UpsampleUnit
from lib.models.resnet import BasicBlock


def fill(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives every entry of the state dict a value that follows from its key alone (golden/README.md)."""
    state = model.state_dict()
    for key, value in state.items():
        if key.endswith('num_batches_tracked'):
            continue
        numbers = np.random.RandomState(zlib.crc32(f'{seed}:{key}'.encode())).standard_normal(tuple(value.shape))
        *_, parent, name = key.split('.')
        if parent == 'bn':
            filled = {
                'weight': 0.6 + 0.1 * numbers,
                'bias': 0.1 * numbers,
                'running_mean': 0.1 * numbers,
                'running_var': 1 + 0.1 * np.abs(numbers),
            }[name]
        else:
            filled = numbers * np.sqrt(1 / np.prod(value.shape[1:])) if name == 'weight' else 0.1 * numbers
        value.copy_(torch.from_numpy(filled))
    return model


def golden_batch(
    batch: int, keypoints: int, height: int, width: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, visibility and labels of the golden network files, in float64."""
    r = np.random.RandomState(1000 + seed)
    images = r.standard_normal((batch, 3, height, width))
    visibility = r.choice([0.0, 1.0, 2.0], size=(batch, keypoints, 1), p=[0.2, 0.3, 0.5])
    labels = 2 * r.random_sample((batch, 5, keypoints, height // 4, width // 4)) ** 8
    return torch.from_numpy(images), torch.from_numpy(visibility), torch.from_numpy(labels)


class OneLayer(torch.nn.Module):
    """A network with MSPN's outputs and hardly any work, for tests of what is around it."""

    def __init__(self, cfg: EasyDict) -> None:
        super().__init__()
        self.stages = cfg.MODEL.STAGE_NUM
        self.layer = torch.nn.Conv2d(3, cfg.DATASET.KEYPOINT.NUM, kernel_size=4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[list[torch.Tensor]]:
        maps = self.layer(images)
        return [[maps] * 4] * self.stages if self.training else maps


class Level(nn.Module):
    """A residual block and the unit of the way up at its level."""

    def __init__(self, efficient: bool = False) -> None:
        super().__init__()
        self.block = BasicBlock(16, 32, stride=2)
        self.unit = UpsampleUnit(32, 16, 3, coarsest=False, feeds_next=True, cross_channels=16, efficient=efficient)

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        level = self.block(x)
        features = self.unit(level, x[..., ::4, ::4])
        heatmaps, skips = self.unit.heatmaps(features, x.shape[-2:]), self.unit.skips(level, features)
        return [[features, heatmaps, *skips, self.unit.cross_conv(features)]]


def steps(model: nn.Module, images: torch.Tensor, precision: str = 'fp32') -> dict[str, torch.Tensor]:
    """Losses of three steps of plain gradient descent, then the last step's gradients, and the state dict."""
    counted, values = FusedCounters(model), {}
    for number in range(3):
        model.zero_grad()
        with autocast(images.device.type, precision), counted:
            outputs = model(images)
        loss = sum(level.float().square().mean() for levels in outputs for level in levels)
        loss.backward()
        values[f'loss {number}'] = loss.detach()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad
    values |= {f'gradient of {name}': parameter.grad for name, parameter in model.named_parameters()}
    return values | model.state_dict()
