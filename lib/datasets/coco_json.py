"""COCO's json files, read and checked: which images are listed, who is labelled, where a detector found people.

What training or testing uses is checked; what they leave alone (crowds, boxes of other categories, of people
without joints, in images that are not listed) may look as it likes.

In all functions `content` is what the file at `path` holds and `report` gets what is wrong with it; those that
training and testing call with `refuse` raise InputError then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.datasets.checks import Kind, Report, Rows, refuse, shown

PERSON = 1
VISIBILITIES = (0, 1, 2)


@dataclass
class People:
    """Labelled people of listed images.

    image_ids: (n,) int64
    boxes:     (n, 4) float64: x, y, width, height in image pixels
    keypoints: (n, K, 3) float64: x, y in image pixels, visibility
    rows:      their annotations
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    rows: Rows


@dataclass
class Boxes:
    """Boxes of people in listed images.

    image_ids: (n,) int64
    boxes:     (n, 4) float64: x, y, width, height in image pixels
    scores:    (n,) float64
    rows:      their records
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    rows: Rows


def is_labelled_person(annotation: dict, min_keypoints: int = 1) -> bool:
    """Whether an annotation is one person with at least so many labelled joints."""
    return not annotation.get('iscrowd', 0) and annotation.get('num_keypoints', 0) >= min_keypoints


def listed_images(content: Any, path: Path, report: Report = refuse) -> dict[int, dict]:
    """The records of the images in a file of annotations by their ids; `file_name` stays in its folder."""
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        report(Kind.FILE, f'{path} is not a COCO annotation file: it lists no images: get it again')
        return {}
    rows = Rows(images, 'image', path, report)
    ids = rows.whole('id')
    rows.names('file_name')
    rows.unique('id', ids)
    return {ids[i].item(): rows.rows[i] for i in np.flatnonzero(rows.good)}


def check_joint_names(content: dict, path: Path, names: Sequence[str], report: Report = refuse) -> None:
    """Reports a category of people whose joints are not the named ones: they would be taken for one another."""
    told = _joint_names(content)
    if told is None or list(told) == list(names):
        return
    if len(told) != len(names):
        text = f'its category has {len(told)} joints, but DATASET.KEYPOINT.NUM = {len(names)}'
        report(Kind.JOINTS, f'{path}: {text}: describe the data set as it is (docs/own_data.md)')
    elif sorted(told) == sorted(names):
        i = next(i for i, (a, b) in enumerate(zip(told, names)) if a != b)
        text = f'joint {i} is {shown(told[i])} in its category, {shown(names[i])} in DATASET.KEYPOINT.NAMES'
        report(Kind.JOINTS, f'{path}: {text}: name them in the order of the file')
    else:
        other = next(name for name in told if name not in names)
        report(Kind.NAMES, f'{path}: its category has a joint {shown(other)}, which the configuration does not name')


def _joint_names(content: dict) -> list[str] | None:
    """The joints that the file's category of people names, if it does."""
    categories = content.get('categories')
    for category in categories if isinstance(categories, list) else []:
        names = category.get('keypoints') if isinstance(category, dict) and category.get('id') == PERSON else None
        if names and isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    return None


def joint_count(content: dict, default: int) -> int:
    """The number of joints that the file's category of people names; the default where it names none."""
    return len(_joint_names(content) or range(default))


def labelled_people(
    content: dict, path: Path, listed: dict[int, dict], joints: int, min_keypoints: int, report: Report = refuse
) -> People:
    """The people with at least so many labelled joints, no crowds, in listed images.

    joints: K of a file that does not name its joints
    """
    rows = _annotations(content, path, report)
    labelled = np.array([is_labelled_person(row, min_keypoints) for row in rows.rows], bool)
    is_listed = np.isin(rows.whole('image_id'), list(listed))
    for i in np.flatnonzero(labelled & ~is_listed):
        report(Kind.UNLISTED, f'{rows.label(i)}: image_id = {rows.rows[i]["image_id"]} is not listed: left out')
    people = rows.only(labelled & is_listed)
    boxes = boxes_of(people)
    joints = joint_count(content, joints)
    keypoints = people.numeric('keypoints', 3 * joints, length=Kind.JOINTS).reshape(len(people), joints, 3)
    known = np.isin(keypoints[..., 2], VISIBILITIES).all(axis=1)
    people.require(known, Kind.FIELD, lambda i: f'keypoints have a visibility that is none of {VISIBILITIES}')
    good = people.good
    if not good.any():
        report(
            Kind.NOBODY,
            f'{path} has no person with {min_keypoints} labelled joints in a listed image, among {len(rows)} '
            'annotations: check num_keypoints and image_id, or take another file',
        )
    image_ids = people.whole('image_id')
    return People(image_ids[good], boxes[good], keypoints[good], people.only(good))


