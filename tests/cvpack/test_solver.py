"""The learning rate, the batch rule and the optimiser's steps against the published run's."""

from pathlib import Path

import pytest
import torch

from cvpack.errors import InputError
from cvpack.files import read_json
from cvpack.solver import Schedule, build_optimizer, load_optimizer, scale_schedule, set_lr
from cvpack.trainer import TrainStep
from lib.models.loss import build_loss
from lib.models.mspn import build_mspn
from lib.training import build_schedule
from tests.support.networks import fill, golden_batch
from tests.support.settings import load_config


def published_schedule(experiment: str, gpus: int) -> Schedule:
    return build_schedule(load_config(experiment), gpus)


def coco_schedule(gpus: int) -> Schedule:
    return published_schedule('mspn.2xstg.coco', gpus)


def test_learning_rates_are_the_published_ones(golden):
    for gpus, expected in read_json(golden / 'lr.json').items():
        schedule = coco_schedule(int(gpus))
        assert schedule.max_iter == expected['max_iter']
        assert schedule.checkpoint_period == expected['checkpoint_period']
        for iteration, lr in expected['lr'].items():
            assert schedule.lr(int(iteration)) == pytest.approx(lr, rel=1e-9, abs=1e-15), (gpus, iteration)


@pytest.mark.parametrize(
    ('iteration', 'lr'),
    [(1, 0.0004015), (1200, 0.0022), (2400, 0.004), (48000, 0.002051282051282), (96000, 0.0)],
)
def test_learning_rates_on_8_gpus(iteration, lr):
    assert coco_schedule(8).lr(iteration) == pytest.approx(lr, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize('gpus', [1, 2, 100, 320, 512, 4096, 10**6])
def test_the_learning_rate_decays_on_any_number_of_gpus(gpus):
    schedule = coco_schedule(gpus)
    assert 1 <= schedule.warmup_iters <= 2400 and schedule.max_iter >= 1
    assert schedule.lr(schedule.warmup_iters) == pytest.approx(5e-4 * gpus)
    assert schedule.lr(schedule.max_iter) == 0 or schedule.max_iter == 1


@pytest.mark.parametrize(
    ('gpus', 'iterations', 'warmup'), [(64, 12000, 2400), (128, 6000, 2400), (213, 3605, 2400), (320, 2400, 1600)]
)
def test_the_warm_up_is_the_published_one_unless_it_would_take_most_of_the_run(gpus, iterations, warmup):
    schedule = coco_schedule(gpus)
    assert (schedule.max_iter, schedule.warmup_iters) == (iterations, warmup)


def test_the_warm_up_of_mpii_on_64_gpus_is_the_published_one():
    schedule = published_schedule('mspn.2xstg.mpii', 64)
    assert (schedule.max_iter, schedule.warmup_iters) == (3600, 2400)


@pytest.mark.parametrize(
    ('experiment', 'processes', 'iterations', 'period'),
    [
        ('mspn.1xstg.lspet', 1, 1000, 248),
        ('mspn.1xstg.lspet', 2, 500, 124),
        ('mspn.1xstg.lspet', 8, 125, 31),
        ('mspn.2xstg.toy', 1, 3520, 880),
        ('mspn.2xstg.toy', 2, 1760, 440),
        ('mspn.2xstg.toy', 8, 440, 110),
    ],
)
def test_experiments_for_one_machine_mean_what_they_say(experiment, processes, iterations, period):
    schedule = published_schedule(experiment, processes)
    assert (schedule.max_iter, schedule.checkpoint_period) == (iterations, period)


def test_a_run_shorter_than_its_warm_up():
    schedule = Schedule(base_lr=1.0, max_iter=4, checkpoint_period=4, warmup_iters=4, warmup_factor=0.1)
    assert [schedule.lr(k) for k in range(1, 5)] == pytest.approx([0.325, 0.55, 0.775, 1.0])


def test_a_cosine_decays_from_the_warm_up_to_zero():
    cfg = load_config('mspn.2xstg.coco')
    cfg.SOLVER.SCHEDULE = 'cosine'
    schedule = build_schedule(cfg, 8)
    rates = [schedule.lr(k) for k in (1200, 2400, 25800, 49200, 72600, 96000)]
    expected = [0.0022, 0.004, 0.002 * (1 + 0.5**0.5), 0.002, 0.002 * (1 - 0.5**0.5), 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_steps_are_the_published_ones(golden):
    """Three steps of Adam: catches a wrong LR, weight decay, or order of optimiser and schedule.

    Slow: a full-size network in float64.
    """
    expected = read_json(golden / 'adam.json')
    cfg = load_config(expected['experiment'])
    model = fill(build_mspn(cfg).double()).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    images, visibility, labels = golden_batch(2, 17, 256, 192)
    criterion = build_loss(cfg)
    s = cfg.SOLVER
    schedule = scale_schedule(Schedule(s.BASE_LR, 2, 2, 4, s.WARMUP_FACTOR), 1, 8)
    step = TrainStep(
        lambda batch: criterion(model(batch), visibility, labels),
        build_optimizer(s.OPTIMIZER, model.parameters(), s.WEIGHT_DECAY, s.MOMENTUM),
        schedule,
        torch.amp.GradScaler('cpu', enabled=False),
        model,
    )
    for iteration, norms in enumerate(expected['change_norm'], start=1):
        assert schedule.lr(iteration) == pytest.approx(expected['lr'][iteration - 1], rel=1e-12)
        step(iteration, images)
        for name, parameter in model.named_parameters():
            if not name.endswith('.conv.bias'):
                change = (parameter.detach() - before[name]).norm().item()
                assert change == pytest.approx(norms[name], rel=1e-6), (iteration, name)


def test_momentum_that_a_resume_begins_starts_at_zero():
    """Though the first step is skipped."""
    parameter = torch.nn.Parameter(torch.ones(3))
    without, with_it = (build_optimizer('SGD', [parameter], weight_decay=0, momentum=m) for m in (0, 0.9))
    load_optimizer(with_it, without.state_dict(), Path('a.pth'))
    assert with_it.state[parameter]['momentum_buffer'].eq(0).all()


def test_sgd_can_be_chosen():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer('SGD', [parameter], weight_decay=0.1, momentum=0.9)
    step = TrainStep(
        lambda batch: {'total_loss': 2 * parameter.sum()},
        optimizer,
        Schedule(base_lr=0.1, max_iter=10, checkpoint_period=10, warmup_iters=0, warmup_factor=0.1),
        torch.amp.GradScaler('cpu', enabled=False),
        torch.nn.Identity(),
    )
    step(1, None)
    # Gradient 2, weight decay 0.1 * 1, LR 0.1 * 0.9.
    assert parameter.item() == pytest.approx(1 - 0.09 * 2.1)


@pytest.mark.parametrize(('name', 'expected'), [('Adam', 1 - 0.1), ('AdamW', 1 - 0.1 * (1 + 0.5))])
def test_the_weight_decay_of_adamw_is_decoupled_from_the_gradient(name, expected):
    """In Adam the penalty only changes the gradient, which the first step divides by its own size."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer(name, [parameter], weight_decay=0.5, momentum=0.9)
    set_lr(optimizer, 0.1)
    (2 * parameter.sum()).backward()
    optimizer.step()
    assert parameter.item() == pytest.approx(expected, rel=1e-6)


def test_a_saved_optimizer_goes_on_under_this_run_s_options():
    """Its moments come from the file; weight decay and implementation are this run's (published files lack them)."""
    parameters, file = [torch.nn.Parameter(torch.ones(2))], Path('iter-8.pth')
    saved = torch.optim.Adam(parameters, lr=0.5, weight_decay=0.3)
    parameters[0].grad = torch.ones(2)
    saved.step()
    state = saved.state_dict()
    del state['param_groups'][0]['fused']
    optimizer = build_optimizer('Adam', parameters, weight_decay=1e-5, momentum=0.9)
    load_optimizer(optimizer, state, file)
    assert optimizer.param_groups[0]['weight_decay'] == 1e-5 and optimizer.param_groups[0]['fused']
    assert optimizer.state[parameters[0]]['step'] == 1
    optimizer.step()
    with pytest.raises(InputError, match=r'another optimiser: set SOLVER\.OPTIMIZER'):
        load_optimizer(build_optimizer('SGD', parameters, 0, 0.9), state, file, 'SOLVER.OPTIMIZER')
    with pytest.raises(InputError, match='another number of parameters'):
        load_optimizer(build_optimizer('Adam', [*parameters, torch.nn.Parameter(torch.ones(1))], 0, 0.9), state, file)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match='LAMB'):
        build_optimizer('LAMB', [], 0, 0)
