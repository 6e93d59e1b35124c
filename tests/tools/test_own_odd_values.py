"""prepare own: single values that are none, or absurd: repaired and told, or refused in a line that names them."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.annotations import write_json
from tests.support.commands import names_all
from tests.support.damage import told
from tests.support.outcome import Outcome, outcome
from tests.support.small_exports import FILES, coco_export, write_images

MISSING = 'missing'


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('small') / 'images')


def with_value(place: tuple, value: Any) -> dict:
    """A clean export with another value at a place of it."""
    content = parent = coco_export(count=3, joints=3, seed=0)
    for key in place[:-1]:
        parent = parent[key]
    if value is MISSING:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return content


def short(value: Any) -> str:
    return repr(value)[:30]


def prepared(content: dict, images: Path, folder: Path) -> Outcome:
    return outcome(write_json(folder / 'in.json', content), images, folder / 'out')


PERSON, IMAGE, CATEGORY = ('annotations', 0), ('images', 0), ('categories', 0)
# Everybody is there as without the damage. What is told, if that is a repair.
REPAIRED = [
    ((*PERSON, 'num_keypoints'), [[], False], 'num_keypoints'),
    ((*PERSON, 'num_keypoints'), 'three', 'num_keypoints'),
    ((*PERSON, 'bbox'), [1e12, 5, 40, 40], 'boxes from the joints'),
    ((*PERSON, 'bbox'), [math.nan, 5, 40, 40], 'boxes from the joints'),
    ((*PERSON, 'bbox'), [5, 5, -40, 40], 'boxes from the joints'),
    ((*PERSON, 'iscrowd'), 'false', ''),
    ((*PERSON, 'face_kpts'), [9, 9, 2], 'face'),
    ((*PERSON, 'area'), 10**400, 'areas from the box'),
    ((*PERSON, 'area'), 1e12, 'areas from the box'),
    ((*PERSON, 'area'), 'large', 'areas from the box'),
    ((*PERSON, 'area'), math.nan, 'areas from the box'),
    ((*PERSON, 'id'), {'uuid': 1}, ''),
    ((*PERSON, 'id'), MISSING, ''),
    ((*IMAGE, 'width'), math.inf, ''),
    ((*IMAGE, 'height'), 'high', ''),
    ((*IMAGE, 'width'), MISSING, ''),
    ((*CATEGORY, 'name'), None, ''),
    ((*CATEGORY, 'skeleton'), [[1, 2], 'x', [0], [9, 9]], 'limbs'),
    ((*CATEGORY, 'keypoints'), ['nose', 'nose', ''], 'renamed'),
]


@pytest.mark.parametrize(('place', 'value', 'words'), REPAIRED, ids=short)
def test_a_value_that_is_repaired(place, value, words, images, tmp_path):
    found = prepared(with_value(place, value), images, tmp_path)
    meant = prepared(coco_export(count=3, joints=3, seed=0), images, tmp_path / 'clean')
    assert found.error == '' and [nameless(one) for one in found.people] == [nameless(one) for one in meant.people]
    kinds = told(found.printed)
    assert any(words in kind for _, kind, _ in kinds) if words else kinds == told(meant.printed)


def nameless(person: tuple) -> tuple:
    """A person without the joints' names."""
    file, joints = person
    return file, [joint[1:] for joint in joints]


REFUSED = [
    ((*PERSON, 'keypoints', 0), True, ('(id 1)', 'keypoints[0]', 'True')),
    ((*PERSON, 'keypoints', 0), '12,5', ('(id 1)', 'keypoints[0]', '12,5')),
    ((*PERSON, 'keypoints', 0), 'inf', ('(id 1)', 'keypoints[0]', 'inf')),
    ((*PERSON, 'keypoints', 2), 7, ('(id 1)', 'joint 0', '7')),
    ((*PERSON, 'keypoints'), [1, 2, 2], ('(id 1)', 'keypoints', '3', '9')),
    ((*PERSON, 'bbox'), [True, 5, 40, 40], ('(id 1)', 'bbox[0]', 'True')),
    ((*PERSON, 'bbox'), [5, 5, 40], ('(id 1)', 'bbox')),
    ((*IMAGE, 'file_name'), 5, ('image 0', 'file_name', '5')),
    ((*IMAGE, 'id'), MISSING, ('image 0', 'id')),
    ((*IMAGE, 'id'), 2, ('image 1', FILES[0])),
    (('images', 1), 'b', ('image 1', "'b'")),
    (('annotations',), {}, ('annotations',)),
    (('categories',), ['cat'], ('categories',)),
]


