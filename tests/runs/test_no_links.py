"""A file system without symbolic links, as a cloud's drive or exFAT: nothing is lost there, and nothing called lost."""

import errno
import os
import shutil

import pytest
import torch

from cvpack import checkpoint
from lib import engine
from lib.config import override, to_plain
from lib.config.command import main as config_command
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.deploy.saved import load_experiment
from lib.evaluation.validation import Validation
from lib.models.mspn import build_mspn
from tests.support.checkpoints import three_saved
from tests.support.commands import call, refused
from tests.support.prepare import fail, make_2014, make_2017, run
from tests.support.settings import fast_settings, load_config

EXPERIMENT = 'mspn.2xstg.coco'


@pytest.fixture(params=[OSError(errno.EPERM, 'Operation not permitted'), NotImplementedError('no links')], ids=type)
def no_links(request, monkeypatch):
    def refuse(*_, **__):
        raise request.param

    monkeypatch.setattr(os, 'symlink', refuse)


def full(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.usefixtures('no_links')
def test_last_and_best_are_text_files(tmp_path):
    writer = three_saved(tmp_path)
    writer.close()
    assert (tmp_path / 'iter-last.pth').read_text() == 'iter-3.pth\n'
    assert checkpoint.iterations(tmp_path) == [1, 3] and not list(tmp_path.glob('*.tmp'))
    for name, iteration in (('last', 3), ('best', 1)):
        assert checkpoint.find(tmp_path, name) == tmp_path / f'iter-{iteration}.pth'
        assert checkpoint.load(tmp_path / f'iter-{name}.pth')['iteration'] == iteration


@pytest.mark.parametrize('text', ['../iter-1.pth', '/etc/passwd', 'iter-7.pth', 'iter-last.pth', 'weights.txt', ''])
def test_a_text_file_names_a_file_beside_it_or_is_refused(text, tmp_path):
    checkpoint.save(tmp_path, 1, {'iteration': 1})
    (tmp_path / 'folder').mkdir()
    link = tmp_path / 'folder/iter-last.pth'
    link.write_text(text)
    with pytest.raises(checkpoint.InputError, match=r'iter-(last|7)\.pth'):
        checkpoint.load(link)


@pytest.mark.usefixtures('no_links', 'one_layer')
def test_a_run_is_trained_continued_and_tested(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = ['--set', *fast_settings(synthetic_coco, tmp_path), 'SOLVER.KEEP_CHECKPOINTS=1']
    call(monkeypatch, engine.train, *settings, 'SOLVER.MAX_ITER=1')
    call(monkeypatch, engine.train, '-c', 'last', *settings, 'SOLVER.MAX_ITER=2')
    assert checkpoint.iterations(tmp_path) == [2]
    call(monkeypatch, engine.test, '-i', 'last', *settings)
    call(monkeypatch, engine.test, '--weights', str(tmp_path / 'iter-last.pth'), '--gt-boxes', *settings)
    assert 'could not be written' not in capsys.readouterr().out
    assert {path.name for path in (tmp_path / 'test_dir').iterdir()} == {'iter-2', 'iter-2.gt_boxes'}


@pytest.mark.usefixtures('no_links')
def test_tools_take_the_text_file_for_the_checkpoint(tmp_path):
    cfg = load_config(EXPERIMENT)
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.WIDTH=8', 'MODEL.STAGE_NUM=1', 'MODEL.UPSAMPLE_CHANNEL_NUM=8'])
    state = build_mspn(cfg).state_dict()
    checkpoint.save(tmp_path, 1, {'model': state, 'config': to_plain(cfg)})
    _, network = load_experiment(tmp_path / 'iter-last.pth')
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_that_nothing_points_to_is_saved(tmp_path, monkeypatch):
    said = []
    writer = checkpoint.Writer(tmp_path, keep=1, report=said.append)
    writer.save(1, {'samples': 1})
    writer.wait()
    monkeypatch.setattr(checkpoint, 'point', full)
    writer.save(2, {'samples': 2})
    writer.close()
    (line,) = said
    assert line.startswith(f'{tmp_path}/iter-2.pth is saved, but iter-last.pth') and 'No space left' in line
    assert checkpoint.iterations(tmp_path) == [2]
    assert checkpoint.find(tmp_path, 'last') == tmp_path / 'iter-2.pth'


def test_an_old_checkpoint_that_stays_is_told(tmp_path, monkeypatch):
    said = []
    writer = checkpoint.Writer(tmp_path, keep=1, report=said.append)
    writer.save(1, {'samples': 1})
    writer.wait()
    monkeypatch.setattr(type(tmp_path), 'unlink', lambda path, **_: path.suffix == '.pth' and full())
    writer.save(2, {'samples': 2})
    writer.close()
    assert [line.partition(',')[0] for line in said] == [f'{tmp_path}/iter-1.pth']
    assert 'cannot be removed (No space left on device)' in said[0]


def test_the_best_that_cannot_be_marked_ends_no_run(tmp_path, monkeypatch):
    said = []
    validation = Validation.__new__(Validation)
    validation.output, validation.main_metrics, validation.records = tmp_path, ('AP',), [0]
    validation.rows = [{'iteration': 1, 'samples': 3, 'boxes': 1, 'metrics': {'AP': 0.5}}]
    validation.logger = type('Log', (), {'error': said.append})
    checkpoint.save(tmp_path, 1, {'samples': 3})
    monkeypatch.setattr(checkpoint, 'point', full)
    validation._mark_best()
    assert said == [
        f'{tmp_path}/iter-1.pth is the best, but iter-best.pth cannot be pointed at it (No space left on device)'
    ]


@pytest.mark.usefixtures('no_links')
@pytest.mark.parametrize('make', [make_2017, lambda folder: make_2014(folder, 'annotations', '')], ids=['2017', '2014'])
def test_data_are_copied(make, tmp_path, capsys):
    source, target = make(tmp_path / 'download'), tmp_path / 'COCO'
    command = 'coco', '--source', source, '--target', target
    printed = run(capsys, *command)
    assert 'copied from' in printed
    assert [line.split(': ')[1].split(',')[0] for line in run(capsys, *command).splitlines()] == ['kept'] * 5
    records = CocoReader(COCO.at(target)).train_records(1)
    assert len(records) and all((target / 'images' / path.decode()).is_file() for path in records.paths)
    assert not [path for path in target.rglob('*') if path.is_symlink() or path.name.startswith('.')]
    # Another picture more, and it is the download no longer.
    folder = next((target / 'images').iterdir())
    (folder / 'mine.jpg').touch()
    assert f'{folder} exists and is not' in fail(capsys, *command)


@pytest.mark.usefixtures('no_links')
def test_data_without_room_for_a_copy(tmp_path, capsys, monkeypatch):
    source, target = make_2017(tmp_path / 'download'), tmp_path / 'COCO'
    monkeypatch.setattr(shutil, 'copyfile', full)
    error = fail(capsys, 'coco', '--source', source, '--target', target)
    assert f'{target}/images/train2017 ' in error and f'{source}/train2017 ' in error
    assert 'No space left on device' in error and '--target' in error
    assert list((target / 'images').iterdir()) == []


@pytest.mark.parametrize('no_links', [OSError(errno.ENOSYS, 'Function not implemented')], indirect=True)
def test_config_says_where_the_outputs_are(no_links, tmp_path, monkeypatch, capsys):
    cfg = load_config(EXPERIMENT)
    override(cfg, [f'OUTPUT_DIR={tmp_path / "out"}', 'MODEL.BACKBONE=Res-18', 'MODEL.WIDTH=8'])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['config.py', '-log'])
    error = refused(capsys, lambda _: engine.exits_cleanly(config_command)(cfg))
    assert f'cannot link {tmp_path}/log to {tmp_path}/out' in error and 'the outputs are there' in error
    assert [path.name for path in tmp_path.iterdir()] == ['out']
