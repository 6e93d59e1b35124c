"""Shared by all tests: golden numbers, real data beside the repository, and networks to compare."""

import importlib.util
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict

from lib.config import REPOSITORY
from lib.datasets.synthetic import write_dataset
from lib.models.mspn import build_mspn

PUBLISHED = (
    'mspn.1xstg.coco',
    'mspn.2xstg.coco',
    'mspn.3xstg.coco',
    'mspn.4xstg.coco',
    'mspn.4xstg.coco.384x288',
    'mspn.2xstg.mpii',
    'mspn.4xstg.mpii',
)


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of real data and what was computed from it ($MSPN_SHARED, default ../shared); skips where absent."""
    folder = Path(os.environ.get('MSPN_SHARED') or REPOSITORY.parent / 'shared')
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder} (set MSPN_SHARED)')
    return folder.resolve()


@pytest.fixture(scope='session')
def shared_golden(shared: Path) -> Path:
    """Numbers that the published implementation computed from the real images."""
    return shared / 'golden'


@pytest.fixture(scope='session')
def golden() -> Path:
    """Numbers that the published implementation computed from made-up input (tests/golden/README.md)."""
    return REPOSITORY / 'tests' / 'golden'


def load_config(experiment: str, folder: Path = REPOSITORY / 'exps') -> EasyDict:
    """The finalized configuration of an experiment, freshly made."""
    file = folder / experiment / 'config.py'
    spec = importlib.util.spec_from_file_location('experiment_config', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cfg


def fill(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives every entry of the state dict a value that follows from its key alone (golden/README.md)."""
    state = model.state_dict()
    for key, value in state.items():
        if key.endswith('num_batches_tracked'):
            continue
        numbers = np.random.RandomState(zlib.crc32(f'{seed}:{key}'.encode())).standard_normal(tuple(value.shape))
        *_, parent, name = key.split('.')
        if parent == 'bn':
            filled = {
                'weight': 0.6 + 0.1 * numbers,
                'bias': 0.1 * numbers,
                'running_mean': 0.1 * numbers,
                'running_var': 1 + 0.1 * np.abs(numbers),
            }[name]
        else:
            filled = numbers * np.sqrt(1 / np.prod(value.shape[1:])) if name == 'weight' else 0.1 * numbers
        value.copy_(torch.from_numpy(filled))
    return model


def golden_batch(
    batch: int, keypoints: int, height: int, width: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, visibility and labels of the golden network files, in float64."""
    r = np.random.RandomState(1000 + seed)
    images = r.standard_normal((batch, 3, height, width))
    visibility = r.choice([0.0, 1.0, 2.0], size=(batch, keypoints, 1), p=[0.2, 0.3, 0.5])
    labels = 2 * r.random_sample((batch, 5, keypoints, height // 4, width // 4)) ** 8
    return torch.from_numpy(images), torch.from_numpy(visibility), torch.from_numpy(labels)


@pytest.fixture(scope='session')
def synthetic_coco(tmp_path_factory) -> Path:
    """A small drawn data set in COCO's layout: 12 images to train on, 5 to test."""
    root = tmp_path_factory.mktemp('drawn') / 'people in cafés'
    write_dataset(root, train_images=12, val_images=5, seed=1)
    return root


def tiny_settings(root: Path, output: Path) -> list[str]:
    """--set values that make any COCO experiment a matter of seconds on one core."""
    return [
        f'DATASET.ROOT={root}',
        f'OUTPUT_DIR={output}',
        'INPUT_SHAPE=[64,64]',
        'MODEL.BACKBONE=Res-18',
        'MODEL.WIDTH=16',
        'MODEL.STAGE_NUM=2',
        'MODEL.UPSAMPLE_CHANNEL_NUM=16',
        'MODEL.WEIGHT=',
        'SOLVER.IMS_PER_GPU=3',
        'SOLVER.WARMUP_ITERS=2',
        'DATALOADER.NUM_WORKERS=1',
    ]


def fast_settings(root: Path, output: Path) -> list[str]:
    """The same for a run of 2 iterations on one process, a checkpoint at each."""
    run = ['SOLVER.IMS_PER_GPU=1', 'SOLVER.ACCUM_STEPS=8', 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.MAX_ITER=2']
    return [*tiny_settings(root, output), *run, 'DATALOADER.NUM_WORKERS=0', 'TEST.FLIP=False']


def earlier(config: dict) -> dict:
    """A plain configuration as versions wrote it that validated by TEST.DURING_TRAINING, here at every checkpoint."""
    solver = {key: value for key, value in config['SOLVER'].items() if key != 'REFERENCE_GPUS'}
    test = {**config['TEST'], 'DURING_TRAINING': 1, 'DURING_TRAINING_IMAGES': 50}
    others = {key: value for key, value in config.items() if key != 'VALIDATION'}
    return {**others, 'SOLVER': solver, 'TEST': test, 'DATASET': {**config['DATASET'], 'WHOLE_JOINTS': True}}


def call(monkeypatch: pytest.MonkeyPatch, entry: Callable, *arguments: str, name: str = 'mspn.2xstg.coco') -> None:
    """The engine's `train` or `test` of an experiment in this process, with a command line."""
    monkeypatch.setattr(sys, 'argv', ['script.py', *arguments])
    entry(load_config(name), build_mspn)


class OneLayer(torch.nn.Module):
    """A network with MSPN's outputs and hardly any work, for tests of what is around it."""

    def __init__(self, cfg: EasyDict) -> None:
        super().__init__()
        self.stages = cfg.MODEL.STAGE_NUM
        self.layer = torch.nn.Conv2d(3, cfg.DATASET.KEYPOINT.NUM, kernel_size=4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[list[torch.Tensor]]:
        maps = self.layer(images)
        return [[maps] * 4] * self.stages if self.training else maps


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`call` trains and tests this network instead of MSPN."""
    monkeypatch.setattr(sys.modules[__name__], 'build_mspn', OneLayer)


def world(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment by which a launcher tells one of `count` processes on this machine of the others."""
    place = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': count, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    return {name: str(value) for name, value in place.items()}


def run_script(script: str, *arguments: str, experiment: str, launcher: tuple[str, ...] = ()):
    """Runs an experiment's script in its folder, as a user would; returns the finished process."""
    return subprocess.run(
        [sys.executable, *launcher, script, *arguments],
        cwd=REPOSITORY / 'exps' / experiment,
        capture_output=True,
        text=True,
        timeout=600,
    )
