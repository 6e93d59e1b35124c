"""A moving average of a network, as a training run's better half."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of a network's parameters and floating-point buffers; other buffers are copied.

    module: the averaged network; updates: how many there were, the first of which copies
    The host never waits for the device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = copy.deepcopy(model), decay, 0
        pairs = [
            (own.detach(), value.detach()) for own, value in zip(_tensors(self.module), _tensors(model), strict=True)
        ]
        self.averaged, self.values = _split([pair for pair in pairs if pair[0].is_floating_point()])
        self.copied, self.copies_of = _split([pair for pair in pairs if not pair[0].is_floating_point()])

    @torch.no_grad()
    def update(self, gate: torch.Tensor) -> None:
        """gate: float32 scalar on the network's device, 1, or 0 for no change of the parameters."""
        if self.updates == 0:
            torch._foreach_copy_(self.averaged, self.values)
        else:
            steps = torch._foreach_sub(self.values, self.averaged)
            torch._foreach_mul_(steps, gate * (1 - self.decay))
            torch._foreach_add_(self.averaged, steps)
        if self.copied:
            torch._foreach_copy_(self.copied, self.copies_of)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _split(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [own for own, _ in pairs], [value for _, value in pairs]
