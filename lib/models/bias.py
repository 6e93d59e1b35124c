"""Training without the biases that BatchNorm takes out again (SOLVER.DROP_BIAS)."""

from collections.abc import Sequence

import torch
from torch import nn

from cvpack.errors import InputError
from lib.models.resnet import is_plain


class _ZeroGradients(torch.autograd.Function):
    """The identity of a loss, whose backward pass gives other parameters a gradient of 0."""

    @staticmethod
    def forward(ctx, loss: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.parameters = parameters
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradient, *map(torch.zeros_like, ctx.parameters)


def drop_biases(model: nn.Module) -> list[nn.Parameter]:
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
    return [unit.conv.bias for unit in units]


def _can_drop(unit: nn.Module) -> bool:
    return unit.conv.bias is not None and unit.conv.padding_mode == 'zeros' and unit.bn.momentum is not None


def zero_gradients(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """The loss, whose backward pass gives the parameters gradients of 0: weight decay still moves them."""
    return _ZeroGradients.apply(loss, *parameters)
