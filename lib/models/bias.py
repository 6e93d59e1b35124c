"""Training without the biases that BatchNorm cancels (SOLVER.DROP_BIAS)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cvpack.errors import InputError
from lib.models.resnet import ConvBNReLU, is_plain


class _ZeroGradients(torch.autograd.Function):
    """The identity of a loss; its backward pass gives other parameters a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.parameters = parameters
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradient, *map(torch.zeros_like, ctx.parameters)


def drop_biases(model: nn.Module) -> list[torch.Tensor]:
    """Makes the network's conv units skip their biases in train mode; returns these biases, for zero_gradients.

    BatchNorm's output does not depend on them: outputs and all other gradients change only by rounding, and the biases'
    own gradient, otherwise a rounding error, is 0. Running means still include them, and eval mode uses them, so
    checkpoints keep their meaning. Raises InputError if there are none.
    """
    units = [unit for unit in model.modules() if is_plain(unit) and _can_drop(unit)]
    if not units:
        raise InputError('SOLVER.DROP_BIAS: the network has no ConvBNReLU with a bias to drop: set it to False')
    for unit in units:
        unit.drops_bias = True
    return [unit.conv.bias for unit in units if unit.conv.bias is not None]


def _can_drop(unit: ConvBNReLU) -> bool:
    return unit.conv.bias is not None and unit.conv.padding_mode == 'zeros' and unit.bn.momentum is not None


def zero_gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """The same loss; its backward pass gives the parameters gradients of 0, so that only weight decay changes them."""
    return _ZeroGradients.apply(loss, *parameters)
