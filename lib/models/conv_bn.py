"""Conv units with less work: BatchNorm folded into the convolution for inference, or training without the biases that
BatchNorm cancels (SOLVER.DROP_BIAS).
"""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvpack.errors import InputError
from lib.models.resnet import ConvBNReLU


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Folds every conv unit's BatchNorm into its convolution, in place, for faster inference.

    Outputs change only by float32 rounding. The state dict is no longer that of a checkpoint.
    """
    for unit in model.modules():
        if is_plain(unit):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.bn)
            unit.add_module('bn', nn.Identity())
            unit.drops_bias, unit.fused_norm = False, None
    return model


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


def is_plain(unit: nn.Module) -> TypeGuard[ConvBNReLU]:
    """Whether a module computes exactly what ConvBNReLU does: other networks may subclass it, or replace its layers."""
    if type(unit) is not ConvBNReLU or type(unit.conv) is not nn.Conv2d or type(unit.bn) is not nn.BatchNorm2d:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in (unit.conv, unit.bn)):
        return False
    # A weight that is computed before each call (weight_norm) is not a parameter.
    return 'weight' in unit.conv._parameters and unit.bn.affine and unit.bn.track_running_stats


def _can_drop(unit: ConvBNReLU) -> bool:
    return unit.conv.bias is not None and unit.conv.padding_mode == 'zeros' and unit.bn.momentum is not None


def zero_gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """The same loss, which gives the parameters (vectors) gradients of 0, so that only weight decay changes them."""
    return loss + 0 * torch.cat([*parameters]).sum()
