"""The newest checkpoint is the one with the most samples behind it, whatever its number; no work is written over."""

import math
import os

import pytest
import torch

from cvpack import checkpoint
from cvpack.checkpoint_order import in_order, newest
from cvpack.errors import InputError
from lib import engine
from lib.evaluation import validation
from lib.training import begin
from tests.support.commands import call, experiment, names_all, refused
from tests.support.settings import fast_settings, tiny_settings


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.is_symlink())


def samples_in(path) -> int:
    return checkpoint.load(path)['samples']


@pytest.fixture
def grown(tmp_path):
    """16 iterations with batches of 3, two checkpoints, then 2 with batches of 12; a published file, a damaged one."""
    checkpoint.save(tmp_path, 4, {'iteration': 4})
    for iteration, samples, batch in ((8, 24, 3), (16, 48, 3), (6, 72, 12)):
        checkpoint.save(tmp_path, iteration, {'samples': samples, 'samples_an_iteration': batch})
    (tmp_path / 'iter-2.pth').write_bytes(b'PK damaged')
    return tmp_path


def test_samples_tell_what_is_newer(grown):
    assert [saved[:2] for saved in in_order(grown)] == [(12, 4), (24, 8), (48, 16), (72, 6), (math.inf, 2)]
    assert checkpoint.find(grown, 'last') == newest(grown) == grown / 'iter-6.pth'
    # A process was killed between a save and the link to it; somebody lost the link.
    checkpoint.point(grown / checkpoint.LATEST, grown / 'iter-16.pth')
    assert newest(grown) == grown / 'iter-6.pth'
    (grown / 'iter-2.pth').unlink()
    (grown / checkpoint.LATEST).unlink()
    assert newest(grown) == grown / 'iter-6.pth'


def test_a_damaged_newest_is_not_passed_over_by_tests(grown):
    """Unlike --resume auto, which says so, a test of 'last' would be one of other weights."""
    (grown / 'iter-6.pth').write_bytes(b'cut')
    assert newest(grown) == grown / 'iter-6.pth'


def test_files_of_the_old_format_count_too(tmp_path):
    torch.save({'samples': 7}, tmp_path / 'iter-9.pth', _use_new_zipfile_serialization=False)
    assert in_order(tmp_path) == [(7, 9, tmp_path / 'iter-9.pth', True)]


def test_the_newest_and_the_best_are_kept(grown):
    checkpoint.point(grown / checkpoint.BEST, grown / 'iter-16.pth')
    writer = checkpoint.Writer(grown, keep=2, report=pytest.fail)
    writer.save(8, {'samples': 96})
    writer.close()
    assert names(grown) == ['iter-16.pth', 'iter-2.pth', 'iter-6.pth', 'iter-8.pth']
    assert samples_in(grown / 'iter-8.pth') == samples_in(grown / 'iter-last.pth') == 96


def test_a_number_that_comes_again_writes_over_nothing(grown):
    checkpoint.point(grown / checkpoint.BEST, grown / 'iter-8.pth')
    for keep, samples in ((0, 96), (0, 500), (1, 900)):
        writer = checkpoint.Writer(grown, keep, report=pytest.fail)
        writer.save(8, {'samples': samples})
        writer.save(2, {'samples': samples + 1})
        writer.close()
        if not keep:
            assert samples_in(grown / 'iter-best.pth') == samples_in(grown / 'iter-8.earlier-1.pth') == 24
    # Of readable ones the best and the newest stay; what could not be read is out of the way.
    assert names(grown) == ['iter-2.pth', 'iter-2.pth.unreadable-1', 'iter-8.earlier-1.pth']
    assert samples_in(grown / 'iter-last.pth') == 901
    writer.save(2, {'samples': 901})  # the same place once more
    writer.close()
    assert len(names(grown)) == 3


