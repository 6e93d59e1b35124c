"""The training loop and the training step."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from cvpack import dist
from cvpack.ema import EMA
from cvpack.errors import NotFinite, Preempted
from cvpack.preemption import StopRequest
from cvpack.solver import Schedule, set_lr

Losses = dict[str, torch.Tensor]

# How many iterations a GPU may lag behind the host: while it computes one, the host launches the next.
GPU_LAG = 1


class Outcome:
    """The result of an iteration, which the device may still be computing; only reading it waits for that.

    values: the losses, named by `names`, then 0, or NaN once any number of the run was not finite
    """

    def __init__(self, iteration: int, names: list[str], values: torch.Tensor) -> None:
        self.iteration, self.names = iteration, names
        self.values = values.to('cpu', non_blocking=True, copy=True)  # from a GPU into pinned memory
        self.done = None
        if values.is_cuda:
            self.done = torch.cuda.Event()
            self.done.record()

    def _read(self) -> list[float]:
        if self.done is not None:
            dist.wait_for_gpu(self.done)
        return self.values.tolist()

    @property
    def losses(self) -> dict[str, float]:
        """The mean losses of this process's batches."""
        return dict(zip(self.names, self._read()))

    @property
    def is_wrong(self) -> bool:
        """Whether a loss or gradient was not finite, now or earlier; the update was skipped."""
        return math.isnan(self._read()[-1])


def train_loop(
    step: 'TrainStep',
    loader: Iterable,
    start: int,
    schedule: Schedule,
    log: Callable[[int, float, dict[str, float]], None],
    save: Callable[[int], None],
    accumulate: int,
    stop: StopRequest,
) -> None:
    """Runs `step` for iterations `start` + 1 to `schedule.max_iter`, each of `accumulate` batches.

    log:  called for every iteration
    save: called every checkpoint period, at the end, and before stopping

    A GPU's outcomes are read `step.lag` iterations late, so that it never waits for the host; before a save all are.

    Raises NotFinite on all ranks if a loss or gradient of any rank was not finite, before it changed a weight; and
    Preempted on all ranks, after saving, if any was asked to stop.
    """
    unread: deque[Outcome] = deque()

    def read(leave: int) -> bool:
        """Reads all but the last `leave` outcomes; returns whether to stop."""
        stopping = False
        while len(unread) > leave:
            outcome = unread.popleft()
            wrong, stopping = dist.any_rank(outcome.is_wrong, stop.requested)
            if wrong:
                raise NotFinite(outcome.iteration, outcome.losses)
            log(outcome.iteration, schedule.lr(outcome.iteration), outcome.losses)
        return stopping

    for iteration, batches in enumerate(zip(*[iter(loader)] * accumulate), start=start + 1):
        unread.append(step(iteration, *batches))
        due = iteration % schedule.checkpoint_period == 0 or iteration == schedule.max_iter
        stopping = read(leave=0 if due else step.lag)
        if due or stopping:
            read(leave=0)
            save(iteration)
        if stopping:
            raise Preempted(iteration)


class TrainStep:
    """One iteration: the gradients of one or more batches, then the optimiser and the EMA.

    It never waits for the device, unless the network does. Once a loss or gradient is not finite, all further updates
    are skipped, by the device itself, and the outcome says so.

    compute_losses: batch -> losses, with the one to minimise under 'total_loss'; has its own autocast
    optimizer:      a fused one, which can skip an update
    scaler:         scales float16 gradients, and skips updates whose gradients overflow; disabled for other dtypes
    model:          the network, in DistributedDataParallel if there is a process group
    ema:            the EMA of the weights, or None
    seed:           of the random numbers that the network draws

    lag:     after how many iterations an outcome is best read
    compute: the work on the device, which may be replaced by a CudaGraph of it
    """

    def __init__(
        self,
        compute_losses: Callable[[Any], Losses],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        scaler: torch.amp.GradScaler,
        model: nn.Module,
        ema: EMA | None = None,
        seed: int = 0,
    ) -> None:
        self.compute_losses = compute_losses
        self.optimizer, self.schedule, self.scaler = optimizer, schedule, scaler
        self.parallel = model if isinstance(model, nn.parallel.DistributedDataParallel) else None
        self.ema, self.seed = ema, seed
        device = optimizer.param_groups[0]['params'][0].device
        self.lag = GPU_LAG if device.type == 'cuda' else 0
        # 0 while all numbers are finite, then NaN: 0 times anything that is not finite.
        self.taint = torch.zeros((), device=device)
        self.skipped = torch.zeros((), device=device)
        self.names: list[str] = []
        self.compute: Callable[..., torch.Tensor] = self._compute

    def __call__(self, iteration: int, *batches: Any) -> Outcome:
        # The network's random numbers (dropout) follow from the iteration, so that resuming repeats them.
        torch.manual_seed((self.seed * 1_000_003 + iteration) * dist.world_size() + dist.rank())
        set_lr(self.optimizer, self.schedule.lr(iteration))
        values = self.compute(*batches)
        if self.ema is not None:
            self.ema.updates += 1
        return Outcome(iteration, self.names, values)

    def _compute(self, *batches: Any) -> torch.Tensor:
        """An iteration's work on the device; returns what Outcome reads. A replay leaves host state unchanged."""
        losses = self._gradients(batches)
        self._update()
        if self.scaler.is_enabled():
            losses['skipped_steps'] = self.skipped
        self.names = list(losses)
        return torch.stack([*(value.to(losses['total_loss'].dtype) for value in losses.values()), self.taint])

    def _gradients(self, batches: tuple[Any, ...]) -> Losses:
        """Forward and backward pass of every batch: the mean gradient, exchanged once. Returns the mean losses."""
        self.optimizer.zero_grad(set_to_none=True)  # now, to free their memory for the activations
        sums: Losses = {}
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            with contextlib.nullcontext() if self.parallel is None or is_last else self.parallel.no_sync():
                losses = self.compute_losses(batch)
                total = losses['total_loss']
                self.taint += 0 * total.detach()
                # A factor of 1; or NaN, which makes every gradient NaN, on all ranks, and all skip the update.
                self.scaler.scale(total / len(batches) * (1 + self.taint)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return {name: value / len(batches) for name, value in sums.items()}

    def _update(self) -> None:
        """The optimiser, then the EMA; neither changes a weight if the gradients are not finite.

        A gradient scaler skips steps whose float16 gradients overflow, which is no reason to stop.
        """
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        # One kernel for many tensors, as in torch.nn.utils.clip_grad_norm_.
        size = torch.stack(torch._foreach_norm(gradients)).sum()
        if self.scaler.is_enabled():
            self.skipped += ~size.isfinite()
        else:
            self.taint += 0 * size
            self.optimizer.found_inf = self.taint.isnan().float()  # type: ignore[attr-defined]  # read by fused ones
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(gate=(~self.taint.isnan()).float())
