"""One level of a network, and what a few steps of training make of one, for tests of compiled blocks."""

import torch
from torch import nn

from cvpack.batch_counters import FusedCounters
from cvpack.precision import autocast
from lib.models.mspn import UpsampleUnit
from lib.models.resnet import BasicBlock


class Level(nn.Module):
    """A residual block and the unit of the way up at its level."""

    def __init__(self) -> None:
        super().__init__()
        self.block = BasicBlock(16, 32, stride=2)
        self.unit = UpsampleUnit(32, 16, 3, coarsest=False, feeds_next=True, cross_channels=16, efficient=False)

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        level = self.block(x)
        out = self.unit(level, x[..., ::4, ::4], x.shape[-2:])
        return [[out.features, out.heatmaps, *out.skips, out.cross]]


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
