"""Training with our own kernels for what surrounds the convolutions (SOLVER.TRITON)."""

import torch
from torch import nn

from cvpack.errors import InputError
from lib.models.conv_bn import is_plain
from lib.models.mspn import UpsampleUnit


def use_kernels(model: nn.Module) -> None:
    """Makes a network use cvpack/kernels in train mode: its conv units for BatchNorm, addition and ReLU at once, its
    upsample units for resizing.

    Results change only by rounding, once instead of after each of the three; checkpoints keep their meaning. Raises
    InputError if there is nothing to use them for, or Triton is not there or does not work on the network's device.
    """
    try:
        from cvpack.kernels.batch_norm import batch_norm_relu
        from cvpack.kernels.resize import resize
    except ImportError:
        raise InputError('SOLVER.TRITON needs the package triton: install it, or set it to False') from None
    units = [unit for unit in model.modules() if is_plain(unit) and unit.bn.momentum is not None]
    if not units:
        raise InputError('SOLVER.TRITON: the network has no ConvBNReLU to use its kernels: set it to False')
    try:
        resize(torch.zeros(1, 1, 2, 2, device=units[0].conv.weight.device), (4, 4))
    except Exception as error:  # whatever a compiler or a driver may lack
        reason = ' '.join(str(error).split())[:200]
        raise InputError(
            f'SOLVER.TRITON: Triton does not work here ({reason}): it needs a C compiler and the headers of Python; '
            'install them, or set it to False'
        ) from None
    for unit in units:
        unit.fused_norm = batch_norm_relu
    for module in model.modules():
        if isinstance(module, UpsampleUnit):
            module.fused_resize = resize
