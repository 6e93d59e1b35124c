"""Configurations: what finalize derives and refuses, the command, a copied experiment, overrides."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import PUBLISHED, load_config

from cvpack.errors import InputError
from lib.config import REPOSITORY, coco_defaults, finalize, home, mpii_defaults, override, to_plain

CONFIG = str(REPOSITORY / 'exps/mspn.2xstg.coco/config.py')


def run_config(folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, 'config.py', *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copied(tmp_path):
    """An experiment copied to a new folder, as a researcher does."""
    folder = tmp_path / 'my.experiment'
    shutil.copytree(REPOSITORY / 'exps/mspn.2xstg.coco', folder, ignore=shutil.ignore_patterns('log', '__pycache__'))
    return folder


@pytest.mark.parametrize('experiment', PUBLISHED)
def test_published_experiments(experiment):
    cfg = load_config(experiment)
    stages, dataset = re.fullmatch(r'mspn\.(\d)xstg\.(coco|mpii).*', experiment).groups()
    assert int(stages) == cfg.MODEL.STAGE_NUM
    assert dataset.upper() == cfg.DATASET.NAME
    assert [4 * size for size in cfg.OUTPUT_SHAPE] == cfg.INPUT_SHAPE
    assert cfg.OUTPUT_DIR.endswith(experiment)
    assert (dataset == 'mpii') == cfg.RUN_EFFICIENT


def test_the_input_shape_reaches_everything():
    cfg = load_config('mspn.4xstg.coco.384x288')
    assert cfg.INPUT_SHAPE == [384, 288] and cfg.OUTPUT_SHAPE == [96, 72]
    override(cfg, ['INPUT_SHAPE=[128, 96]'])
    assert cfg.OUTPUT_SHAPE == [32, 24]


def test_configs_share_nothing():
    first, second = coco_defaults(), coco_defaults()
    first.DATASET.KEYPOINT.FLIP_PAIRS[0][0] = 99
    first.SOLVER.BASE_LR = 1.0
    assert second.DATASET.KEYPOINT.FLIP_PAIRS[0][0] == 1
    assert second.SOLVER.BASE_LR == 5e-4


def test_a_copied_experiment_is_a_new_one(copied):
    config = copied / 'config.py'
    config.write_text(config.read_text().replace('STAGE_NUM = 2', 'STAGE_NUM = 3'))
    process = run_config(copied)
    assert process.returncode == 0, process.stderr
    assert '"STAGE_NUM": 3' in process.stdout
    assert '/my.experiment"' in process.stdout
    assert 'parameters: 88,592,356' in process.stdout
    assert not (copied / 'log').exists()


def test_log_is_linked_to_the_output_folder(copied, tmp_path, monkeypatch):
    monkeypatch.setenv('MSPN_HOME', str(tmp_path / 'elsewhere'))
    for _ in range(2):
        process = run_config(copied, '-log')
        assert process.returncode == 0, process.stderr
        assert 'GMACs: 11.26' in process.stdout
    assert (copied / 'log').resolve().parent.parent == (tmp_path / 'elsewhere/model_logs').resolve()
    (copied / 'log').unlink()
    (copied / 'log').write_text('mine')
    process = run_config(copied, '-log')
    assert process.returncode == 2 and process.stderr.startswith('error: ') and 'is in the way' in process.stderr
    assert (copied / 'log').read_text() == 'mine'


def test_a_user_without_a_name(monkeypatch):
    """Containers run as numbers that no passwd file knows."""

    def nobody():
        raise KeyError('getpwuid(): uid not found: 1234')

    monkeypatch.setattr('getpass.getuser', nobody)
    assert f'/model_logs/{os.getuid()}/mspn.2xstg.coco' in load_config('mspn.2xstg.coco').OUTPUT_DIR


def test_home_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.delenv('MSPN_HOME', raising=False)
    assert home() == REPOSITORY
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    assert load_config('mspn.2xstg.coco').OUTPUT_DIR.startswith(str(tmp_path))


def test_overrides():
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, ['SOLVER.BASE_LR=1e-3', 'MODEL.DEVICE=cpu', 'TEST.SHIFT_RATIOS=[0.25, 0.1]', 'MODEL.WEIGHT='])
    assert cfg.SOLVER.BASE_LR == 1e-3 and cfg.MODEL.DEVICE == 'cpu'
    assert cfg.TEST.SHIFT_RATIOS == [0.25, 0.1] and cfg.MODEL.WEIGHT == ''
    override(cfg, ['OUTPUT_DIR=/somewhere'])
    assert cfg.TEST_DIR == '/somewhere/test_dir' and cfg.TENSORBOARD_DIR == '/somewhere/tb_dir'
    assert to_plain(cfg)['SOLVER']['BASE_LR'] == 1e-3


def test_unknown_and_missing_keys_are_refused():
    cfg = coco_defaults()
    cfg.SOLVER.BASE_RL = 1e-3
    with pytest.raises(InputError, match=r'unknown key SOLVER\.BASE_RL'):
        finalize(cfg, CONFIG)
    cfg = mpii_defaults()
    del cfg['RUN_EFFICIENT']
    with pytest.raises(InputError, match='RUN_EFFICIENT is missing'):
        finalize(cfg, CONFIG)


def test_a_bad_config_is_one_line(copied):
    config = copied / 'config.py'
    config.write_text(config.read_text().replace('STAGE_NUM', 'STAGES'))
    for script in ('config.py', 'train.py', 'test.py'):
        process = subprocess.run([sys.executable, script, '-h'], cwd=copied, capture_output=True, text=True)
        assert process.returncode == 2, script
        assert process.stderr.startswith('error: config: unknown key MODEL.STAGES'), process.stderr
        assert process.stderr.count('\n') == 1