def person_boxes(content: Any, path: Path, listed: dict[int, dict], report: Report = refuse) -> Boxes:
    """A detector's boxes of people, in COCO's results format, that are in listed images; in the file's order."""
    rows = Rows(content, 'box', path, report)
    is_person = rows.whole('category_id') == PERSON
    is_listed = np.isin(rows.whole('image_id'), list(listed))
    for i in np.flatnonzero(is_person & ~is_listed & rows.good):
        report(Kind.UNLISTED, f'{rows.label(i)}: image_id = {rows.rows[i]["image_id"]} is not listed: left out')
    people = rows.only(is_person & is_listed)
    boxes, scores = boxes_of(people), people.numeric('score')
    good = people.good
    if not good.any():
        report(
            Kind.NOBODY,
            f'{path} has no box of a person (category_id {PERSON}) in a listed image, among {len(rows)} boxes: '
            'is it of this data set?',
        )
    return Boxes(people.whole('image_id')[good], boxes[good], scores[good], people.only(good))


def check_truth(content: dict, path: Path, joints: int, report: Report = refuse) -> None:
    """Reports what pycocotools' evaluation would fail at, or quietly get wrong. joints: K of the evaluation."""
    categories = Rows(content.get('categories'), 'category', path, report)
    if PERSON not in categories.whole('id'):
        report(Kind.CATEGORY, f'{path}: categories has no id {PERSON} (person), which the evaluation is of: add it')
    rows = _annotations(content, path, report)
    ids = rows.whole('id')
    rows.unique('id', ids)
    # pycocotools keeps the id of the truth that a prediction matches, and takes 0 for none.
    rows.require(ids != 0, Kind.FIELD, lambda i: 'id = 0 would never be found by the evaluation: count from 1')
    for field in ('iscrowd', 'num_keypoints'):
        rows.whole(field)
    category_ids = rows.whole('category_id')
    fits = [category == PERSON or not is_labelled_person(row) for category, row in zip(category_ids, rows.rows)]
    rows.require(fits, Kind.CATEGORY, lambda i: f'category_id = {category_ids[i]} should be {PERSON}: it has keypoints')
    areas = rows.numeric('area')
    counted = np.array([is_labelled_person(row) for row in rows.rows], bool)
    rows.require(
        (areas > 0) | ~counted, Kind.FIELD, lambda i: f'area = {areas[i]:g} should be above 0: OKS divides by it'
    )
    rows.numeric('bbox', 4)
    rows.numeric('keypoints', 3 * joints, length=Kind.JOINTS)


def _annotations(content: dict, path: Path, report: Report) -> Rows:
    """The annotations whose fields are fit for is_labelled_person."""
    rows = Rows(content.get('annotations'), 'annotation', path, report)
    rows.whole('image_id')
    rows.whole('iscrowd', default=0)
    rows.whole('num_keypoints', default=0)
    counted = ['num_keypoints' in row or 'keypoints' not in row for row in rows.rows]
    rows.require(counted, Kind.FIELD, lambda i: 'num_keypoints is missing beside keypoints')
    return rows.only(rows.good)


def boxes_of(rows: Rows) -> np.ndarray:
    """(n, 4) float64: the boxes of rows; none is empty."""
    boxes = rows.numeric('bbox', 4)
    full = (boxes[:, 2:] > 0).all(axis=1)
    rows.require(full, Kind.BOX, lambda i: f'bbox = {shown(rows.rows[i]["bbox"])} should be wider and higher than 0')
    return boxes
