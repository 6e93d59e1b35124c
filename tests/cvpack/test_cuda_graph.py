"""Steps replayed as a CUDA graph: all but the graph itself, in whose place a stand-in calls the function again."""

import contextlib
import gc
import random
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cvpack.cuda_graph import CudaGraph, capture_graph
from cvpack.ema import EMA
from cvpack.errors import InputError
from cvpack.logger import get_logger
from cvpack.solver import Schedule, build_optimizer
from cvpack.trainer import TrainStep
from lib.config import override
from lib.models.mspn import build_mspn
from lib.training import Trainer, build_schedule
from tests.support.settings import load_config, tiny_settings

CPU = torch.device('cpu')


def captured(run):
    """As a graph has it: capturing computes nothing that lasts, and every replay writes where the first would."""
    memory = [torch.zeros(())]

    def replay() -> None:
        result = run()
        memory[0].resize_(result.shape).copy_(result)

    return replay, memory[0]


def batch(*numbers: float) -> dict[str, torch.Tensor]:
    return {'x': torch.tensor(numbers)}


def replayed(function, warm_up: int = 2, capture=captured) -> tuple[CudaGraph, list[str]]:
    said = []
    return CudaGraph(function, CPU, warm_up, 'SOLVER.CUDA_GRAPH', said.append, capture=capture), said


def test_every_call_has_its_own_batch():
    calls = []
    function = lambda one, two: calls.append(one['x'].data_ptr()) or one['x'] + 10 * two['x']  # noqa: E731
    replay, said = replayed(function)
    results = [replay(batch(k, k), batch(1, 2)).clone().tolist() for k in range(5)]
    assert results == [[k + 10, k + 20] for k in range(5)] and not said
    assert len({*calls[2:]}) == 1, 'replays read the memory that was captured'


def test_a_batch_of_another_size_runs_by_itself():
    replay, said = replayed(lambda one: one['x'].sum())
    sizes = [replay(batch(*range(n))).item() for n in (3, 3, 3, 2, 3)]
    assert sizes == [3, 3, 3, 1, 3] and not said


@pytest.mark.parametrize(
    'draw', [lambda: torch.rand(1).item(), random.random, np.random.rand], ids=['torch', 'py', 'np']
)
def test_random_numbers_of_the_host_are_drawn_each_time(draw):
    replay, said = replayed(lambda one: one['x'] + draw())
    assert len({replay(batch(0)).item() for _ in range(5)}) == 5
    assert replay.graph is None and len(said) == 1 and 'random numbers on the host' in said[0]


def test_what_cannot_be_captured_is_refused():
    def capture(run):
        raise RuntimeError('operation not permitted when stream is capturing\nlong advice')

    replay, said = replayed(lambda one: 2 * one['x'], capture=capture)
    assert [replay(batch(k)).item() for k in range(2)] == [0, 2] and not said
    with pytest.raises(InputError, match=r'SOLVER\.CUDA_GRAPH.*not permitted when stream is capturing\)') as error:
        replay(batch(2))
    assert 'advice' not in str(error.value)


def test_the_collector_frees_nothing_inside_a_capture(monkeypatch):
    """An earlier graph, in a cycle, goes before; a capture inside which one is freed fails."""
    monkeypatch.setattr(torch.cuda, 'CUDAGraph', lambda: SimpleNamespace(replay=None))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda: None)
    monkeypatch.setattr(torch.cuda, 'graph', lambda graph, **_: contextlib.nullcontext())
    earlier = threading.Event()
    earlier.itself, alive = earlier, weakref.ref(earlier)
    del earlier

    def run() -> torch.Tensor:
        assert alive() is None and not gc.isenabled()
        return torch.zeros(())

    capture_graph(run)
    assert gc.isenabled()


def test_replayed_training_is_eager_training():
    """Weights, moving average and outcomes of two accumulated batches an iteration, a short one among them."""

    def train(wrap) -> tuple[list[float], list[list[float]]]:
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 1)
        schedule = Schedule(base_lr=0.1, max_iter=9, checkpoint_period=9, warmup_iters=3, warmup_factor=0.1)
        optimizer, ema = build_optimizer('Adam', network.parameters(), 0.1, 0), EMA(network, 0.9)
        scaler = torch.amp.GradScaler('cpu', enabled=False)
        step = TrainStep(
            lambda batch: {'total_loss': network(batch['x']).square().mean()},
            optimizer,
            schedule,
            scaler,
            network,
            ema,
        )
        step.compute = wrap(step.compute)
        batches = torch.randn(9, 2, 4, 3)
        outcomes = [
            step(i, *({'x': part[: 2 if i == 7 else 4]} for part in pair)) for i, pair in enumerate(batches, start=1)
        ]
        assert ema.updates == 9
        weights = [*network.parameters(), *ema.module.parameters()]
        return [outcome.losses['total_loss'] for outcome in outcomes], [weight.tolist() for weight in weights]

    replays = []
    assert train(lambda compute: replays.append(replayed(compute)[0]) or replays[0]) == train(lambda compute: compute)
    assert replays[0].graph is not None and len(replays[0].graph.inputs) == 2


def test_the_log_says_why_there_is_no_graph(synthetic_coco, tmp_path, capsys):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.CUDA_GRAPH=True', 'SOLVER.PRECISION=fp16'])
    get_logger()
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), CPU)
    assert not isinstance(trainer.step.compute, CudaGraph)
    reasons = [line.partition('since ')[2] for line in capsys.readouterr().out.splitlines()]
    assert reasons == ['there is no GPU', 'the gradient scale of fp16 changes between steps']
