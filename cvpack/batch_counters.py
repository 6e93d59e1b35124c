"""BatchNorm's batch counters, incremented in one operation per forward pass instead of one each."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

COUNTER = 'num_batches_tracked'
# A norm with another forward may use its counter, and keeps counting by itself.
FORWARDS = _BatchNorm.forward, nn.SyncBatchNorm.forward


class _Calls:
    """Stands in for a norm's counter during a forward pass: counts the increments."""

    def __init__(self) -> None:
        self.number = 0

    def add_(self, number: int) -> None:
        self.number += number


class FusedCounters:
    """A context for a network's forward pass; at its end the counters of all BatchNorms are incremented at once.

    They end up as without it: norms that did not run or are in eval mode are not counted, a norm that ran twice is
    counted twice, and of a failed pass those that ran are counted. The counters are changed in place, on their device.
    The norms are looked up once, here; norms added later, and norms with a momentum of None, which need the number
    itself, count by themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        self.norms = [(norm, _Calls()) for norm in model.modules() if _only_counts(norm)]

    def __enter__(self) -> None:
        for norm, calls in self.norms:
            calls.number = 0
            # An attribute takes precedence over the buffer of the same name, which stays where it is.
            norm.__dict__[COUNTER] = calls

    def __exit__(self, *_: object) -> None:
        counters: dict[int, list[torch.Tensor]] = {}
        for norm, calls in self.norms:
            norm.__dict__.pop(COUNTER, None)
            if calls.number:
                counters.setdefault(calls.number, []).append(getattr(norm, COUNTER))
        for number, same in counters.items():
            torch._foreach_add_(same, number)


def _only_counts(module: nn.Module) -> bool:
    """Whether a module increments its counter in train mode and does nothing else with it."""
    is_torchs = isinstance(module, _BatchNorm) and type(module).forward in FORWARDS
    return is_torchs and module.momentum is not None and getattr(module, COUNTER) is not None
