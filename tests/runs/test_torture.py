"""The torture of a training run: that it passes, and that it would notice."""

import re
import signal

import pytest
import torch

from cvpack import checkpoint
from tests.support.campaign import ALONE, PERIOD, START, TOGETHER, compare_losses, compare_outputs
from tests.support.torture import main, plan


@pytest.mark.slow
def test_a_killed_run_is_the_undisturbed_one(capsys, monkeypatch):
    """A small part of the command's own 20 kills. Slow: four starts of training."""
    monkeypatch.setattr(signal, 'signal', lambda *_: None)  # pytest's own signals stay as they are
    code = main(['--kills', '2', '--processes', '1'])
    printed = capsys.readouterr().out
    assert code == 0 and 'result: the same to the bit, nothing left behind' in printed, printed
    for kind in ALONE[:2]:
        assert re.search(rf'^ +1  {kind}$', printed, re.M), kind
    assert re.search(r'^2 of 2 kills, seed 0; [12] during a save$', printed, re.M)


def test_the_plan_follows_from_the_seed():
    assert plan(20, 0) == plan(20, 0) != plan(20, 1)
    strikes = plan(20, 0)
    assert {processes: len(of) for processes, of in strikes.items()} == {2: 12, 1: 8}
    assert {strike.kind for strike in strikes[2]} == set(TOGETHER)
    assert {strike.kind for strike in strikes[1]} == set(ALONE)
    others = [strike for of in strikes.values() for strike in of if strike.kind != START]
    assert sum(strike.iterations > PERIOD for strike in others) > len(others) / 2


def test_losses_are_compared():
    ground_truth = [(1, 'a'), (2, 'b'), (3, 'c')]
    assert compare_losses(ground_truth, [(1, 'a'), (2, 'b'), (2, 'b'), (3, 'c')]) == []
    assert compare_losses(ground_truth, [(1, 'a'), (2, 'x'), (2, 'b'), (3, 'c')]) == ['iteration 2: x, undisturbed b']
    assert compare_losses(ground_truth, [(1, 'a'), (2, 'b')]) == ['iterations that nobody reported: [3]']
    assert compare_losses(ground_truth, [*ground_truth, (4, 'd')]) == ['iteration 4: d, undisturbed None']


def test_outputs_are_compared_to_the_bit(tmp_path):
    def state(moment: float = 0.5, weight: float = 1.0, iteration: int = 8, folder: str = 'a') -> dict:
        moments = {'exp_avg': torch.tensor([moment]), 'step': torch.tensor(8.0)}
        return {
            'model': {'weight': torch.tensor([weight, 2.0])},
            'optimizer': {'state': {0: moments}, 'param_groups': [{'lr': 0.1, 'params': [0]}]},
            'iteration': iteration,
            'config': {'OUTPUT_DIR': folder},
        }

    def faults(**changes: float) -> list[str]:
        checkpoint.save(tmp_path / 'b', 8, state(folder='b', **changes))
        return compare_outputs(tmp_path / 'a', tmp_path / 'b')

    checkpoint.save(tmp_path / 'a', 8, state())
    assert faults() == []
    assert faults(weight=1.0 + 2**-23) == ['.model.weight differs']
    assert faults(moment=0.5 + 2**-24) == ['.optimizer.state.0.exp_avg differs']
    assert faults(iteration=12) == ['.iteration: 8 and 12']
    (tmp_path / 'b' / 'iter-12.pth.tmp').write_bytes(b'half')
    assert faults() == [f'left behind: {[str(tmp_path / "b" / "iter-12.pth.tmp")]}']