@pytest.mark.parametrize(('place', 'value', 'pieces'), REFUSED, ids=short)
def test_a_value_that_is_refused(place, value, pieces, images, tmp_path):
    names_all(prepared(with_value(place, value), images, tmp_path).error, tmp_path / 'in.json', *pieces)


@pytest.mark.parametrize('form', [str, lambda value: f' {value}.0' if isinstance(value, int) else str(value)])
def test_numbers_written_as_text(form, images, tmp_path):
    content, meant = (coco_export(count=3, joints=3, seed=0) for _ in range(2))
    for row in content['annotations']:
        row |= {key: [form(value) for value in row[key]] for key in ('keypoints', 'bbox')}
    found = prepared(content, images, tmp_path)
    assert found.people == prepared(meant, images, tmp_path / 'clean').people
    ((count, _),) = [(count, kind) for count, kind, _ in told(found.printed) if 'as text' in kind]
    assert count == len(meant['annotations'])


def test_boxes_of_another_category_with_zeros_as_joints(images, tmp_path):
    """They need no --category."""
    content = coco_export(count=3, joints=3, seed=0)
    meant = prepared(content, images, tmp_path / 'clean').people
    content['categories'].append({'id': 2, 'name': 'ball'})
    content['annotations'].append(content['annotations'][0] | {'id': 99, 'category_id': 2, 'keypoints': [0] * 9})
    found = prepared(content, images, tmp_path)
    assert found.people == meant and any('boxes without joints' in kind for _, kind, _ in told(found.printed))


@pytest.mark.parametrize(('key', 'value', 'word'), [('iscrowd', 1, 'crowds'), ('keypoints', [9, 9, 0] * 3, 'labelled')])
def test_a_file_of_which_nobody_is_left(key, value, word, images, tmp_path):
    """The reason is the true one."""
    content = coco_export(count=3, joints=3, seed=0)
    for row in content['annotations']:
        row[key] = value
    names_all(prepared(content, images, tmp_path).error, tmp_path / 'in.json', word)


def test_crowds_and_boxes_alone(images, tmp_path):
    """COCO's crowds have zeros for all joints: they are not what lacks."""
    content = coco_export(count=3, joints=3, seed=0)
    for i, row in enumerate(content['annotations']):
        row |= {'iscrowd': i % 2, 'keypoints': [0] * 9}
    error = prepared(content, images, tmp_path).error
    names_all(error, tmp_path / 'in.json', 'not only boxes')


def pairs_of(joints: int) -> dict:
    """An export without the joints' names, x and y of each."""
    content = coco_export(count=3, joints=2, seed=0)
    del content['categories'][0]['keypoints']
    for row in content['annotations']:
        row['keypoints'] = [[i + 5, i + row['id'] + 6.5] for i in range(joints)]
        row['bbox'] = [2, 2, 24, 28]
    return content


def test_pairs_of_joints_without_names(images, tmp_path):
    """A list a joint tells how many there are; numbers in a row do not, where they could be joints of three."""
    content = pairs_of(6)
    found = prepared(content, images, tmp_path)
    assert len(found.people) == len(content['annotations']) and {len(own) for _, own in found.people} == {6}
    for row in content['annotations']:
        row['keypoints'] = [value for pair in row['keypoints'] for value in pair]
    names_all(prepared(content, images, tmp_path / 'flat').error, tmp_path / 'flat/in.json', 12, 'names')


