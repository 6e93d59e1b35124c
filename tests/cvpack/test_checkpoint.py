"""Checkpoints: whole or not at all, of the moment at which they were saved, so many of them as asked for."""

import os

import pytest
import torch

from cvpack import checkpoint
from cvpack.errors import InputError
from tests.support.checkpoints import three_saved


def test_checkpoints(tmp_path):
    with pytest.raises(InputError, match=r'no checkpoint iter-last\.pth in .*; iterations there: none'):
        checkpoint.find(tmp_path, 'last')
    for iteration in (5, 10):
        checkpoint.save(tmp_path, iteration, {'iteration': iteration, 'model': {'w': torch.ones(2)}})
    assert checkpoint.iterations(tmp_path) == [5, 10]
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 10
    assert checkpoint.load(checkpoint.find(tmp_path, '5'))['iteration'] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ['iter-10.pth', 'iter-5.pth', 'iter-last.pth']
    with pytest.raises(InputError, match=r'no checkpoint iter-6\.pth in .*; iterations there: 5, 10'):
        checkpoint.find(tmp_path, '6')


def test_a_failed_save_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, {'iteration': 5})

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space'):
        checkpoint.save(tmp_path, 5, {'iteration': 6})
    monkeypatch.undo()
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 5


def test_the_number_of_checkpoints_is_bounded(tmp_path):
    writer = checkpoint.Writer(tmp_path, keep=2, report=pytest.fail)
    checkpoint.save(tmp_path, 99, {})  # of a future that this run has not reached
    for iteration in (1, 2, 3, 4):
        writer.save(iteration, {'iteration': iteration})
    writer.close()
    assert checkpoint.iterations(tmp_path) == [3, 4, 99]
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 4


def test_a_saved_state_is_that_of_its_moment(tmp_path):
    """Training goes on, in place, while the checkpoint is being written."""
    weight = torch.ones(1000)
    writer = checkpoint.Writer(tmp_path, keep=0, report=pytest.fail)
    writer.save(1, {'model': {'weight': weight}, 'lists': [weight, (weight,)]})
    weight.zero_()
    writer.close()
    state = checkpoint.load(tmp_path / 'iter-1.pth')
    assert all(value.eq(1).all() for value in (state['model']['weight'], state['lists'][0], state['lists'][1][0]))


def test_a_full_disk_stops_no_training(tmp_path, monkeypatch):
    said = []
    writer = checkpoint.Writer(tmp_path, keep=0, report=said.append)
    writer.save(1, {'iteration': 1})
    writer.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        writer.save(2, {'iteration': 2})
        writer.wait()
    assert len(said) == 1 and 'iter-2.pth could not be written (No space left on device)' in said[0]
    assert checkpoint.iterations(tmp_path) == [1] and not list(tmp_path.glob('*.tmp'))
    with pytest.raises(InputError, match='No space left'):
        writer.close()
    writer.save(3, {'iteration': 3})
    writer.close()
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 3


def test_the_best_is_spared(tmp_path):
    writer = three_saved(tmp_path)
    assert checkpoint.iterations(tmp_path) == [1, 3]
    checkpoint.point(tmp_path / checkpoint.BEST, tmp_path / 'iter-3.pth')
    writer.save(4, {'iteration': 4})
    writer.close()
    assert checkpoint.iterations(tmp_path) == [3, 4]
    assert checkpoint.load(checkpoint.find(tmp_path, 'best'))['iteration'] == 3
