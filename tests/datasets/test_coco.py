"""COCO's files: which people and boxes count, where images lie, what the table shows."""

import dataclasses
import json
import logging
import math

import numpy as np
import pytest

from cvpack.errors import InputError
from cvpack.logger import LOGGER
from lib.datasets.coco import CocoReader, annotated_boxes
from lib.datasets.description import COCO
from lib.datasets.image_names import image_path
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.evaluator import format_metrics

BOX = {'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 0, 0], 'score': 0.9}
PERSON = {'id': 1, 'name': 'person'}


def write(root, annotations, detections=(), categories=(PERSON,)):
    images = [{'id': 1, 'file_name': 'COCO_val2014_000000000001.jpg'}]
    annotations = [{'id': number, **annotation} for number, annotation in enumerate(annotations, 1)]
    content = {'images': images, 'annotations': annotations, 'categories': list(categories)}
    for name in (COCO.train_json, COCO.val_json):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    (root / 'det_json').mkdir(exist_ok=True)
    (root / COCO.val_boxes).write_text(json.dumps(list(detections)))


def person(**changes) -> dict:
    fields = dict(image_id=1, iscrowd=0, num_keypoints=2, bbox=[10, 20, 40, 100], area=99.0, category_id=1)
    return {**fields, 'keypoints': [12, 30, 2, 14, 35, 1] + [0] * 45, **changes}


def test_training_people(tmp_path):
    """No crowds, nobody without joints or below LOAD_MIN_NUM, nobody in an unlisted image."""
    write(tmp_path, [person(), person(iscrowd=1), person(num_keypoints=0), person(image_id=2), person(num_keypoints=9)])
    records = CocoReader(COCO.at(tmp_path)).train_records(1)
    assert len(records) == 2
    assert records.path(0) == tmp_path / 'images/val2014/COCO_val2014_000000000001.jpg'
    np.testing.assert_array_equal(records.center[0], [30, 70])
    np.testing.assert_array_equal(records.scale[0], np.float32([0.2, 0.5]))
    np.testing.assert_array_equal(records.visibility[0, :3], [2, 1, 0])
    assert records.center.dtype == records.scale.dtype == np.float32
    assert len(CocoReader(COCO.at(tmp_path)).train_records(3)) == 1
    with pytest.raises(InputError, match='no person with 10 labelled joints'):
        CocoReader(COCO.at(tmp_path)).train_records(10)


def test_what_nobody_uses_may_look_as_it_likes(tmp_path):
    """As in the official files: boxes of no size, joints outside the image, crowds; and what is of other images."""
    nan = float('nan')
    unused = [
        person(num_keypoints=0, bbox=[3, 4, 0.5, 0]),
        person(iscrowd=1, bbox=[nan] * 4),
        person(image_id=9, keypoints=[]),
        {'image_id': 1, 'num_keypoints': 0},
    ]
    write(tmp_path, [*unused, person(keypoints=[-3, 900, 2] + [0] * 48)])
    records = CocoReader(COCO.at(tmp_path)).train_records(1)
    np.testing.assert_array_equal(records.joints[:, 0], [[-3, 900]])
    write(tmp_path, [person()], [{**BOX, 'bbox': [0, 0, 10, 10]}, {**BOX, 'category_id': 3}, {**BOX, 'image_id': 9}])
    assert len(CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False).records) == 1


def test_a_file_names_the_joints_of_its_description(tmp_path):
    """Somebody's own data set: other joints, or the same in another order, would be taken for one another."""
    write(tmp_path, [person(keypoints=[5, 6, 2] * 3)], categories=[{**PERSON, 'keypoints': ['a', 'b', 'c']}])
    own = dataclasses.replace(COCO.at(tmp_path), joint_names=('a', 'b', 'c'), sigmas=(0.1,) * 3, val_boxes='')
    assert CocoReader(own).train_records(1).joints.shape == (1, 3, 2)
    assert CocoReader(own).test_set('val', gt_boxes=False).records.boxes_from == 'annotation'  # there are no others
    split = dataclasses.replace(own, images='{split}2017')
    assert CocoReader(split).train_records(1).root == tmp_path / 'train2017'
    assert CocoReader(split).test_set('val', gt_boxes=False).records.root == tmp_path / 'val2017'
    with pytest.raises(InputError, match=r'its category has 3 joints, but DATASET\.KEYPOINT\.NUM = 17'):
        CocoReader(COCO.at(tmp_path)).train_records(1)
    with pytest.raises(InputError, match="joint 1 is 'b' in its category, 'c' in DATASET"):
        CocoReader(dataclasses.replace(own, joint_names=('a', 'c', 'b'))).test_set('val', gt_boxes=False)
    assert len(CocoReader(dataclasses.replace(own, joint_names=('a', 'b', 'see'))).train_records(1)) == 1
    with pytest.raises(InputError, match="joint 1 is 'b' in its category, 'c' in DATASET"):  # though 'see' is new
        CocoReader(dataclasses.replace(own, joint_names=('a', 'c', 'see'))).train_records(1)


