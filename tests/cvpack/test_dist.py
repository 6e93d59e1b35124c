"""One process as a world of one; a GPU that waits for another process."""

import pytest

from cvpack import dist
from cvpack.errors import PeerLost


def test_one_process_is_a_world_of_one():
    assert (dist.rank(), dist.world_size(), dist.is_main(), dist.is_distributed()) == (0, 1, True, False)
    dist.barrier()
    assert dist.gather('x') == ['x']


class _Event:
    """A GPU's, which it comes to after so many looks; never where it is None."""

    def __init__(self, looks: int | None) -> None:
        self.looks, self.seen, self.waited = looks, 0, False

    def query(self) -> bool:
        self.seen += 1
        return self.seen == self.looks

    def synchronize(self) -> None:
        self.waited = True


def test_a_gpu_is_waited_for():
    event = _Event(looks=None)
    dist.wait_for_gpu(event)
    assert event.waited and not event.seen


def test_a_gpu_that_waits_for_a_lost_process_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(dist, 'is_distributed', lambda: True)
    monkeypatch.setattr(dist, 'rank', lambda: 3)
    monkeypatch.setattr(dist, '_timeout', 0.1)
    event = _Event(looks=3)
    dist.wait_for_gpu(event)
    assert event.seen == 3 and not event.waited
    line = r'rank 3: another process died or hangs \(timed out: the GPU was not done after 0\.1 s\).*; remedy$'
    with pytest.raises(PeerLost, match=line), dist.reporting_lost_peers('remedy'):
        dist.wait_for_gpu(_Event(looks=None))
