"""Whether two runs ended in the same place."""

from pathlib import Path

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
