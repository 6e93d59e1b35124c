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