@pytest.mark.usefixtures('one_layer')
def test_larger_batches_go_on_from_the_newest_work(synthetic_coco, tmp_path, monkeypatch, capsys):
    """And again; validations and the best outlive it, though iterations are counted anew."""
    settings = ['--resume', 'auto', '--set', *fast_settings(synthetic_coco, tmp_path), 'SOLVER.KEEP_CHECKPOINTS=1']
    settings += ['SOLVER.IMS_PER_GPU=2', 'VALIDATION.PERIOD=1', 'VALIDATION.IMAGES=2']
    call(monkeypatch, engine.train, *settings, 'SOLVER.ACCUM_STEPS=1', 'SOLVER.MAX_ITER=1')  # to iteration 8
    # Written by an earlier version, which did not count the samples; it stays the best.
    record = tmp_path / validation.FILE
    record.write_text(record.read_text().replace('"samples"', '"unknown"').replace('"AP": ', '"AP": 1'))
    for end in (2, 3):
        call(monkeypatch, engine.train, *settings, f'SOLVER.MAX_ITER={end}')
    said = capsys.readouterr().out
    assert f'resumed from {tmp_path / "iter-8.pth"}' in said and f'resumed from {tmp_path / "iter-2.pth"}' in said
    rows = validation.read_rows(tmp_path, 'AP')
    assert [(row['iteration'], row['samples']) for row in rows] == [(8, 16), (2, 32), (3, 48)]
    assert [saved[:2] for saved in in_order(tmp_path)] == [(16, 8), (48, 3)]
    assert samples_in(tmp_path / 'iter-best.pth') == 16 and samples_in(tmp_path / 'iter-last.pth') == 48


@pytest.fixture
def two_runs(tmp_path):
    """Folders of two runs, iter-8 and iter-16 in each, and an empty one."""
    for name in ('mine', 'other'):
        for iteration in (8, 16):
            checkpoint.save(tmp_path / name, iteration, {'samples': 3 * iteration})
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'a link.pth').symlink_to(tmp_path / 'mine/iter-16.pth')
    return tmp_path


@pytest.mark.parametrize(
    ('folder', 'name', 'file'),
    [
        ('mine', 'last', 'mine/iter-16.pth'),
        ('mine', '16', 'mine/iter-16.pth'),
        ('mine', 'iter-16.pth', 'mine/iter-16.pth'),
        ('mine', 'iter-last.pth', 'mine/iter-16.pth'),
        ('mine', '{}/mine/iter-16.pth', 'mine/iter-16.pth'),
        ('mine', '{}/a link.pth', 'mine/iter-16.pth'),
        ('empty', '{}/mine/iter-8.pth', 'mine/iter-8.pth'),
        ('absent', '{}/mine/iter-last.pth', 'mine/iter-16.pth'),
        ('empty', None, None),
    ],
)
def test_a_run_goes_on_from_its_own_newest_or_into_an_empty_folder(folder, name, file, two_runs):
    chosen = begin.named_checkpoint(two_runs / folder, name and name.format(two_runs))
    assert chosen == (file and two_runs / file)


@pytest.mark.parametrize(
    ('folder', 'name', 'reason'),
    [
        (
            'other',
            '{}/mine/iter-16.pth',
            r'other holds checkpoints of an earlier run .* and not .*mine/iter-16\.pth',
        ),
        ('other', '{}/a link.pth', r'other holds checkpoints of an earlier run'),
        ('mine', '8', r'mine holds newer checkpoints than .*iter-8\.pth \(iter-16\.pth\)'),
        ('mine', '{}/mine/iter-8.pth', r'mine holds newer checkpoints than'),
        ('mine', 'best', r'mine holds newer checkpoints than'),
        (
            'mine',
            None,
            r'mine holds checkpoints of an earlier run \(up to iteration 16\): resume from the newest with -c last',
        ),
        ('mine', 'iter-7.pth', r'iter-7\.pth does not exist'),
        ('empty', '{}/mine', r'/mine is a folder: give a checkpoint'),
        ('mine', '7', r'no checkpoint iter-7\.pth .*iterations there: 8, 16'),
    ],
)
def test_other_work_is_in_the_way(folder, name, reason, two_runs):
    checkpoint.point(two_runs / 'mine' / checkpoint.BEST, two_runs / 'mine/iter-8.pth')
    with pytest.raises(InputError, match=reason):
        begin.named_checkpoint(two_runs / folder, name and name.format(two_runs))


def test_a_copy_of_another_run_s_checkpoint_is_no_way_in(synthetic_coco, two_runs, monkeypatch, capsys):
    before = (two_runs / 'other/iter-8.pth').read_bytes()
    arguments = ['-c', two_runs / 'mine/iter-16.pth', '--set', *tiny_settings(synthetic_coco, two_runs / 'other')]
    error = refused(capsys, experiment(engine.train, monkeypatch), *arguments)
    names_all(error, two_runs / 'other', two_runs / 'mine/iter-16.pth', 'move them away', '--set OUTPUT_DIR=')
    assert (two_runs / 'other/iter-8.pth').read_bytes() == before


def test_a_damaged_newer_checkpoint_is_no_work(two_runs):
    os.truncate(two_runs / 'mine/iter-16.pth', 100)
    assert begin.named_checkpoint(two_runs / 'mine', '8') == two_runs / 'mine/iter-8.pth'