def test_two_categories_of_one_id(images, tmp_path):
    content = coco_export(count=3, joints=3, seed=0)
    content['categories'].append({**content['categories'][0], 'keypoints': ['a', 'b', 'c']})
    names_all(prepared(content, images, tmp_path).error, tmp_path / 'in.json', '1')


@pytest.mark.parametrize('name', ['cut.jpg', 'empty.png', 'text.png', 'none.png', 'http://[{}', 'a\0.png', ''])
def test_images_that_are_none(name, images, tmp_path):
    """Others stay."""
    content = with_value((*IMAGE, 'file_name'), name)
    found, meant = prepared(content, images, tmp_path), coco_export(count=3, joints=3, seed=0)
    if name == '':
        return names_all(found.error, tmp_path / 'in.json', 'file_name', 'image 0')
    kinds = [(count, kind) for count, kind, _ in told(found.printed) if 'left out' in kind]
    gone = sum(row['image_id'] == 1 for row in meant['annotations'])
    assert [count for count, kind in kinds if kind.startswith('instances')] == [gone]
    assert [count for count, kind in kinds if kind.startswith('images')] == [1]
    assert len(found.people) == len(meant['annotations']) - gone


YAML = {'train': 'images', 'kpt_shape': [2, 3], 'names': {0: 'cat'}, 'flip_idx': [1, 0]}
LINE = '0 0.5 0.5 0.5 0.5 0.25 0.25 2 0.5 0.75 1'


def yolo(folder: Path, images: Path, labels: bytes, **described: Any) -> Outcome:
    for i, name in enumerate(FILES[:2]):
        for path in (folder / 'images' / name, folder / 'labels' / name):
            path.parent.mkdir(parents=True, exist_ok=True)
        os.link(images / name, folder / 'images' / name)
        (folder / 'labels' / name).with_suffix('.txt').write_bytes(LINE.encode() if i else labels)
    (folder / 'data.yaml').write_text(yaml.safe_dump(YAML | described))
    return outcome(folder / 'data.yaml', folder / 'images', folder / 'out')


def test_labels_of_windows(images, tmp_path):
    found = yolo(tmp_path, images, b'\xef\xbb\xbf' + LINE.encode() + b'\r\n\r\n')
    assert found.error == '' and len(found.people) == 2


def test_mirror_joints_that_are_not_known(images, tmp_path):
    """flip_idx: [] is as none."""
    assert yolo(tmp_path, images, LINE.encode(), flip_idx=[]).error == ''


def test_a_confidence_of_a_joint_that_is_not_there(images, tmp_path):
    """Ultralytics predicts labels with one at 0, 0: not labelled, and told alone."""
    found = yolo(tmp_path, images, LINE.replace('0.25 0.25 2', '0 0 0.4').encode())
    assert [len(joints) for file, joints in found.people if file == FILES[0]] == [1]
    kinds = [(count, kind) for count, kind, _ in told(found.printed) if 'not labelled' in kind]
    assert [count for count, _ in kinds] == [1] and 'num_keypoints' not in found.printed


@pytest.mark.parametrize(
    'labels', [b'\xff\xfe0\0', b'0 0.5 \xda', b'nan' + LINE[1:].encode(), b'0 0.5 0.5 1e999 1 1 1 2 1 1 2']
)
def test_labels_that_are_none(labels, images, tmp_path):
    names_all(yolo(tmp_path, images, labels).error, (tmp_path / 'labels' / FILES[0]).with_suffix('.txt'))


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        *(('names', value) for value in ({'a': 'cat'}, 5)),
        *(('kpt_shape', value) for value in ([2, 4], [-1, 3], [True, 3], '2, 3', [10**9, 3])),
        *(('flip_idx', value) for value in (['1', '0'], [0, 0], [1, 2], 3)),
        *(('train', value) for value in ('labels', 'images/a.png', 'nowhere', 5, '')),
        ('kpt_names', {0: ['a', 'b', 'c']}),
    ],
)
def test_a_data_yaml_with_a_wrong_value(key, value, images, tmp_path):
    names_all(yolo(tmp_path, images, LINE.encode(), **{key: value}).error, tmp_path, key if key != 'train' else '')
