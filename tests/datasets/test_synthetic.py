"""Synthetic people: COCO's files, the same bytes for the same seed, annotations that agree with the picture."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.coco
import pytest
from pycocotools.cocoeval import COCOeval

from lib.datasets import synthetic
from lib.datasets.description import COCO
from lib.datasets.synthetic import Part, Person

TRAIN, VAL = 'gt_json/train_val_minus_minival_2014.json', 'gt_json/minival_2014.json'
DETECTIONS = 'det_json/minival_2014_det.json'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('synthetic')
    counts = synthetic.write_dataset(root, 4, 12)
    assert (counts['train images'], counts['val images']) == (4, 12)
    return root


def read(path: Path) -> dict | list:
    return json.loads(path.read_text())


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def load(path: Path) -> pycocotools.coco.COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return pycocotools.coco.COCO(str(path))


def people(count: int) -> Iterator[tuple[np.ndarray, dict, np.ndarray]]:
    """Everybody in so many pictures: the picture, the annotation and its keypoints (17, 3)."""
    for seed in range(count):
        image, annotations = synthetic.draw_image(np.random.default_rng(seed))
        for annotation in annotations:
            yield image, annotation, np.reshape(annotation['keypoints'], (17, 3))


def lone_person(seed: int, yaw: float) -> tuple[Person, dict[str, np.ndarray]]:
    """A person alone in the middle of 300 x 300 pixels, and their keypoints by name."""
    person = synthetic.random_person(np.random.default_rng(seed), yaw, height=220, x=150, bottom=280)
    return person, dict(zip(COCO.joint_names, keypoints_of(person, person.parts)))


def painted(parts: list[Part]) -> np.ndarray:
    """Labels (300, 300) of parts."""
    return synthetic._draw_parts(np.zeros((300, 300, 3), np.uint8), parts)


def keypoints_of(person: Person, parts: list[Part]) -> np.ndarray:
    """Keypoints (17, 3) of a person, when the parts are all that there is to see."""
    return np.reshape(synthetic._annotation(painted(parts), 1, person)['keypoints'], (17, 3))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path / 'again', 4, 12)
    synthetic.write_dataset(tmp_path / 'other', 4, 12, seed=1)
    first, again, other = (bytes_of(path) for path in (root, tmp_path / 'again', tmp_path / 'other'))
    assert len(first) == 4 + 12 + 3
    assert again == first
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_an_image_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path, 2, 1)
    few, many = bytes_of(tmp_path), bytes_of(root)
    assert all(many[name] == few[name] for name in few if name.endswith('.jpg'))
    assert read(root / VAL)['images'][0] == read(tmp_path / VAL)['images'][0]
    person = read(tmp_path / VAL)['annotations'][0]
    assert person in read(root / VAL)['annotations']


def test_files_are_where_coco_has_them(root: Path) -> None:
    for name, split in ((TRAIN, 'train2014'), (VAL, 'val2014')):
        content = read(root / name)
        assert {'info', 'images', 'annotations', 'categories'} <= content.keys()
        assert len(content['categories'][0]['keypoints']) == 17
        assert content['categories'][0]['skeleton'][0] == [16, 14]
        for image in content['images']:
            assert image['file_name'] == f'COCO_{split}_{image["id"]:012d}.jpg'
            pixels = cv2.imread(str(root / 'images' / split / image['file_name']))
            assert pixels.shape == (image['height'], image['width'], 3)
        ids = [person['id'] for person in content['annotations']]
        assert len(ids) == len(set(ids))
        assert {person['image_id'] for person in content['annotations']} == {i['id'] for i in content['images']}


def test_pycocotools_gives_the_annotations_an_ap_of_one(root: Path) -> None:
    ground_truth = load(root / VAL)
    found = [
        {key: person[key] for key in ('image_id', 'category_id', 'keypoints')} | {'score': 1.0}
        for person in ground_truth.loadAnns(ground_truth.getAnnIds())
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(found), 'keypoints')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_detections_are_near_the_annotated_boxes(root: Path) -> None:
    annotations, boxes = read(root / VAL)['annotations'], read(root / DETECTIONS)
    sizes = {image['id']: (image['width'], image['height']) for image in read(root / VAL)['images']}
    assert len(annotations) == len(boxes)
    assert all(0 < box['score'] <= 1 and box['category_id'] == 1 for box in boxes)
    assert [box['image_id'] for box in boxes] == [person['image_id'] for person in annotations]
    for person, box in zip(annotations, boxes):
        x, y, w, h = box['bbox']
        width, height = sizes[box['image_id']]
        assert x >= 0 and y >= 0 and x + w <= width + 0.02 and y + h <= height + 0.02
        assert box['bbox'] != person['bbox']
        tolerance = 0.2 * np.array(person['bbox'])[[2, 3, 2, 3]]
        assert np.all(np.abs(np.subtract(box['bbox'], person['bbox'])) < tolerance)


def test_annotations_agree_with_themselves_and_the_picture() -> None:
    seen = set()
    for image, annotation, keypoints in people(60):
        height, width = image.shape[:2]
        x, y, w, h = annotation['bbox']
        assert x >= 0 and y >= 0 and x + w <= width + 0.02 and y + h <= height + 0.02
        assert 0 < annotation['area'] <= w * h
        assert annotation['num_keypoints'] == np.count_nonzero(keypoints[:, 2]) >= synthetic.MIN_LABELLED
        assert np.all(keypoints[keypoints[:, 2] == 0] == 0)
        inside = keypoints[keypoints[:, 2] > 0]
        assert np.all((inside[:, :2] >= 0) & (inside[:, :2] < (width, height)))
        assert np.all(inside[:, :2] >= np.floor((x, y))) and np.all(inside[:, :2] <= np.ceil((x + w, y + h)))
        seen |= set(keypoints[:, 2].tolist())
    assert seen == {0, 1, 2}


def test_box_and_area_are_those_of_the_silhouette() -> None:
    for seed in range(10):
        person, _ = lone_person(seed, 30)
        labels = painted(person.parts)
        annotation = synthetic._annotation(labels, 1, person)
        assert annotation['area'] == np.count_nonzero(labels)
        x, y, w, h = cv2.boundingRect(np.uint8(labels > 0))
        x0, y0, w0, h0 = annotation['bbox']
        assert np.abs(np.array((x, y, x + w - 1, y + h - 1)) - (x0, y0, x0 + w0, y0 + h0)).max() < 1.5


def test_left_is_the_persons_own() -> None:
    for seed in range(20):
        _, front = lone_person(seed, 0)
        _, back = lone_person(seed, 180)
        assert front['left_shoulder'][0] > front['right_shoulder'][0]
        assert back['left_shoulder'][0] < back['right_shoulder'][0]


def test_a_face_is_seen_from_the_front_only() -> None:
    seen = {yaw: [lone_person(seed, yaw)[1] for seed in range(30)] for yaw in (0, 180)}
    face = ('nose', 'left_eye', 'right_eye')
    assert all(person[name][2] == 1 for person in seen[180] for name in face)
    # A raised arm may cover a face from the front.
    assert np.mean([person[name][2] == 2 for person in seen[0] for name in face]) > 0.9


def test_what_covers_a_joint_hides_that_joint_alone() -> None:
    for seed in range(10):
        person, before = lone_person(seed, 10)
        for joint, name in enumerate(COCO.joint_names):
            patch = Part(np.array([(*person.joints[joint], 0, 1.5)]), np.zeros(3))
            after = keypoints_of(person, [*person.parts, patch])
            near = np.abs(person.joints - person.joints[joint]).max(axis=1) < 4
            assert after[joint, 2] == 1, name
            assert np.all(after[~near, 2] == np.array(list(before.values()))[~near, 2])


def test_a_joint_is_hidden_only_by_another_part_over_its_own() -> None:
    hidden = 0
    for seed in range(20):
        person, before = lone_person(seed, 180)
        for joint, name in enumerate(COCO.joint_names):
            if before[name][2] == 1:
                # A stable sort: the parts that show this joint are painted last, the others in their order.
                parts = sorted(person.parts, key=lambda part: joint in part.joints)
                hidden += 1
                assert keypoints_of(person._replace(parts=parts), parts)[joint, 2] == 2, name
    assert hidden > 60
