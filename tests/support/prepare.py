"""lib.tools.prepare in this process, and downloads for it."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lib.tools.prepare import __main__ as prepare
from tests.support.annotations import write_json


def run(capsys: pytest.CaptureFixture, *arguments) -> str:
    """Runs the command line; returns what it prints."""
    prepare.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def fail(capsys: pytest.CaptureFixture, *arguments) -> str:
    """Runs a command line that cannot work; returns the one line with which it ends."""
    with pytest.raises(SystemExit) as stop:
        prepare.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1
    return captured.err


def snapshot(folder: Path) -> dict:
    """Everything in a folder with its kind and times: equal means untouched."""
    stats = {path: path.lstat() for path in folder.rglob('*')}
    return {path: (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def annotations_of(names: dict[int, str]) -> dict:
    """COCO annotations: per image a person with joints, one without, and a crowd."""
    images = [{'id': key, 'file_name': name, 'width': 8, 'height': 9} for key, name in names.items()]
    people = [
        {
            'id': 10 * key + kind,
            'image_id': key,
            'category_id': 1,
            'iscrowd': int(kind == 2),
            'num_keypoints': joints,
            'keypoints': [1, 2, 2] * joints + [0, 0, 0] * (17 - joints),
            'bbox': [0.5, 1.25, 3, 4],
            'area': 5.5,
        }
        for key in names
        for kind, joints in enumerate((17, 0, 3))
    ]
    return {'images': images, 'annotations': people, 'categories': [{'id': 1, 'name': 'person'}]}


def make_2017(folder: Path, images: str = '') -> Path:
    for split, keys in (('train2017', (1, 2, 3)), ('val2017', (4, 5))):
        names = {key: f'{key:012}.jpg' for key in keys}
        write_json(folder / f'annotations/person_keypoints_{split}.json', annotations_of(names))
        (folder / images / split).mkdir(parents=True)
        for name in names.values():
            (folder / images / split / name).touch()
    return folder


def make_2014(folder: Path, jsons: str, images: str) -> Path:
    files = {'train_val_minus_minival_2014': {1: 'train2014', 2: 'val2014'}, 'minival_2014': {3: 'val2014'}}
    for name, keys in files.items():
        names = {key: f'COCO_{split}_{key:012}.jpg' for key, split in keys.items()}
        write_json(folder / jsons / f'{name}.json', annotations_of(names))
        for key, split in keys.items():
            (folder / images / split).mkdir(parents=True, exist_ok=True)
            (folder / images / split / names[key]).touch()
    return folder


def box(image_id: int, **changes) -> dict:
    return {'image_id': image_id, 'category_id': 1, 'bbox': [1, 2, 3, 4], 'score': 0.5} | changes


def make_mpii_json(source: Path, annot: str, people: int = 2) -> Path:
    record = {
        'image': 'a.jpg',
        'center': [1.0, 2.0],
        'scale': 1.0,
        'joints': [[1, 1]] * 16,
        'joints_vis': [1] * 16,
    }
    for name in ('train', 'valid', 'test'):
        write_json(source / annot / f'{name}.json', [record, record])
    shapes = {'jnt_missing': (16, people), 'pos_gt_src': (16, 2, people), 'headboxes_src': (2, 2, people)}
    scipy.io.savemat(source / annot / 'gt_valid.mat', {name: np.zeros(shape) for name, shape in shapes.items()})
    (source / 'images').mkdir()
    (source / 'images/a.jpg').touch()
    return source
