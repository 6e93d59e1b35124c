"""Reads and checks COCO's json files: listed images, labelled people, a detector's boxes.

Only what training or testing uses is checked, not crowds, boxes of other categories, people without joints, or images
that are not listed.

In all functions `content` is the content of the file at `path`, and `report` receives its faults; with `refuse`, as in
training and testing, the first fatal one raises InputError.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.datasets.checks import Issue, Report, Rows, refuse, shown
from lib.datasets.coco_categories import PERSON, has_joints, joint_count, of_people
from lib.datasets.image_names import ImageFolder, image_path

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
    left_out:  number of others that are empty or not finite
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    rows: Rows
    left_out: int = 0


def listed_images(content: Any, path: Path, report: Report = refuse, folder: Path | None = None) -> dict[int, dict]:
    """Image id -> image record of an annotation file. `file_name` stays inside its folder, and is '' if it is invalid.

    folder: of the images, if known: a name without a file there is refused if its form shows why
    """
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        report(Issue.FILE, f'{path} is not a COCO annotation file: it lists no images: get it again')
        return {}
    rows = Rows(images, 'image', path, report)
    ids = rows.integer('id')
    names = rows.names('file_name', folder)
    rows.unique('id', ids)
    named = [row if row.get('file_name') == name else {**row, 'file_name': name} for row, name in zip(rows.rows, names)]
    return {ids[i].item(): named[i] for i in np.flatnonzero(~rows.wrong('id'))}


def image_paths(listed: dict[int, dict], folder: Path, source: Path, report: Report = refuse) -> dict[int, str]:
    """Image id -> path below the images folder; images without a valid name have none.

    Names other than COCO 2014's are looked up in the folder, then in its `train2014` and `val2014`. One that is in both
    is reported, as listed in `source`, and has no path.
    """
    names = {image_id: image['file_name'] for image_id, image in listed.items() if image['file_name']}
    paths = {image_id: image_path(name) for image_id, name in names.items()}
    images = ImageFolder(folder)
    for image_id, name in names.items() if images.folders else ():
        found = images.find(name) if paths[image_id] == name else []
        if len(found) > 1:
            del paths[image_id]
            text = f'file_name = {name!r} is in {" and in ".join(path.split("/")[0] for path in found)}'
            report(Issue.NAME, f'{source}: image (id {image_id}): {text}: put the right folder in front of it')
        elif found:
            paths[image_id] = found[0]
    return paths


def labelled_people(
    content: dict, path: Path, listed: Collection[int], joints: int, min_keypoints: int, report: Report = refuse
) -> People:
    """The people in listed images with at least `min_keypoints` labelled joints; no crowds.

    listed: the images' ids; joints: K of a file that does not name its joints
    """
    rows = _annotations(content, path, report)
    labelled = of_people(rows.only(has_joints(rows.rows)), content)
    is_listed = np.isin(labelled.integer('image_id'), list(listed)) | labelled.wrong('image_id')
    enough = has_joints(labelled.rows, min_keypoints)
    for i in np.flatnonzero(enough & ~is_listed):
        report(
            Issue.UNLISTED, f'{labelled.label(i)}: image_id = {labelled.rows[i]["image_id"]} is not listed: left out'
        )
    people = labelled.only(enough & is_listed)
    boxes = boxes_of(people)
    joints = joint_count(content, joints)
    keypoints = people.numeric('keypoints', 3 * joints, length=Issue.JOINTS).reshape(len(people), joints, 3)
    known = np.isin(keypoints[..., 2], VISIBILITIES).all(axis=1)
    people.require(
        known, 'keypoints', Issue.FIELD, lambda i: f'keypoints have a visibility that is none of {VISIBILITIES}'
    )
    good = people.good
    if not good.any():
        report(
            Issue.NOBODY,
            f'{path} has no person with {min_keypoints} labelled joints in a listed image, among {len(rows)} '
            'annotations: check num_keypoints and image_id, or take another file',
        )
    image_ids = people.integer('image_id')
    return People(image_ids[good], boxes[good], keypoints[good], people.only(good))


def person_boxes(content: Any, path: Path, listed: Collection[int], report: Report = refuse) -> Boxes:
    """A detector's boxes of people in listed images, from COCO's results format, in the file's order.

    listed: the images' ids
    """
    rows = Rows(content, 'box', path, report)
    is_person = rows.integer('category_id') == PERSON
    is_listed = np.isin(rows.integer('image_id'), list(listed))
    for i in np.flatnonzero(is_person & ~is_listed & rows.good):
        report(Issue.UNLISTED, f'{rows.label(i)}: image_id = {rows.rows[i]["image_id"]} is not listed: left out')
    fit, left_out = with_size(rows.only(is_person & is_listed & rows.good))
    boxes, scores = boxes_of(fit), fit.numeric('score')
    good = fit.good
    if not good.any():
        report(
            Issue.NOBODY,
            f'{path} has no box of a person (category_id {PERSON}) in a listed image, among {len(rows)} boxes: '
            'is it for this data set?',
        )
    return Boxes(fit.integer('image_id')[good], boxes[good], scores[good], fit.only(good), left_out)


def check_ground_truth(content: dict, path: Path, joints: int, report: Report = refuse) -> None:
    """Reports what pycocotools' evaluation would fail on or silently get wrong.

    joints: K of a file that does not name its joints
    """
    categories = Rows(content.get('categories'), 'category', path, report)
    if PERSON not in categories.integer('id'):
        report(Issue.CATEGORY, f'{path}: categories has no id {PERSON} (person), which is evaluated: add it')
    rows = _annotations(content, path, report)
    ids = rows.integer('id', types=(int,))
    # pycocotools stores the id of the ground truth that a prediction matches, with 0 for no match; for faster-coco-eval
    # negative ids are no match either, and floats are not accepted.
    rows.require(
        ids > 0, 'id', Issue.FIELD, lambda i: f'id = {ids[i]} would never be matched in the evaluation: count from 1'
    )
    rows.unique('id', ids)
    # Includes people of a wrong category, which will be evaluated once it is corrected.
    people = of_people(rows, content, every=True)
    for field in ('iscrowd', 'num_keypoints'):
        people.integer(field)
    areas = people.numeric('area')
    counted = has_joints(people.rows)
    people.require(
        (areas > 0) | ~counted,
        'area',
        Issue.FIELD,
        lambda i: f'area = {areas[i]:g} should be above 0: OKS divides by it',
    )
    people.numeric('bbox', 4)
    people.numeric('keypoints', 3 * joint_count(content, joints), length=Issue.JOINTS)


def _annotations(content: dict, path: Path, report: Report) -> Rows:
    """The annotations; those that are good are valid for is_labelled_person."""
    rows = Rows(content.get('annotations'), 'annotation', path, report)
    rows.integer('image_id')
    rows.integer('iscrowd', default=0)
    counts = rows.integer('num_keypoints', default=0)
    rows.require(
        counts >= 0, 'num_keypoints', Issue.FIELD, lambda i: f'num_keypoints = {counts[i]} should not be below 0'
    )
    counted = ['num_keypoints' in row or not row.get('keypoints') for row in rows.rows]
    text = 'num_keypoints is missing beside keypoints (count those of visibility 1 and 2)'
    rows.require(counted, 'num_keypoints', Issue.FIELD, lambda i: text)
    return rows


def with_size(rows: Rows) -> tuple[Rows, int]:
    """A detector's rows without boxes that are empty or not finite, and the number of these.

    Such a box is reported as Issue.DETECTION, which is not fatal, unlike other faults of `bbox`.
    """
    report, slips = rows.report, {Issue.BOX: Issue.DETECTION, Issue.NUMBER: Issue.DETECTION}
    rows.report = lambda kind, message: report(slips.get(kind, kind), message)
    boxes_of(rows)
    fit = rows.only(~rows.wrong('bbox'))
    fit.report = rows.report = report
    return fit, len(rows) - len(fit)


def boxes_of(rows: Rows) -> np.ndarray:
    """(n, 4) float64: the rows' boxes, x, y, width, height; empty ones are reported."""
    boxes = rows.numeric('bbox', 4)
    full = (boxes[:, 2:] > 0).all(axis=1)
    text = 'should be wider and higher than 0'
    rows.require(full, 'bbox', Issue.BOX, lambda i: f'bbox = {shown(rows.rows[i]["bbox"])} {text}')
    return boxes
