"""Compiled blocks: the eager network's numbers, code that stages share, and a run that works as ever around them."""

import copy
import os
import shutil
from functools import partial

import pytest
import torch
from torch import nn

from cvpack.errors import InputError
from cvpack.solver import Schedule, scale_schedule
from lib.config import override
from lib.inference import build_estimator
from lib.loader import train_loader, train_samples
from lib.models.compiled import compile_blocks
from lib.models.mspn import MSPN
from lib.models.resnet import BasicBlock, ConvBNReLU
from lib.training import Trainer
from lib.training import trainer as training
from tests.support.networks import Level, OneLayer, steps
from tests.support.settings import load_config, tiny_settings


class Graphs(list):
    """A backend that compiles nothing, and keeps what it is given to compile."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> object:
        self.append(graph)
        return graph.forward


@pytest.fixture
def graphs():
    from torch import _dynamo  # takes a second

    names = 'recompile_limit', 'cache_size_limit', 'optimize_ddp'  # of one limit: its name since torch 2.6, and before
    with _dynamo.config.patch({name: getattr(_dynamo.config, name) for name in names if hasattr(_dynamo.config, name)}):
        _dynamo.reset()
        _dynamo.utils.counters.clear()
        yield Graphs()
        _dynamo.reset()


class Small(nn.Module):
    """An own network that has blocks of ours, alike but for one."""

    def __init__(self, cfg) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.Sequential(*(BasicBlock(8, 8, stride=1) for _ in range(3)))
        self.head = ConvBNReLU(8, cfg.DATASET.KEYPOINT.NUM, 1, relu=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[list[torch.Tensor]]:
        maps = self.head(self.blocks(self.stem(images)))
        return [[maps] * 4] if self.training else maps


def assert_same(values: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert list(values) == list(expected)
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name], **tolerance, msg=name)


def test_stages_share_their_code(graphs):
    """What two stages need serves four, in the first step and in later ones; the numbers are the eager network's."""
    images, kinds = torch.randn(2, 3, 64, 64), []
    for stages in (2, 4):
        torch.manual_seed(0)
        model = MSPN(stages, num_keypoints=3, channels=8, backbone='Res-18', width=8)
        eager = copy.deepcopy(model)
        assert compile_blocks(model, graphs) == 1 + 12 * stages
        assert_same(steps(model, images), steps(eager, images))
        kinds.append(len(graphs))
    # The stem, 7 residual blocks, and 4 units of the way up that feed a next stage and 4 that do not.
    assert kinds == [16, 16]
    assert not torch._dynamo.utils.counters['graph_break']


def test_any_number_of_different_blocks_is_compiled(graphs):
    model = nn.Sequential(*(ConvBNReLU(width, width + 1, 1) for width in range(1, 15)))
    compile_blocks(model, graphs)
    model(torch.randn(2, 1, 4, 4))
    assert len(graphs) == 14


def trainer_of(cfg, network=Small) -> Trainer:
    torch.manual_seed(0)
    return Trainer(cfg, network(cfg), scale_schedule(Schedule(5e-4, 4, 1, 2, 0.1), 1, 8), torch.device('cpu'))


def settings(synthetic_coco, tmp_path, *options: str):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0', 'SOLVER.EMA=0.9', *options])
    return cfg


@pytest.fixture
def one_process():
    """A process group of this process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_run_of_compiled_blocks(synthetic_coco, tmp_path, monkeypatch, graphs, one_process):
    """In DistributedDataParallel, with a moving average: its steps, its checkpoint, and the copy that is validated."""
    compiled = []
    monkeypatch.setattr(training, 'compile_blocks', lambda model: compiled.append(compile_blocks(model, graphs)))
    plain, ours = (settings(synthetic_coco, tmp_path, f'SOLVER.COMPILE={flag}') for flag in (False, True))
    batches = list(train_loader(plain, train_samples(plain), first=0, batches=3))
    trainers = [trainer_of(plain), trainer_of(ours)]
    assert compiled == [4] and isinstance(trainers[1].step.parallel, nn.parallel.DistributedDataParallel)
    for iteration, batch in enumerate(batches[:2], start=1):
        losses = [trainer.step(iteration, batch).losses['total_loss'] for trainer in trainers]
        torch.testing.assert_close(*losses)
    assert len(graphs) == 2  # of three residual blocks that are alike, and the head
    expected, state = (trainer.state(2) for trainer in trainers)
    for part in ('model', 'ema'):
        assert_same(state[part], expected[part])
    network = build_estimator(ours, trainers[1].network_to_test(), torch.device('cpu')).network
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.save(state, tmp_path / 'iter-2.pth')
    again = trainer_of(ours)
    again.resume(tmp_path / 'iter-2.pth', None)
    losses = [trainer.step(3, batches[2]).losses['total_loss'] for trainer in (trainers[1], again)]
    assert losses[0] == losses[1] and len(graphs) == 2


def test_a_network_without_blocks_of_ours_is_compiled_whole(synthetic_coco, tmp_path, graphs):
    model = OneLayer(settings(synthetic_coco, tmp_path))
    assert compile_blocks(model, graphs) == 0
    model(torch.randn(2, 3, 64, 64))
    assert len(graphs) == 1


def test_too_few_values_for_a_compiled_block(synthetic_coco, tmp_path, monkeypatch, graphs):
    monkeypatch.setattr(training, 'compile_blocks', partial(compile_blocks, backend=graphs))
    cfg = settings(synthetic_coco, tmp_path, 'SOLVER.COMPILE=True', 'SOLVER.IMS_PER_GPU=1')
    trainer = trainer_of(cfg, lambda cfg: nn.Sequential(nn.AvgPool2d(64), ConvBNReLU(3, 17, 1)))
    batch = {'image': torch.zeros(1, 64, 64, 3, dtype=torch.uint8), 'keypoints': torch.ones(1, 17, 3)}
    with pytest.raises(InputError, match='leave a BatchNorm a single value per channel'):
        trainer.step(1, batch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get('CXX', 'g++')) is None, reason='no C++ compiler')
def test_generated_code_is_the_eager_network(graphs):
    """Slow, since a C++ compiler builds the code."""
    torch.manual_seed(0)
    images, model = torch.randn(2, 16, 16, 16), Level()
    eager = copy.deepcopy(model)
    assert compile_blocks(model) == 2
    assert_same(steps(model, images), steps(eager, images), rtol=1e-4, atol=1e-5)
