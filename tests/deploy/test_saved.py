"""A checkpoint alone gives back its experiment."""

import pytest
import torch

from cvpack import checkpoint
from cvpack.errors import InputError
from lib.config import REPOSITORY, override, to_plain
from lib.deploy.saved import load_experiment
from lib.models.mspn import build_mspn
from tests.support.settings import earlier, load_config


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A checkpoint of a tiny network, its configuration and its output."""
    folder = tmp_path_factory.mktemp('saved')
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.STAGE_NUM=1', 'MODEL.WIDTH=8', 'INPUT_SHAPE=[64,64]'])
    model = build_mspn(cfg).eval()
    path = checkpoint.save(folder, 1, {'model': model.state_dict(), 'config': to_plain(cfg)})
    return path, cfg, model


def test_configuration_and_network_come_back(saved):
    path, cfg, model = saved
    read, network = load_experiment(path)
    assert read == cfg and not network.training
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network(images), model(images))


def test_keys_younger_than_the_file_have_their_defaults(saved, tmp_path):
    _, cfg, model = saved
    older = to_plain(cfg)
    del older['SOLVER']['TIMEOUT'], older['DATALOADER']['REDUCED_JPEG']
    path = checkpoint.save(tmp_path, 1, {'model': model.state_dict(), 'config': older})
    assert load_experiment(path)[0] == cfg


def test_former_keys_are_translated(saved, tmp_path):
    _, cfg, model = saved
    path = checkpoint.save(tmp_path, 1, {'model': model.state_dict(), 'config': earlier(to_plain(cfg))})
    read, _ = load_experiment(path)
    assert read.VALIDATION == {'PERIOD': 1, 'IMAGES': 50} and read.SOLVER.REFERENCE_GPUS == 8
    assert {**read, 'VALIDATION': None} == {**cfg, 'VALIDATION': None}


def test_other_formats_have_their_own_defaults(tmp_path):
    """A key that is younger than a file of MPII's has MPII's default; by the format, whatever the data are called."""
    cfg = load_config('mspn.2xstg.mpii')
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.STAGE_NUM=1', 'MODEL.WIDTH=8'])
    plain = to_plain(cfg)
    plain['DATASET']['NAME'] = 'mine'
    del plain['TEST']['GAUSSIAN_KERNEL']
    path = checkpoint.save(tmp_path, 1, {'model': build_mspn(cfg).state_dict(), 'config': plain})
    assert load_experiment(path)[0].TEST.GAUSSIAN_KERNEL == 9


def test_a_file_without_configuration_needs_the_experiment(tmp_path):
    cfg = load_config('mspn.1xstg.coco')
    torch.save(build_mspn(cfg).state_dict(), tmp_path / 'bare.pth')
    with pytest.raises(InputError, match='name it with --experiment'):
        load_experiment(tmp_path / 'bare.pth')
    read, _ = load_experiment(tmp_path / 'bare.pth', experiment=REPOSITORY / 'exps/mspn.1xstg.coco')
    assert read.MODEL.STAGE_NUM == 1
    with pytest.raises(InputError, match='does not exist'):
        load_experiment(tmp_path / 'bare.pth', experiment=tmp_path)


@pytest.mark.parametrize('config', [{}, {'DATASET': 1}, {'DATASET': {'NAME': 'COCO'}, 'TYPO': 1}])
def test_a_configuration_that_makes_no_sense_is_refused(saved, tmp_path, config):
    path = checkpoint.save(tmp_path, 1, {'model': saved[2].state_dict(), 'config': config})
    with pytest.raises(InputError, match='the configuration in it cannot be used'):
        load_experiment(path)
