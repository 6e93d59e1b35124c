"""check_data: boxes and joints that are sound each by itself, and wrong all the same."""

import dataclasses

import numpy as np
import pytest
from check_command import JPEG, counts, found
from conftest import load_config
from prepare_command import write_json
from refusals import MISSING, coco_with, instead, mpii_people, replace

from cvpack.files import read_json
from lib.config import coco_defaults, mpii_defaults
from lib.datasets.checks import Kind
from lib.datasets.description import COCO, MPII
from lib.tools.check_data import __main__ as check_data

TRAIN, DET = COCO.train_json, COCO.val_boxes


def edited(drawn, root, edit, name=TRAIN):
    """The drawn people with edit(annotation, image) applied to each of a file."""
    content = read_json(drawn / name)
    images = {image['id']: image for image in content['images']}
    for annotation in content['annotations']:
        edit(annotation, images[annotation['image_id']])
    return coco_with(drawn, root, {name: instead(content)}), len(content['annotations'])


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


def test_boxes_as_corners(drawn, tmp_path):
    root, people = edited(drawn, tmp_path, to_corners)
    findings = found(root)
    assert 0.5 * people <= counts(findings)[Kind.CORNERS] <= people
    example = findings.examples[Kind.CORNERS][0]
    assert f'{root / TRAIN}: annotation ' in example and ': box [' in example and ' in an image of ' in example


def test_a_detectors_boxes_as_corners(drawn, tmp_path):
    boxes = read_json(drawn / DET)
    for box in boxes:
        to_corners(box)
    findings = found(coco_with(drawn, tmp_path, {DET: instead(boxes)}), 'val')
    assert counts(findings).keys() == {Kind.CORNERS} and DET in findings.examples[Kind.CORNERS][0]


@pytest.mark.parametrize('growth', [1.25, 1.5, 2])
def test_large_boxes_are_not_corners(drawn, tmp_path, growth):
    """Boxes with a wide margin reach out of the image, too."""

    def grow(person, _):
        x, y, width, height = person['bbox']
        more_x, more_y = width * (growth - 1), height * (growth - 1)
        person['bbox'] = [x - more_x / 2, y - more_y / 2, width + more_x, height + more_y]

    assert counts(found(edited(drawn, tmp_path, grow)[0])) == {}


@pytest.mark.parametrize('fields', [('bbox',), ('keypoints',), ('bbox', 'keypoints')], ids='-'.join)
def test_ratios(drawn, tmp_path, fields):
    root, people = edited(drawn, tmp_path, ratios_of(*fields))
    findings = found(root)
    assert counts(findings) == {Kind.RATIOS: people}  # one finding each, whatever else follows from it
    assert ('box [0.' if 'bbox' in fields else 'joint ') in findings.examples[Kind.RATIOS][0]


def test_ratios_in_mpiis_form(tmp_path):
    people = mpii_people()
    (tmp_path / 'images').mkdir()
    for person in people:
        person['joints'] = (np.array(person['joints']) / 120).tolist()
        (tmp_path / 'images' / person['image']).write_bytes(JPEG)
    write_json(tmp_path / MPII.train_json, people)
    findings = found(tmp_path, defaults=mpii_defaults)
    assert counts(findings) == {Kind.RATIOS: 3, Kind.SWAP: 1}  # joints at random


def test_joints_far_outside_the_box(drawn, tmp_path):
    """One joint at the far end of the image; all joints in somebody else's box."""
    content = read_json(drawn / TRAIN)
    person, other = content['annotations'][:2]
    person['bbox'], other['bbox'] = [0, 0, 20, 30], [170, 150, 20, 30]
    person['keypoints'] = [10, 20, 2] * 16 + [150, 20, 1]
    other['keypoints'] = [160, 140, 2] * 17
    for row in (person, other):
        row['num_keypoints'] = 17
    findings = found(coco_with(drawn, tmp_path, {TRAIN: instead(content)}))
    assert counts(findings) == {Kind.FAR: 1}
    assert 'joint 16 at (150, 20) for box [0.0, 0.0, 20.0, 30.0] in an image of ' in findings.examples[Kind.FAR][0]
    other['keypoints'] = [150, 140, 2] * 10 + [172, 152, 2] * 7
    findings = found(coco_with(drawn, tmp_path / 'most', {TRAIN: instead(content)}))
    assert counts(findings) == {Kind.FAR: 2}


def test_people_said_to_have_no_joints(drawn, tmp_path):
    content = read_json(drawn / TRAIN)
    dropped, crowd, empty = content['annotations'][:3]
    for row in (dropped, crowd, empty):
        row['num_keypoints'] = 0
    crowd['iscrowd'], empty['keypoints'] = 1, [0] * 51
    findings = found(coco_with(drawn, tmp_path, {TRAIN: instead(content)}))
    labelled = sum(value > 0 for value in dropped['keypoints'][2::3])
    assert counts(findings) == {Kind.UNCOUNTED: 1}
    assert f'(id {dropped["id"]}): num_keypoints = 0, but {labelled} joints' in findings.examples[Kind.UNCOUNTED][0]


def test_a_file_without_annotations(drawn, tmp_path):
    root = coco_with(drawn, tmp_path, {TRAIN: replace(annotations=MISSING)})
    assert counts(found(root)) == {Kind.FILE: 1, Kind.NOBODY: 1}


def test_real_data_raises_no_alarm(shared):
    root = shared / 'data/coco_subset'
    names = dict(train_json='annotations/person_keypoints_train2017.json', val_boxes='', images='{split}2017')
    val = 'annotations/person_keypoints_val2017.json'
    description = dataclasses.replace(COCO, **names, val_json=val, root=root)
    findings = check_data.check(coco_defaults(description), ('train', 'val'), 2)
    assert counts(findings).keys() <= {Kind.SWAP}
    lspet = load_config('mspn.1xstg.lspet')
    lspet.DATASET.ROOT = str(shared / 'data/LSPET')
    assert counts(check_data.check(lspet, ('val',), 2)).keys() <= {Kind.SWAP}
