"""What a network costs: parameters and multiply-adds."""

from collections.abc import Callable

import torch
from easydict import EasyDict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.models.mspn import build_mspn

# Images counted at a time: with one, a coarsest level of 1x1 would leave BatchNorm without statistics.
BATCH = 2


def count_cost(
    cfg: EasyDict, build_model: Callable[[EasyDict], nn.Module] = build_mspn, device: str = 'meta'
) -> tuple[int, int, int]:
    """Number of parameters; multiply-adds per image in train mode, with all heads, and in eval mode.

    device: on 'meta', which MSPN supports, nothing is computed or allocated
    """
    with torch.device(device):
        model = build_model(cfg).to(device)
        images = torch.empty(BATCH, 3, *cfg.INPUT_SHAPE)
        macs = []
        for training in (True, False):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.train(training)(images)
            macs.append(counter.get_total_flops() // 2 // BATCH)
    return sum(p.numel() for p in model.parameters()), *macs
