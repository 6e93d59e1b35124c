"""Whether two runs ended in the same place."""

from pathlib import Path

import pytest
import torch

from cvpack import checkpoint


def assert_same_checkpoints(one: Path, other: Path) -> None:
    """Weights, statistics and moments are equal bit for bit, and so is the place in the run."""
    a, b = checkpoint.load(one), checkpoint.load(other)
    assert (a['iteration'], a['samples']) == (b['iteration'], b['samples'])
    for name, value in a['model'].items():
        assert torch.equal(value, b['model'][name]), name
    for number, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, b['optimizer']['state'][number][name]), (number, name)


def three_saved(folder: Path) -> checkpoint.Writer:
    """A writer that keeps the newest and the best, after three iterations, of which the first is the best."""
    writer = checkpoint.Writer(folder, keep=1, report=pytest.fail)
    for iteration in (1, 2, 3):
        writer.save(iteration, {'iteration': iteration})
        writer.wait()
        if iteration == 1:
            checkpoint.point(folder / checkpoint.BEST, folder / 'iter-1.pth')
    return writer