def test_own_sigmas_and_pck(tmp_path):
    """A person of area 100 with two joints, 3 and 0 pixels off: OKS (exp(-9 / (2 * 100 * 0.2^2)) + 1) / 2."""
    joints = [10, 10, 1, 30, 10, 2]
    write(tmp_path, [person(keypoints=joints, area=100, bbox=[0, 0, 40, 20])], categories=[PERSON])
    own = dataclasses.replace(COCO.at(tmp_path), joint_names=('a', 'b'), sigmas=(0.1, 0.1), val_boxes='')
    test_set = CocoReader(own).test_set('val', gt_boxes=False)
    evaluator = CocoEvaluator(own, test_set)
    rows = evaluator.rows(np.array([[[10, 13], [30, 10]]], float), np.ones((1, 2, 1)))
    metrics = evaluator.evaluate(rows)
    assert (math.exp(-9 / 8) + 1) / 2 == pytest.approx(0.662, abs=1e-3)
    assert metrics['AP'] == pytest.approx(0.4)  # thresholds 0.5 to 0.65 of ten
    assert (metrics['PCK@0.1'], metrics['PCK@0.05']) == (1, 0.5)  # 4 and 2 pixels
    wider = dataclasses.replace(own, sigmas=(0.3, 0.3))
    assert CocoEvaluator(wider, test_set).evaluate(rows)['AP'] == pytest.approx(0.9)


def test_truth_is_of_listed_images(tmp_path):
    write(tmp_path, [person(), person(image_id=7), person(num_keypoints=0), person()])
    dataset = COCO.at(tmp_path)
    test_set = CocoReader(dataset).test_set('val', gt_boxes=True)
    [(path, people)] = CocoEvaluator(dataset, test_set).people().items()
    assert path == 'val2014/COCO_val2014_000000000001.jpg' and people.shape == (2, 17, 3)
    np.testing.assert_array_equal(people[0, 1], [14, 35, 1])


def test_boxes_by_falling_score(tmp_path):
    boxes = [
        {'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 10, 10], 'score': 0.2},
        {'image_id': 1, 'category_id': 2, 'bbox': [0, 0, 10, 10], 'score': 0.9},
        {'image_id': 7, 'category_id': 1, 'bbox': [0, 0, 10, 10], 'score': 0.9},
        {'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 20, 10], 'score': 0.8},
    ]
    write(tmp_path, [person(), person(iscrowd=1)], boxes)
    records = CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False).records
    assert records.scores.tolist() == [0.8, 0.2] and records.boxes_from == 'detector'
    annotated = CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=True).records
    assert len(annotated) == 1 and annotated.boxes_from == 'annotation'
    # Annotated boxes that stand in a detector's file are still called what they are.
    write(tmp_path, [person()], annotated_boxes([person()]))
    assert CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False).records.boxes_from == 'annotation'


@pytest.mark.parametrize('bbox', [[0, 0, 0, 10], [0, 0, 10, -1], [0, 0, math.nan, 10], [0, math.inf, 10, 10]])
def test_a_bad_detection_is_left_out(tmp_path, caplog, bbox):
    """And said once, whatever its score."""
    good = {'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 10, 10], 'score': 0.2}
    write(tmp_path, [person()], [{**good, 'bbox': bbox, 'score': math.nan}, good, {**good, 'bbox': bbox}])
    logging.getLogger(LOGGER).propagate = True
    with caplog.at_level(logging.INFO, LOGGER):
        records = CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False).records
    assert records.scores.tolist() == [0.2]
    [line] = set(caplog.messages)
    assert line.startswith(f'{tmp_path / COCO.val_boxes}: 2 boxes that are empty')


def test_no_boxes_is_an_error(tmp_path):
    write(tmp_path, [person()])
    with pytest.raises(InputError, match=r'minival_2014_det\.json has no box of a person'):
        CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False)
    (tmp_path / COCO.val_boxes).unlink()
    with pytest.raises(InputError, match=r'does not exist: .* or test with --gt-boxes'):
        CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False)


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('COCO_train2014_000000000009.jpg', 'train2014/COCO_train2014_000000000009.jpg'),
        ('COCO_test2015_000000000001.jpg', 'test2015/COCO_test2015_000000000001.jpg'),
        ('val2017/000000000139.jpg', 'val2017/000000000139.jpg'),
        ('mine.png', 'mine.png'),
    ],
)
def test_image_path(name, path):
    assert image_path(name) == path


def test_instance_score_is_box_times_mean_joint(tmp_path):
    write(tmp_path, [person()], [{'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 10, 10], 'score': 0.5}])
    evaluator = CocoEvaluator(COCO, CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False))
    scores = np.linspace(0.5, 1.3, 17).reshape(1, 17, 1)
    keypoints = np.arange(34, dtype=float).reshape(1, 17, 2) + 1 / 3
    rows = evaluator.rows(keypoints, scores)
    [row] = json.loads(evaluator.write(rows, tmp_path).read_text())
    assert rows == [row]
    assert row['score'] == pytest.approx(0.5 * 0.9)
    assert row['keypoints'][:3] == [0.3333, 1.3333, 0.5]


def test_a_metric_without_people_is_a_dash():
    assert format_metrics({'AP': 0.7451, 'APM': -1}) == {'AP': '74.5', 'APM': '-'}
