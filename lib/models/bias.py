"""Training without the biases that BatchNorm takes out again (SOLVER.DROP_BIAS)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cvpack.errors import InputError
from lib.models.resnet import ConvBNReLU, is_plain


class _ZeroGradients(torch.autograd.Function):
    """The identity of a loss, whose backward pass gives other parameters a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.parameters = parameters
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradient, *map(torch.zeros_like, ctx.parameters)


def drop_biases(model: nn.Module) -> list[torch.Tensor]:
    """Has the network's conv units leave out their biases in train mode; returns these, for zero_gradients.

    What comes after BatchNorm does not depend on them, so that outputs, and the gradients of all other weights, change
    by rounding alone, and their own gradient is 0, of which a bias otherwise gets the rounding error. Running means
    count them in, and eval mode does, so that checkpoints mean the same. Raises InputError where there are none.
    """
    units = [unit for unit in model.modules() if is_plain(unit) and _can_drop(unit)]
    if not units:
        raise InputError('SOLVER.DROP_BIAS: the network has no ConvBNReLU with a bias to leave out: set it to False')
    for unit in units:
        unit.drops_bias = True
    return [unit.conv.bias for unit in units if unit.conv.bias is not None]


def _can_drop(unit: ConvBNReLU) -> bool:
    return unit.conv.bias is not None and unit.conv.padding_mode == 'zeros' and unit.bn.momentum is not None


def zero_gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss, whose backward pass gives the parameters gradients of 0: weight decay still moves them."""
    return _ZeroGradients.apply(loss, *parameters)
