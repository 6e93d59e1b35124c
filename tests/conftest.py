"""Shared by all tests: golden numbers, real data beside the repository, and networks to compare."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from cvpack.device import trim_memory
from cvpack.preemption import SIGNALS
from lib.config import REPOSITORY
from lib.datasets.synthetic import write_dataset
from tests.support import commands
from tests.support.networks import OneLayer

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # before kernels are imported: they run on the CPU


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process waits for another's last one."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture(scope='session')
def triton_runs() -> None:
    """Skips where Triton kernels cannot run. They compile in every version that a supported torch brings."""
    triton = pytest.importorskip('triton', reason='no Triton')
    if not torch.cuda.is_available() and TorchVersion(triton.__version__) < '3.7':
        pytest.skip(f'the interpreter of Triton {triton.__version__} fails, or does with a new numpy')


@pytest.fixture
def without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's convolutions in float32. TF32 would round what differs by 1e-7 up to a thousandth apart."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Whatever a test does to the handlers, the next one and its child processes find them as they were.

    A run that was asked to stop leaves SIGTERM ignored, and children inherit that.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope='module')
def memory_is_returned() -> Iterator[None]:
    """Each file gives back what its tests freed: training makes malloc keep it for the process's next step."""
    yield
    gc.collect()
    trim_memory()


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go without their curves.png, which takes as long to draw as they take to train."""
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
