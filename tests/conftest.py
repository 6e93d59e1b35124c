"""Shared by all tests: golden numbers, real data beside the repository, and networks to compare."""

import os
import sys
from pathlib import Path

import pytest

from lib.config import REPOSITORY
from lib.datasets.synthetic import write_dataset
from tests.support import commands
from tests.support.networks import OneLayer


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


@pytest.fixture(scope='session')
def synthetic_coco(tmp_path_factory) -> Path:
    """A small synthetic data set in COCO's layout: 12 images to train on, 5 to test."""
    root = tmp_path_factory.mktemp('drawn') / 'people in cafés'
    write_dataset(root, train_images=12, val_images=5, seed=1)
    return root


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`call` trains and tests this network instead of MSPN."""
    monkeypatch.setattr(commands, 'build_mspn', OneLayer)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go without their curves.png, which takes as long to draw as they take to train."""
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
