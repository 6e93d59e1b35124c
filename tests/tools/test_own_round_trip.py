"""prepare own: annotations that tools damaged give the same people to train and test on as the clean file."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from cvpack.files import read_json
from lib.config import run_config
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO, Description
from tests.support.annotations import write_json
from tests.support.damage import WAYS, boxless, joint_box, people, told
from tests.support.prepare import run

SPLITS = ('train', 'val')
AREA_RATIO = 0.53  # of the box, where no area is given


def prepared(capsys: pytest.CaptureFixture, folder: Path, files: dict[str, Path], images: Path) -> tuple:
    """What `prepare own` prints about train and val, and the description that it writes."""
    arguments = ('--annotations', files['train'], '--val', files['val'], '--images', images, '--name', 'again')
    printed = run(capsys, 'own', *arguments, '--target', folder / 'data', '--experiments', folder / 'exps')
    return printed, Description.from_config(run_config(folder / 'exps/mspn.2xstg.again').DATASET)


def records(dataset: Description) -> dict[str, dict[str, np.ndarray]]:
    """What training and testing read of each person; the image file in full."""
    reader = CocoReader(dataset)
    both = {'train': reader.train_records(1), 'val': reader.test_set('val', True).records}
    fields = ('center', 'scale', 'joints', 'visibility', 'integer')
    return {
        split: {field: getattr(own, field) for field in fields if getattr(own, field) is not None}
        | {'file': np.array([str(own.path(i).resolve()) for i in range(len(own))])}
        for split, own in both.items()
    }


def assert_same(found: dict, expected: dict, besides: dict[str, list[int]]) -> None:
    """besides: of each split, the people whose boxes differ"""
    for split in SPLITS:
        assert len(expected[split]['file']) > 0
        for field, values in expected[split].items():
            kept = np.ones(len(values), bool)
            kept[besides[split] if field in ('center', 'scale') else []] = False
            np.testing.assert_array_equal(found[split][field][kept], values[kept], err_msg=f'{split}: {field}')


def assert_boxes(path: Path, content: dict, lost: Iterable[dict]) -> None:
    """The boxes of `lost`, people of the clean `content`, are around their joints in the file at `path`; an area that
    the export has is kept."""
    rows, clean = read_json(path)['annotations'], people(content)
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    for person in lost:
        row = rows[clean.index(person)]
        np.testing.assert_allclose(row['bbox'], joint_box(person, sizes[person['image_id']]), atol=0.01)


def damage_all(content: dict) -> None:
    for way in WAYS.values():
        way(content)


def test_all_damage_of_tools_at_once(tmp_path, shared, capsys):
    source = shared / 'data/coco_subset'
    clean = {split: source / f'annotations/person_keypoints_{split}2017.json' for split in SPLITS}
    damaged = {}
    for split, path in clean.items():
        damage_all(content := read_json(path))
        damaged[split] = write_json(tmp_path / f'{split}.json', content)
    _, dataset = prepared(capsys, tmp_path / 'clean', clean, source)
    printed, again = prepared(capsys, tmp_path / 'damaged', damaged, source)

    expected, found, nothing = records(dataset), records(again), {split: [] for split in SPLITS}
    direct = {f'{split}_json': str(path) for split, path in clean.items()}
    official = dataclasses.replace(COCO, root=source, images='{split}2017', val_boxes='', **direct)
    assert_same(expected, records(official), nothing)
    contents = {split: read_json(path) for split, path in clean.items()}
    lost = {split: [people(content).index(row) for row in boxless(content)] for split, content in contents.items()}
    assert_same(found, expected, lost)
    for split, content in contents.items():
        assert_boxes(again.annotations(split), content, boxless(content))
    assert dataclasses.replace(again, root=dataset.root, upper_body_ids=dataset.upper_body_ids) == dataset
    assert len(told(printed)) >= len(WAYS) - 2
