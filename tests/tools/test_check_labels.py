"""check_data: boxes and joints that are sound each by itself, and wrong all the same."""

import dataclasses

import numpy as np
import pytest

from cvpack.files import read_json
from lib.config import coco_defaults, mpii_defaults
from lib.datasets.checks import Issue
from lib.datasets.description import COCO, MPII
from lib.tools.check_data import __main__ as check_data
from tests.support.annotations import MISSING, coco_with, instead, mpii_people, replace, write_json
from tests.support.check_data import JPEG, counts, first, found
from tests.support.settings import load_config

TRAIN, DET = COCO.train_json, COCO.val_boxes


def edited(synthetic_coco, root, edit, name=TRAIN):
    """The synthetic people with edit(annotation, image) applied to each of a file."""
    content = read_json(synthetic_coco / name)
    images = {image['id']: image for image in content['images']}
    for annotation in content['annotations']:
        edit(annotation, images[annotation['image_id']])
    return coco_with(synthetic_coco, root, {name: instead(content)}), len(content['annotations'])


def to_corners(row, _image=None):
    x, y, width, height = row['bbox']
    row['bbox'] = [x, y, x + width, y + height]


def ratios_of(*fields):
    def edit(person, image):
        size = image['width'], image['height']
        if 'bbox' in fields:
            person['bbox'] = [value / size[i % 2] for i, value in enumerate(person['bbox'])]
        if 'keypoints' in fields:
            person['keypoints'] = [
                value if i % 3 == 2 else value / size[i % 3] for i, value in enumerate(person['keypoints'])
            ]

    return edit


def test_boxes_as_corners(synthetic_coco, tmp_path):
    root, people = edited(synthetic_coco, tmp_path, to_corners)
    findings = found(root)
    assert 0.5 * people <= counts(findings)[Issue.CORNERS] <= people
    example = first(findings, Issue.CORNERS)
    assert f'{root / TRAIN}: annotation ' in example and ': box [' in example and ' in an image of ' in example


def test_a_detectors_boxes_as_corners(synthetic_coco, tmp_path):
    boxes = read_json(synthetic_coco / DET)
    for box in boxes:
        to_corners(box)
    findings = found(coco_with(synthetic_coco, tmp_path, {DET: instead(boxes)}), 'val')
    assert counts(findings).keys() == {Issue.CORNERS} and DET in first(findings, Issue.CORNERS)


@pytest.mark.parametrize('growth', [1.25, 1.5, 2])
def test_large_boxes_are_not_corners(synthetic_coco, tmp_path, growth):
    """Boxes with a wide margin reach out of the image, too."""

    def grow(person, _):
        x, y, width, height = person['bbox']
        more_x, more_y = width * (growth - 1), height * (growth - 1)
        person['bbox'] = [x - more_x / 2, y - more_y / 2, width + more_x, height + more_y]

    assert counts(found(edited(synthetic_coco, tmp_path, grow)[0])) == {}


@pytest.mark.parametrize('fields', [('bbox',), ('keypoints',), ('bbox', 'keypoints')], ids='-'.join)
def test_ratios(synthetic_coco, tmp_path, fields):
    root, people = edited(synthetic_coco, tmp_path, ratios_of(*fields))
    findings = found(root)
    assert counts(findings) == {Issue.RATIOS: people}  # one finding each, whatever else follows from it
    assert ('box [0.' if 'bbox' in fields else 'joint ') in first(findings, Issue.RATIOS)


def test_ratios_in_mpiis_form(tmp_path):
    people = mpii_people()
    (tmp_path / 'images').mkdir()
    for person in people:
        person['joints'] = (np.array(person['joints']) / 120).tolist()
        (tmp_path / 'images' / person['image']).write_bytes(JPEG)
    write_json(tmp_path / MPII.train_json, people)
    findings = found(tmp_path, defaults=mpii_defaults)
    assert counts(findings) == {Issue.RATIOS: 3, Issue.SWAP: 1}  # joints at random


def test_joints_far_outside_the_box(synthetic_coco, tmp_path):
    """One joint at the far end of the image; all joints in somebody else's box."""
    content = read_json(synthetic_coco / TRAIN)
    person, other = content['annotations'][:2]
    person['bbox'], other['bbox'] = [0, 0, 20, 30], [170, 150, 20, 30]
    person['keypoints'] = [10, 20, 2] * 16 + [150, 20, 1]
    other['keypoints'] = [160, 140, 2] * 17
    for row in (person, other):
        row['num_keypoints'] = 17
    findings = found(coco_with(synthetic_coco, tmp_path, {TRAIN: instead(content)}))
    assert counts(findings) == {Issue.FAR: 1}
    assert 'joint 16 at (150, 20), box [0.0, 0.0, 20.0, 30.0]' in first(findings, Issue.FAR)
    other['keypoints'] = [150, 140, 2] * 10 + [172, 152, 2] * 7
    findings = found(coco_with(synthetic_coco, tmp_path / 'most', {TRAIN: instead(content)}))
    assert counts(findings) == {Issue.FAR: 2}


def test_people_said_to_have_no_joints(synthetic_coco, tmp_path):
    content = read_json(synthetic_coco / TRAIN)
    dropped, crowd, empty = content['annotations'][:3]
    for row in (dropped, crowd, empty):
        row['num_keypoints'] = 0
    crowd['iscrowd'], empty['keypoints'] = 1, [0] * 51
    findings = found(coco_with(synthetic_coco, tmp_path, {TRAIN: instead(content)}))
    labelled = sum(value > 0 for value in dropped['keypoints'][2::3])
    assert counts(findings) == {Issue.UNCOUNTED: 1}
    assert f'(id {dropped["id"]}): num_keypoints = 0, but {labelled} joints' in first(findings, Issue.UNCOUNTED)


def test_a_file_without_annotations(synthetic_coco, tmp_path):
    root = coco_with(synthetic_coco, tmp_path, {TRAIN: replace(annotations=MISSING)})
    assert counts(found(root)) == {Issue.FILE: 1, Issue.NOBODY: 1}


def test_real_data_raises_no_alarm(shared):
    root = shared / 'data/coco_subset'
    names = dict(train_json='annotations/person_keypoints_train2017.json', val_boxes='', images='{split}2017')
    val = 'annotations/person_keypoints_val2017.json'
    description = dataclasses.replace(COCO, **names, val_json=val, root=root)
    findings = check_data.check(coco_defaults(description), ('train', 'val'), 2)
    assert counts(findings).keys() <= {Issue.SWAP}
    lspet = load_config('mspn.1xstg.lspet')
    lspet.DATASET.ROOT = str(shared / 'data/LSPET')
    assert counts(check_data.check(lspet, ('val',), 2)).keys() <= {Issue.SWAP}
