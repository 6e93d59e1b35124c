"""The optimiser, and the learning rate as a pure function of the iteration."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from cvpack.errors import InputError

ADAMS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}
OPTIMIZERS = (*ADAMS, 'SGD')
DECAYS = ('linear', 'cosine')


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from `warmup_factor`, then linear decay, or half a cosine's, to zero at `max_iter`."""

    base_lr: float
    max_iter: int
    checkpoint_period: int
    warmup_iters: int
    warmup_factor: float
    decay: str = 'linear'

    def lr(self, iteration: int) -> float:
        """The learning rate of iteration 1, 2, ..., max_iter."""
        if iteration < self.warmup_iters:
            factor = self.warmup_factor + (1 - self.warmup_factor) * iteration / self.warmup_iters
            return self.base_lr * factor
        progress = (iteration - self.warmup_iters) / max(self.max_iter - self.warmup_iters, 1)
        return self.base_lr * (1 - progress if self.decay == 'linear' else (1 + math.cos(math.pi * progress)) / 2)


def scale_schedule(schedule: Schedule, gpus: int, reference_gpus: int) -> Schedule:
    """Linear scaling: the learning rate grows with the number of GPUs, the iterations shrink, the warm-up stays.

    A warm-up of more than two thirds of the iterations is shortened to that, or the learning rate would never decay.

    schedule: base_lr for one GPU; max_iter and checkpoint_period for `reference_gpus`
    gpus:     a GPU that accumulates the gradients of n batches counts as n
    """
    max_iter = max(schedule.max_iter * reference_gpus // gpus, 1)
    return replace(
        schedule,
        base_lr=schedule.base_lr * gpus,
        max_iter=max_iter,
        checkpoint_period=max(schedule.checkpoint_period * reference_gpus // gpus, 1),
        warmup_iters=min(schedule.warmup_iters, max(2 * max_iter // 3, 1)),
    )


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], weight_decay: float, momentum: float, capturable: bool = False
) -> torch.optim.Optimizer:
    """Adam or AdamW (betas 0.9, 0.999, eps 1e-8), or SGD; fused; with weight decay on all parameters.

    The decay is an L2 penalty, in AdamW decoupled from the gradient (Loshchilov and Hutter, ICLR 2019). The learning
    rate is set from the Schedule before every step.

    capturable: for steps in a CUDA graph; the learning rate is then a float32 tensor on the parameters' device
    """
    parameters = list(parameters)
    lr = torch.zeros((), device=parameters[0].device) if capturable else 0.0
    if name in ADAMS:
        # Raised by the eager steps before the capture.
        warnings.filterwarnings('ignore', 'This instance was constructed with capturable=True')
        return ADAMS[name](parameters, lr=lr, weight_decay=weight_decay, fused=True, capturable=capturable)
    if name == 'SGD':
        optimizer = torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, fused=True)
        if momentum:
            _fill_momentum(optimizer)
        return optimizer
    raise ValueError(f'optimizer {name!r} is none of {OPTIMIZERS}')


def _fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Gives SGD the momentum buffers that it lacks.

    torch would leave them uninitialised if the first step is skipped, or lacks a gradient.
    """
    for group in optimizer.param_groups:
        for parameter in group['params']:
            optimizer.state[parameter].setdefault('momentum_buffer', torch.zeros_like(parameter))


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict, path: Path, setting: str = 'the optimiser') -> None:
    """Restores a saved optimiser's moments and steps; the options (weight decay, fused, ...) stay this run's.

    setting: the option that selects the optimiser, for the message

    Raises InputError, naming the path, for another optimiser, or one of another number of parameters.
    """
    options = [{name: group[name] for name in group if name != 'params'} for group in optimizer.param_groups]
    groups = state.get('param_groups') if isinstance(state, dict) and isinstance(state.get('state'), dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) and 'params' in group for group in groups):
        raise InputError(f"{path}: its 'optimizer' is not the state of an optimiser: get the file again")
    if [len(group['params']) for group in groups] != [len(group['params']) for group in optimizer.param_groups]:
        raise InputError(f'{path} holds the optimiser of another number of parameters: is it of the same network?')
    if [('betas' in group) for group in groups] != [('betas' in group) for group in options]:
        raise InputError(f'{path} was trained with another optimiser: set {setting} to the same')
    merged = [{**old, **new} for old, new in zip(groups, options)]
    optimizer.load_state_dict({**state, 'param_groups': merged})
    if merged[0].get('momentum'):
        _fill_momentum(optimizer)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group; a tensor is changed in place."""
    for group in optimizer.param_groups:
        if isinstance(group['lr'], torch.Tensor):
            group['lr'].fill_(lr)
        else:
            group['lr'] = lr
