"""Systems that have less than a Linux workstation: little shared memory, few open files, no POSIX."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from lib import engine
from lib.config import REPOSITORY, override, run_config
from lib.datasets.joints import TestSamples, TrainSamples
from lib.models.mspn import build_mspn
from tests.support.commands import call, experiment, names_all, refused
from tests.support.settings import tiny_settings

WITHOUT_POSIX = """
import ctypes, importlib, os, pkgutil, signal, sys

for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp'):
    sys.modules[name] = None
for module, names in (
    (signal, ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGKILL', 'SIGBUS', 'pthread_sigmask', 'sigwaitinfo')),
    (os, ('getuid', 'geteuid', 'sched_getaffinity', 'fork')),
):
    for name in names:
        delattr(module, name)
load = ctypes.CDLL.__init__
def init(self, name, *args, **kwargs):
    if name is None:
        raise TypeError('bad argument type for built-in operation')
    load(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = init

import cvpack, lib
modules = [m.name for p in (cvpack, lib) for m in pkgutil.walk_packages(p.__path__, f'{p.__name__}.')]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 80

import torch
from cvpack import device, preemption
from lib import loader
from lib.config import resolve as config
device.configure_device(torch.device('cpu'))
assert device.peak_memory_gb(torch.device('cpu')) != device.peak_memory_gb(torch.device('cpu')), 'not NaN'
with preemption.StopRequest() as stop:
    signal.raise_signal(signal.SIGTERM)
assert stop.requested
loader._init_worker(0)
for name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'):
    os.environ.pop(name, None)
assert config._user() == 'user'
"""


def test_without_posix():
    """Every module is imported, and what a run calls does without what Windows lacks."""
    process = subprocess.run([sys.executable, '-c', WITHOUT_POSIX], capture_output=True, text=True, cwd=REPOSITORY)
    assert process.returncode == 0, process.stderr


# ---------------------------------------------------------------------------------------------------- workers

SHARED_MEMORY = ('/dev/shm', '--shm-size', 'DATALOADER.NUM_WORKERS')
OPEN_FILES = ('ulimit -n', 'DATALOADER.NUM_WORKERS')


def dies(*_) -> None:
    os.kill(os.getpid(), signal.SIGBUS)


def fails(text: str):
    def fail(*_) -> None:
        raise RuntimeError(text)

    return fail


ONE_STEP = ('SOLVER.MAX_ITER=1', 'SOLVER.ACCUM_STEPS=8', 'SOLVER.IMS_PER_GPU=1', 'MODEL.STAGE_NUM=1')
STARVED = {
    'bus error': (dies, SHARED_MEMORY),
    'write': (fails('unable to write to file </torch_12_34_0>: No space left on device (28)'), SHARED_MEMORY),
    'allocate': (fails('unable to allocate shared memory(shm) for file </torch_1_2>: No space left'), SHARED_MEMORY),
    'ancdata': (fails('received 0 items of ancdata'), OPEN_FILES),
    'open': (
        fails('unable to open shared memory object </torch_1> in read-write mode: Too many open files'),
        OPEN_FILES,
    ),
}
linux = pytest.mark.skipif(sys.platform != 'linux', reason='workers are forked with what this test puts into them')


@pytest.fixture(scope='module')
def weights(synthetic_coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp('weights')
    cfg = run_config(REPOSITORY / 'exps/mspn.2xstg.coco')
    override(cfg, tiny_settings(synthetic_coco, folder))
    torch.save({'model': build_mspn(cfg).state_dict()}, folder / 'weights.pth')
    return folder / 'weights.pth'


@linux
@pytest.mark.parametrize('case', STARVED.values(), ids=STARVED)
def test_starved_workers_end_a_test_in_a_line(synthetic_coco, tmp_path, weights, monkeypatch, capfd, case):
    fault, pieces = case
    monkeypatch.setattr(TestSamples, '__getitem__', fault)
    settings = tiny_settings(synthetic_coco, tmp_path)
    error = refused(capfd, experiment(engine.test, monkeypatch), '--weights', weights, '--set', *settings)
    names_all(error, *pieces)


@linux
@pytest.mark.parametrize('samples', [TrainSamples, TestSamples], ids=['training', 'validation'])
def test_starved_workers_end_training_in_a_line(synthetic_coco, tmp_path, monkeypatch, capsys, samples):
    monkeypatch.setattr(samples, '__getitem__', dies)
    settings = [*tiny_settings(synthetic_coco, tmp_path), *ONE_STEP, 'VALIDATION.PERIOD=1']
    names_all(refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings), *SHARED_MEMORY)


@linux
def test_other_faults_of_workers_keep_their_traceback(synthetic_coco, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(TestSamples, '__getitem__', fails('a bug'))
    with pytest.raises(RuntimeError, match='a bug'):
        call(monkeypatch, engine.test, '--weights', str(weights), '--set', *tiny_settings(synthetic_coco, tmp_path))


@linux
@pytest.mark.parametrize('size', ['4k', '64k'])
def test_a_small_dev_shm(synthetic_coco, tmp_path, weights, size):
    """For real: too small for a semaphore, too small for a batch."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm'
    alone = ('unshare', '--map-root-user', '--mount', 'sh', '-c')
    if not shutil.which('unshare') or subprocess.run([*alone, mount], capture_output=True).returncode:
        pytest.skip('may not mount a /dev/shm of its own')
    command = f'{mount} && exec "$@"'
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'INPUT_SHAPE=[128,128]', 'DATALOADER.NUM_WORKERS=2']
    process = subprocess.run(
        [*alone, command, 'sh', sys.executable, 'test.py', '--weights', str(weights), '--set', *settings],
        cwd=REPOSITORY / 'exps/mspn.2xstg.coco',
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2 and process.stderr.startswith('error: ') and process.stderr.count('\n') == 1, (
        process.stderr
    )
    names_all(process.stderr, *SHARED_MEMORY)
