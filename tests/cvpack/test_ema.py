"""The moving average of the weights."""

import pytest
import torch

from cvpack.ema import EMA


def test_the_average_takes_a_share_of_each_update():
    """The first update copies; statistics are averaged too, counters copied."""
    network = torch.nn.BatchNorm1d(1)
    ema, gate = EMA(network, 0.9), torch.ones(())
    for weight, expected in ((1.0, 1.0), (2.0, 1.1), (0.0, 0.99)):
        with torch.no_grad():
            network.weight.fill_(weight)
            network.running_mean.fill_(weight)
            network.num_batches_tracked += 1
        ema.update(gate)
        ema.updates += 1
        average = ema.module
        assert average.weight.item() == average.running_mean.item() == pytest.approx(expected)
        assert average.num_batches_tracked == network.num_batches_tracked
    with torch.no_grad():
        network.weight.fill_(5.0)
    ema.update(0 * gate)
    assert ema.module.weight.item() == pytest.approx(0.99)
