"""The training loop, in plain sight."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cvpack import dist
from cvpack.errors import NotFinite, Preempted
from cvpack.preemption import StopRequest
from cvpack.solver import Schedule, set_lr

Losses = dict[str, torch.Tensor]


def train_loop(
    step: 'TrainStep',
    loader: Iterable,
    start: int,
    schedule: Schedule,
    log: Callable[[int, float, Losses], None],
    save: Callable[[int], None],
    accumulate: int,
    stop: StopRequest,
) -> None:
    """Takes `step` through the iterations `start` + 1 to `schedule.max_iter`, each of `accumulate` batches.

    log: after every iteration; save: every checkpoint period, at the end, and before stopping
    Raises NotFinite on all ranks, before the weights change, when a loss or gradient of any rank is not finite; and
    Preempted, after saving, when any rank was asked to stop.
    """
    for iteration, batches in enumerate(zip(*[iter(loader)] * accumulate), start=start + 1):
        losses = step.gradients(iteration, batches)
        wrong, stopping = dist.any_rank(not step.is_finite(losses), stop.requested)
        if wrong:
            raise NotFinite(iteration, {name: value.item() for name, value in losses.items()})
        losses |= step.update(iteration)
        log(iteration, schedule.lr(iteration), losses)
        if iteration % schedule.checkpoint_period == 0 or iteration == schedule.max_iter or stopping:
            save(iteration)
        if stopping:
            raise Preempted(iteration)


class TrainStep:
    """One iteration: gradients of one or more batches, then the optimiser and the moving average.

    compute_losses: batch -> losses, with the one to minimise under 'total_loss'; runs the network under its
                    own autocast
    scaler:         scales float16 gradients; disabled for other precisions
    model:          the network, in DistributedDataParallel where there is a process group
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
        seed: int = 0,
    ) -> None:
        self.compute_losses = compute_losses
        self.optimizer, self.schedule, self.scaler = optimizer, schedule, scaler
        self.parallel = model if isinstance(model, nn.parallel.DistributedDataParallel) else None
        self.model, self.average = model if self.parallel is None else model.module, average
        self.seed, self.skipped = seed, 0

    def __call__(self, iteration: int, *batches: Any) -> Losses:
        return self.gradients(iteration, batches) | self.update(iteration)

    def gradients(self, iteration: int, batches: Sequence[Any]) -> Losses:
        """Forward and backward of every batch: the mean gradient, exchanged once; the mean losses."""
        # What a network draws (dropout, say) follows from the place in the run too, so that resuming repeats it.
        torch.manual_seed((self.seed * 1_000_003 + iteration) * dist.world_size() + dist.rank())
        self.optimizer.zero_grad(set_to_none=True)  # first: the old gradients' memory is free for the activations
        parts = []
        for number, batch in enumerate(batches, start=1):
            waits = self.parallel is not None and number < len(batches)
            with self.parallel.no_sync() if waits else contextlib.nullcontext():
                losses = self.compute_losses(batch)
                self.scaler.scale(losses['total_loss'] / len(batches)).backward()
            parts.append({name: value.detach() for name, value in losses.items()})
        return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}

    def is_finite(self, losses: Losses) -> bool:
        """Whether the loss and all gradients are numbers; waits for the GPU.

        Under a gradient scaler only the loss counts: it skips steps whose float16 gradients overflow.
        """
        value = losses['total_loss']
        if not self.scaler.is_enabled():
            gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
            # One kernel for many tensors, as torch.nn.utils.clip_grad_norm_ has it.
            value = value + torch.stack(torch._foreach_norm(gradients)).sum()
        return bool(value.isfinite())

    def update(self, iteration: int) -> Losses:
        """The optimiser at the schedule's learning rate, then the moving average.

        Returns, with a gradient scaler, how many steps it has skipped since the start.
        """
        set_lr(self.optimizer, self.schedule.lr(iteration))
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped += self.scaler.get_scale() < scale
        if self.average is not None:
            self.average.update_parameters(self.model)
        return {'skipped_steps': torch.tensor(self.skipped)} if self.scaler.is_enabled() else {}
