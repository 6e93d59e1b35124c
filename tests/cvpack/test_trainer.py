"""Steps whose numbers go wrong, and float16 steps that are left out."""

import math

import pytest
import torch

from cvpack.ema import EMA
from cvpack.errors import NotFinite
from cvpack.preemption import StopRequest
from cvpack.solver import Schedule, build_optimizer
from cvpack.trainer import Outcome, TrainStep, train_loop


@pytest.mark.parametrize('lag', [0, 1])
@pytest.mark.parametrize(('where', 'precision'), [('loss', 'fp32'), ('gradient', 'fp32'), ('loss', 'fp16')])
def test_weights_do_not_change_once_numbers_go_wrong(where, precision, lag):
    """Neither those of the network nor of its average, though a GPU's host learns of it an iteration later."""
    network = torch.nn.Linear(1, 1, bias=False)

    def losses(batch: float) -> dict[str, torch.Tensor]:
        zero = network.weight - network.weight.detach()
        wrong = {'loss': torch.tensor(torch.inf), 'gradient': zero.sqrt().sum()}[where]  # which has no derivative at 0
        return {'total_loss': batch * network.weight.sum() + (wrong if batch == 3 else 0)}

    schedule = Schedule(base_lr=0.1, max_iter=5, checkpoint_period=5, warmup_iters=0, warmup_factor=0.1)
    optimizer, ema = build_optimizer('SGD', network.parameters(), 0, 0.9), EMA(network, 0.5)
    scaler = torch.amp.GradScaler('cpu', enabled=precision == 'fp16')
    step = TrainStep(losses, optimizer, schedule, scaler, network, ema)
    step.lag, seen, logged = lag, [], []

    def watched(iteration: int, batch: float) -> Outcome:
        outcome = step(iteration, batch)
        seen.append((network.weight.item(), ema.module.weight.item()))
        return outcome

    watched.lag = lag
    with pytest.raises(NotFinite, match='iteration 3') as stop:
        log = lambda iteration, lr, losses: logged.append(iteration)  # noqa: E731
        train_loop(watched, [1.0, 2.0, 3.0, 4.0, 5.0], 0, schedule, log, pytest.fail, 1, StopRequest())
    assert logged == [1, 2] and len(seen) == 3 + lag
    assert seen[0] != seen[1] and {*seen[2:]} == {seen[1]}
    assert stop.value.iteration == 3 and math.isinf(stop.value.losses['total_loss']) == (where == 'loss')


@pytest.mark.parametrize('momentum', [0, 0.9])
def test_skipped_steps_of_float16_are_counted(momentum):
    parameter = torch.nn.Parameter(torch.ones(1))
    schedule = Schedule(base_lr=0.1, max_iter=9, checkpoint_period=9, warmup_iters=0, warmup_factor=0.1)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**127)
    step = TrainStep(
        lambda batch: {'total_loss': (parameter * batch).sum()},
        build_optimizer('SGD', [parameter], 0, momentum),
        schedule,
        scaler,
        torch.nn.Identity(),
    )
    outcomes = [step(iteration, 4.0) for iteration in (1, 2, 3, 4)]
    counts = [outcome.losses['skipped_steps'] for outcome in outcomes]
    assert counts == [1, 2, 2, 2]  # 4 * 2^127 and 4 * 2^126 are too much for float32
    assert not any(outcome.is_wrong for outcome in outcomes)
    rates = [schedule.lr(iteration) for iteration in (3, 4)]  # the first step that is taken is as any first one
    moved = 4 * rates[0] + 4 * (1 + momentum) * rates[1]
    assert parameter.item() == pytest.approx(1 - moved)
