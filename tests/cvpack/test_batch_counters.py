"""BatchNorm's counters added together: what they would be without it, in one operation."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cvpack.batch_counters import FusedCounters
from cvpack.solver import Schedule, scale_schedule
from lib.config import override
from lib.models.mspn import build_mspn
from lib.training import Trainer
from tests.support.settings import load_config, tiny_settings


class Adds(TorchDispatchMode):
    """Counts the operations that add to a counter: an integer tensor without dimensions, or several."""

    def __init__(self) -> None:
        super().__init__()
        self.single = self.together = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._foreach_add_.Scalar:
            self.together += args[0][0].dtype == torch.int64
        elif function is torch.ops.aten.add_.Tensor:
            self.single += args[0].dtype == torch.int64 and args[0].dim() == 0
        return function(*args, **(kwargs or {}))


class OwnForward(nn.BatchNorm1d):
    """A norm that needs its counter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_batches_tracked.add_(1)
        return x * self.num_batches_tracked.item()


class Norms(nn.Module):
    """Every kind of norm: in order, one called twice, one not called, one in eval mode, and those that count alone."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Sequential(nn.BatchNorm1d(4), nn.SyncBatchNorm(4))
        self.twice, self.idle, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.cumulative = nn.BatchNorm1d(4, momentum=None)
        self.untracked, self.own = nn.BatchNorm1d(4, track_running_stats=False), OwnForward(4)
        self.frozen.eval()

    def forward(self, x: torch.Tensor, fails: bool = False) -> torch.Tensor:
        x = self.twice(self.twice(self.plain(x)))
        if fails:
            raise RuntimeError('as it happens')
        return self.own(self.untracked(self.cumulative(self.frozen(x))))


@pytest.mark.parametrize('fails', [False, True], ids=['whole', 'fails'])
def test_the_counters_are_what_they_would_be(fails):
    models = [Norms(), Norms()]
    storages = {name: buffer.data_ptr() for name, buffer in models[1].named_buffers()}
    together = FusedCounters(models[1])
    x = torch.randn(8, 4)
    for model, context in zip(models, (contextlib.nullcontext(), together)):
        model(x)
        with contextlib.suppress(RuntimeError), context, Adds() as adds:
            model(x, fails)
    assert adds.single == 0 if fails else adds.single <= 2  # of the norms that count for themselves
    plain, counted = (model.state_dict() for model in models)
    assert list(plain) == list(counted)
    for name, value in plain.items():
        assert torch.equal(value, counted[name]), name
    assert {name: buffer.data_ptr() for name, buffer in models[1].named_buffers()} == storages
    assert counted['twice.num_batches_tracked'] == 4 and counted['idle.num_batches_tracked'] == 0


@pytest.mark.parametrize('efficient', [False, True], ids=['plain', 'efficient'])
def test_a_step_adds_to_all_counters_at_once(synthetic_coco, tmp_path, efficient):
    """Once for each of the accumulated batches, however often their activations are computed."""
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'MODEL.STAGE_NUM=1', f'RUN_EFFICIENT={efficient}'])
    trainer = Trainer(cfg, build_mspn(cfg), scale_schedule(Schedule(5e-4, 2, 1, 2, 0.1), 1, 8), torch.device('cpu'))
    batch = {'image': torch.zeros(2, 64, 64, 3, dtype=torch.uint8), 'keypoints': torch.ones(2, 17, 3)}
    with Adds() as adds:
        trainer.step(1, batch, batch)
    assert adds.together == 2
    # Recomputed activations count on copies of the counters.
    assert efficient or adds.single == 0
    counters = [value for name, value in trainer.state(1)['model'].items() if name.endswith('num_batches_tracked')]
    assert len(counters) > 30 and {counter.item() for counter in counters} == {2}
