"""The training loop, in plain sight."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cvpack.solver import Schedule, set_lr

Losses = dict[str, torch.Tensor]


def train_loop(
    step: Callable[[int, Any], Losses],
    loader: Iterable,
    start: int,
    schedule: Schedule,
    log: Callable[[int, float, Losses], None],
    save: Callable[[int], None],
) -> None:
    """Runs `step` on every batch: the iterations `start` + 1 to `schedule.max_iter`.

    step: forward, backward, optimiser; log: after every iteration; save: every checkpoint period and at the end.
    """
    for iteration, batch in enumerate(loader, start=start + 1):
        losses = step(iteration, batch)
        log(iteration, schedule.lr(iteration), losses)
        if iteration % schedule.checkpoint_period == 0 or iteration == schedule.max_iter:
            save(iteration)


class TrainStep:
    """One iteration: forward, backward, optimiser at the schedule's learning rate, moving average.

    compute_losses: batch -> losses, with the one to minimise under 'total_loss'; runs the network under its
                    own autocast
    scaler:         scales float16 gradients; disabled for other precisions
    average:        moving average of the weights, or None
    """

    def __init__(
        self,
        compute_losses: Callable[[Any], Losses],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        scaler: torch.amp.GradScaler,
        model: nn.Module,
        average: AveragedModel | None = None,
    ) -> None:
        self.compute_losses = compute_losses
        self.optimizer, self.schedule, self.scaler = optimizer, schedule, scaler
        self.model, self.average = model, average

    def __call__(self, iteration: int, batch: Any) -> Losses:
        self.optimizer.zero_grad(set_to_none=True)  # first: the old gradients' memory is free for the activations
        losses = self.compute_losses(batch)
        self.scaler.scale(losses['total_loss']).backward()
        set_lr(self.optimizer, self.schedule.lr(iteration))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return {name: value.detach() for name, value in losses.items()}
