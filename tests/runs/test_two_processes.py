"""Two processes that train as one: the same steps, and the same end of both when something goes wrong on one."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from easydict import EasyDict

from cvpack import checkpoint, dist
from cvpack.files import read_json
from cvpack.solver import Schedule, scale_schedule
from lib import engine
from lib.config import override
from lib.loader import train_loader, train_samples
from lib.models.mspn import build_mspn
from lib.training import Trainer
from tests.support.commands import stop_and_fail, world
from tests.support.networks import OneLayer
from tests.support.ports import free_port
from tests.support.settings import fast_settings, load_config, tiny_settings

EXPERIMENT = 'mspn.2xstg.coco'
CPU = torch.device('cpu')


def step_settings(root: Path, folder: Path) -> list[str]:
    return [*tiny_settings(root, folder), 'SOLVER.OPTIMIZER=SGD', 'DATALOADER.NUM_WORKERS=0']


def trainer_and_batches(settings: list[str], batches: int) -> tuple[Trainer, Iterator]:
    """In float64, where rounding cannot hide a difference, or make one; BatchNorm in eval."""
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    torch.manual_seed(0)
    model = build_mspn(cfg).double()
    model.register_forward_pre_hook(lambda _, inputs: tuple(images.double() for images in inputs))
    trainer = Trainer(cfg, model, scale_schedule(Schedule(5e-4, 1, 1, 2, 0.1), 2, 8), CPU)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return trainer, iter(train_loader(cfg, train_samples(cfg), first=0, batches=batches))


class Exploding(OneLayer):
    """A network whose heatmaps are not numbers from the fourth step of rank 1 on."""

    def __init__(self, cfg: EasyDict) -> None:
        super().__init__(cfg)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        outputs = super().forward(images)
        if self.training and self.steps >= 4 and dist.rank() == 1:
            outputs[0][0] = outputs[0][0] * float('nan')
        return outputs


def take_steps(rank: int, root: Path, folder: Path) -> None:
    """Three steps of SGD."""
    dist.setup('cpu')
    trainer, batches = trainer_and_batches(step_settings(root, folder), 3)
    losses = [trainer.step(i, batch).losses['total_loss'] for i, batch in enumerate(batches, start=1)]
    torch.save({'losses': losses, 'model': trainer.model.state_dict()}, folder / f'{rank}.pth')


def explode(rank: int, root: Path, folder: Path) -> None:
    sys.argv = ['train.py', '--set', *tiny_settings(root, folder), 'SOLVER.CHECKPOINT_PERIOD=1']
    engine.train(load_config(EXPERIMENT), Exploding)


def stop_unsaved(rank: int, root: Path, folder: Path) -> None:
    """Rank 1 is asked to stop at the second iteration, whose checkpoint finds no room."""
    sys.argv = ['train.py', '--set', *fast_settings(root, folder), 'SOLVER.ACCUM_STEPS=4']
    with pytest.MonkeyPatch.context() as patch:
        stop_and_fail(patch, 2, number=signal.SIGTERM if rank else None)
        engine.train(load_config(EXPERIMENT), OneLayer)


SCENARIOS = (take_steps, explode, stop_unsaved)


def play(rank: int, root: Path, folder: Path, ports: list[int]) -> None:
    """One of the two processes: every scenario in a folder of its name, where it leaves its exit code."""
    torch.set_num_threads(1)
    for scenario, port in zip(SCENARIOS, ports):
        os.environ.update(world(rank, 2, port))
        own, code = folder / scenario.__name__, 0
        own.mkdir(exist_ok=True)
        try:
            scenario(rank, root, own)
        except SystemExit as stop:
            code = stop.code
        dist.cleanup()
        (own / f'code.{rank}').write_text(str(code))


@pytest.fixture(scope='module')
def played(synthetic_coco, tmp_path_factory) -> Path:
    """What the scenarios left: two processes play them all, since to start one takes longer than any of them."""
    folder = tmp_path_factory.mktemp('played')
    ports = [free_port() for _ in SCENARIOS]
    torch.multiprocessing.spawn(play, (synthetic_coco, folder, ports), nprocs=2)
    return folder


def codes(folder: Path) -> list[int]:
    return [int((folder / f'code.{rank}').read_text()) for rank in range(2)]


def test_two_processes_are_one_with_accumulated_gradients(played, synthetic_coco, tmp_path):
    """The same samples: one process takes the ranks' blocks of three one after the other."""
    ranks = [torch.load(played / f'take_steps/{rank}.pth', weights_only=True) for rank in range(2)]
    trainer, blocks = trainer_and_batches(step_settings(synthetic_coco, tmp_path), 6)
    for iteration in range(3):
        loss = trainer.step(iteration + 1, next(blocks), next(blocks)).losses['total_loss']
        assert loss == pytest.approx(sum(rank['losses'][iteration] for rank in ranks) / 2, rel=1e-9)
    for name, value in trainer.model.state_dict().items():
        for rank in range(2):
            torch.testing.assert_close(ranks[rank]['model'][name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_numbers_gone_wrong_on_one_rank_stop_all(played):
    folder = played / 'explode'
    assert codes(folder) == [3, 3]
    # CHECKPOINT_PERIOD is for 8 processes: 4 iterations here, so nothing was saved before or of the fourth.
    assert checkpoint.iterations(folder) == []
    report = read_json(folder / 'not-finite-iter-4.json')
    assert report['iteration'] == 4 and [rank['rank'] for rank in report['ranks']] == [0, 1]
    good, bad = (rank['losses']['total_loss'] for rank in report['ranks'])
    assert isinstance(good, float) and bad == 'nan'
    for rank in report['ranks']:
        assert len(rank['images']) == 3 and all(Path(image).is_file() for image in rank['images'])


def test_ranks_agree_that_nothing_was_saved(played):
    assert codes(played / 'stop_unsaved') == [2, 2]
    assert checkpoint.iterations(played / 'stop_unsaved') == [1]
