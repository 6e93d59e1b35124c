"""What a process does with its memory, and says of it."""

import math
import platform
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from cvpack import device
from cvpack.device import refusing_nondeterminism
from cvpack.errors import InputError
from cvpack.logger import DataTimer, TrainLog

REUSE = """
import resource, torch
from cvpack.device import trim_memory, configure_device

def resident():
    return int(open('/proc/self/statm').read().split()[1])

configure_device(torch.device('cpu'), spare_memory={spare_memory})
for _ in range(50):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
before = resident()
trim_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other libraries have other ways with memory')
def test_a_cpu_uses_its_memory_again():
    """Of the 64 MB of a tensor, made and freed again and again, all pages are new each time, or none is.

    Not at once: small blocks that come to lie between large ones have to find another place first.
    """
    new, given_back = {}, {}
    for kept in (False, True):
        code = REUSE.format(spare_memory=not kept)
        process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        new[kept], given_back[kept] = map(int, process.stdout.split())
    pages = 2**26 / resource.getpagesize()
    assert new[True] < 100 and given_back[True] >= pages
    assert new[False] >= pages / 2 and given_back[False] < pages / 2


CUDA_SETTINGS = """
import os, torch
from cvpack.device import configure_device

for wanted in (False, True):
    configure_device(torch.device('cuda'), deterministic=wanted)
    print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
print(torch.utils.deterministic.fill_uninitialized_memory, os.environ['CUBLAS_WORKSPACE_CONFIG'])
"""


def test_settings_of_a_gpu(monkeypatch):
    """Algorithms that repeat to the bit are not searched for, and new memory is not filled, which would cost time."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':0:0')
    process = subprocess.run([sys.executable, '-c', CUDA_SETTINGS], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ['False', 'True', 'True', 'False', 'False', ':4096:8']


def test_an_operation_that_does_not_repeat_is_named():
    torch.use_deterministic_algorithms(True)
    try:
        line = r'^OPTION: put_ .*does not repeat to the bit on a GPU: set it to False$'
        with pytest.raises(InputError, match=line), refusing_nondeterminism('OPTION'):
            torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        with pytest.raises(RuntimeError, match='another'), refusing_nondeterminism('OPTION'):
            raise RuntimeError('another')
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(('platform', 'gigabytes'), [('linux', 2.048), ('darwin', 0.002)])
def test_peak_memory_in_the_system_s_unit(monkeypatch, platform, gigabytes):
    usage = SimpleNamespace(ru_maxrss=2_000_000)
    monkeypatch.setattr(device, 'resource', SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: usage))
    monkeypatch.setattr(sys, 'platform', platform)
    assert device.peak_memory_gb(torch.device('cpu')) == pytest.approx(gigabytes)


def test_a_run_says_that_it_does_not_know_its_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(device, 'resource', None)
    assert math.isnan(device.peak_memory_gb(torch.device('cpu')))
    lines = []
    logger = SimpleNamespace(info=lines.append)
    log = TrainLog(logger, tmp_path, 0, 1, lambda iteration: iteration, DataTimer([]), torch.device('cpu'))
    log(1, 0.1, {'total_loss': torch.tensor(1.0)})
    log.close()
    assert '| mem unknown |' in lines[0]
