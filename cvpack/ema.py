"""The exponential moving average (EMA) of a network's weights."""

import copy

import torch
from torch import nn


class EMA:
    """EMA of a network's parameters and floating-point buffers; other buffers are copied.

    module:  the network with the averaged weights
    updates: how many there were; the first one copies

    The host never waits for the device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.module, self.decay, self.updates = model, copy.deepcopy(model), decay, 0

    @torch.no_grad()
    def update(self, gate: torch.Tensor) -> None:
        """The caller increments `updates`.

        gate: float32 scalar on the network's device: 1; from the second update on 0 leaves the average unchanged
        """
        pairs = list(zip(_tensors(self.module), _tensors(self.model), strict=True))
        averaged, values = _split([pair for pair in pairs if pair[0].is_floating_point()])
        copied, copies_of = _split([pair for pair in pairs if not pair[0].is_floating_point()])
        if self.updates == 0:
            torch._foreach_copy_(averaged, values)
        else:
            steps = torch._foreach_sub(values, averaged)
            torch._foreach_mul_(steps, gate * (1 - self.decay))
            torch._foreach_add_(averaged, steps)
        if copied:
            torch._foreach_copy_(copied, copies_of)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _split(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [own for own, _ in pairs], [value for _, value in pairs]
