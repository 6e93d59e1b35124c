"""prepare own: what it writes, where, and what it leaves alone."""

import os
import re
from pathlib import Path

import pytest
import torch

from lib.config import coco_defaults
from lib.models.mspn import build_mspn
from lib.tools.prepare.own import command
from tests.support.exports import animals, datumaro, draw
from tests.support.exports_yolo import YOLO, yolo
from tests.support.own import check, prepared, refused
from tests.support.prepare import fail, run


@pytest.fixture
def options(tmp_path) -> list[object]:
    return datumaro(tmp_path / 'export', animals())


def test_all_stands_in_the_configuration(options, tmp_path, monkeypatch, capsys):
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options, '--device', 'cuda')
    text = (tmp_path / 'exps/mspn.2xstg.farm/config.py').read_text()
    for key in ('INPUT_SHAPE', 'GAUSSIAN_KERNELS', 'TOPK', 'MAX_ITER', 'CHECKPOINT_PERIOD', 'WARMUP_ITERS', 'BASE_LR'):
        assert re.search(rf'^cfg\.[A-Z_.]*{key} = ', text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 120
    assert cfg.MODEL.DEVICE == 'cuda' and cfg.MODEL.STAGE_NUM == 2 and cfg.LOSS.TOPK == 6
    assert 'python train.py' in printed and 'python test.py' in printed and 'lib.tools.predict' in printed
    assert (tmp_path / 'home/dataset/farm/sheet.jpg').stat().st_size > 1000


def test_nothing_to_mirror(tmp_path, monkeypatch, capsys):
    options = yolo(tmp_path / 'export', animals(), YOLO['ultralytics, several folders'])
    options[1].write_text(re.sub(r'(?m)^(flip_idx|kpt_names).*\n(  .*\n)*', '', options[1].read_text()))
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    assert [f'j{i}' for i in range(6)] == cfg.DATASET.KEYPOINT.NAMES and not cfg.DATASET.KEYPOINT.FLIP_PAIRS
    assert cfg.DATASET.TRAIN.PROB_FLIP == 0 and not cfg.TEST.FLIP and 'not mirrored' in printed
    assert cfg.DATASET.TRAIN.PROB_HALF_BODY == 0


def test_again_and_over_nothing(options, tmp_path, monkeypatch, capsys):
    target, folder = tmp_path / 'home/dataset/farm', tmp_path / 'exps/mspn.2xstg.farm'
    prepared(tmp_path, monkeypatch, capsys, *options)
    (target / 'sheet.jpg').write_bytes(b'mine')
    _, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    assert 'config.py: kept' in printed and (target / 'sheet.jpg').read_bytes() == b'mine'
    (folder / 'config.py').write_text('# mine')
    again = ('own', *options, '--name', 'farm', '--experiments', tmp_path / 'exps')
    assert str(folder / 'config.py') in fail(capsys, *again)
    before = (target / 'person_keypoints_train.json').read_bytes()
    assert 'person_keypoints_train.json' in fail(capsys, *again, '--val-share', 0.5)
    assert (folder / 'config.py').read_text() == '# mine'
    assert (target / 'person_keypoints_train.json').read_bytes() == before


def test_without_links(options, tmp_path, monkeypatch, capsys):
    def symlink(*args: object, **kwargs: object) -> None:
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(os, 'symlink', symlink)
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options)
    assert Path(cfg.DATASET.IMAGES).is_absolute() and not (tmp_path / 'home/dataset/farm/images').exists()
    check(cfg, animals())


def test_an_export_inside_the_data_set(tmp_path, monkeypatch, capsys):
    """In dataset/farm with its images, where nothing has to be linked."""
    options = datumaro(tmp_path / 'home/dataset/farm', animals())[:2]
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options, '--images', tmp_path / 'home/dataset/farm')
    check(cfg, animals())


def test_a_yaml_to_validate_on(options, tmp_path):
    """Of a data.yaml given to --val only what it validates on is read."""
    other = yolo(tmp_path / 'other', animals(), YOLO['ultralytics'])
    files = command.ImageFiles(tmp_path)
    exports = command._read([options[1]], other[1], files, (), command.Repairs())
    assert [[len(one.images) for one in exports[key]] for key in ('train', 'val')] == [[6], [2]]


def test_fine_tuning(options, tmp_path, monkeypatch, capsys):
    """A checkpoint of one stage and 17 joints: its network is taken, and its last layers are named."""
    cfg = coco_defaults()
    cfg.MODEL.update(STAGE_NUM=1, UPSAMPLE_CHANNEL_NUM=32)
    weights = tmp_path / 'iter-8.pth'
    torch.save({'model': build_mspn(cfg).state_dict(), 'config': {'MODEL': dict(cfg.MODEL)}}, weights)
    monkeypatch.setenv('MSPN_HOME', str(tmp_path / 'home'))
    arguments = ('own', *options, '--name', 'farm', '--experiments', tmp_path / 'exps', '--pretrained', weights)
    printed = run(capsys, *arguments)
    text = (tmp_path / 'exps/mspn.1xstg.farm/config.py').read_text()
    assert 're-initiali' in printed and 'res_conv2' in printed
    assert repr(str(weights)) in text and 'UPSAMPLE_CHANNEL_NUM = 32' in text and 'BASE_LR = 0.0001' in text
    weights.write_bytes(b'nothing')
    assert str(weights) in refused(tmp_path / 'b', monkeypatch, capsys, *options, '--pretrained', weights)


def test_images_of_another_size(options, tmp_path, monkeypatch, capsys):
    """Labels of images that were since scaled, whichever way."""
    content = options[1].read_text()
    for width, height in ((320, 240), (80, 60)):
        changed = content.replace('"width": 160', f'"width": {width}').replace('"height": 120', f'"height": {height}')
        assert changed != content
        options[1].write_text(changed)
        line = refused(tmp_path, monkeypatch, capsys, *options)
        assert str(options[1]) in line and f'{width} x {height}' in line and '160 x 120' in line


def test_links_in_a_circle(tmp_path):
    draw(tmp_path / 'images')
    (tmp_path / 'images/again').symlink_to(tmp_path, target_is_directory=True)
    files = command.ImageFiles(tmp_path / 'images')
    assert files.find('ash.jpg', tmp_path / 'export.json') == ('ash.jpg',)
    assert sum(map(len, files.by_name.values())) == 6
