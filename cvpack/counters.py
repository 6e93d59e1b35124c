"""BatchNorm's counters of batches, all added to in one operation a forward pass instead of one each."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

COUNTER = 'num_batches_tracked'
# A norm with a forward of its own may use its counter otherwise, and goes on to count for itself.
FORWARDS = _BatchNorm.forward, nn.SyncBatchNorm.forward


class _Calls:
    """In a norm's place of the counter during a forward pass: how much was added."""

    def __init__(self) -> None:
        self.number = 0

    def add_(self, number: int) -> None:
        self.number += number


class CountedTogether:
    """A context for a network's forward pass, at whose end the counters of its BatchNorms are added to, all at once.

    They are what they would be without it: a norm that did not run, or is in eval mode, is not counted, one that ran
    twice is counted twice, and of a pass that fails those that ran count. The counters are the same tensors throughout,
    changed in place on their device. The norms are looked up once, here; norms with a momentum of None, who need the
    number itself, and norms that come later count for themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        self.norms = [(norm, _Calls()) for norm in model.modules() if _counts_only(norm)]

    def __enter__(self) -> None:
        for norm, calls in self.norms:
            calls.number = 0
            # An attribute comes before the buffer of its name, which stays where it is.
            norm.__dict__[COUNTER] = calls

    def __exit__(self, *_: object) -> None:
        counters: dict[int, list[torch.Tensor]] = {}
        for norm, calls in self.norms:
            norm.__dict__.pop(COUNTER, None)
            if calls.number:
                counters.setdefault(calls.number, []).append(getattr(norm, COUNTER))
        for number, same in counters.items():
            torch._foreach_add_(same, number)


def _counts_only(module: nn.Module) -> bool:
    """Whether a module adds to its counter in train mode and does nothing else with it."""
    is_torchs = isinstance(module, _BatchNorm) and type(module).forward in FORWARDS
    return is_torchs and module.momentum is not None and getattr(module, COUNTER) is not None
