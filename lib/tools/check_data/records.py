"""What lib.tools.check_data looks for in the json files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets import coco_categories, coco_json, mpii_json
from lib.datasets.checks import PREPARE, Issue, Report, Rows
from lib.datasets.description import Description
from lib.utils.transforms import PIXELS_PER_SCALE


@dataclass
class Group:
    """People, or a detector's boxes, of a file.

    names:     of their images, as paths in `images`
    boxes:     (n, 4) float64: x, y, width, height in image pixels
    keypoints: (n, K, 3) float64: x, y in image pixels, visibility; K is 0 for a detector's boxes
    rows:      their records
    """

    names: list[str]
    boxes: np.ndarray
    keypoints: np.ndarray
    rows: Rows


@dataclass
class Listing:
    """What the files of a split list.

    folder: of the images
    sizes:  path of every image in `images` -> its width and height as told, None where they are not
    people: those to train on or to test
    boxes:  a detector's
    """

    folder: Path
    sizes: dict[str, tuple[Any, Any] | None]
    people: Group | None = None
    boxes: Group | None = None

    @property
    def groups(self) -> list[Group]:
        return [group for group in (self.people, self.boxes) if group is not None]


def coco_listing(dataset: Description, split: str, report: Report) -> Listing:
    """What is fit in a split ('train', 'val', 'test') of a data set in COCO's format; `report` gets the rest."""
    det_file = dataset.boxes(split) if split != 'train' else None
    path, joints = dataset.annotations(split), len(dataset.joint_names)
    content = _read(path, report)
    folder = dataset.image_folder(split)
    listed = coco_json.listed_images(content, path, report, folder) if content is not None else {}
    names = coco_json.image_paths(listed, folder, path, report)
    if not listed:
        return Listing(folder, {})
    listing = Listing(folder, {name: _told_size(listed[i]) for i, name in names.items()})
    coco_categories.check_joint_names(content, path, dataset.joint_names, report)
    if split != 'test' or 'annotations' in content:  # COCO's test-dev has none
        people = coco_json.labelled_people(content, path, listed, joints, 1, report)
        _compare_counts(people, report)
        _report_uncounted(content, path, report)
        listing.people = _group(names, people.image_ids, people.boxes, people.keypoints, people.rows)
        if split != 'train':
            coco_json.check_ground_truth(content, path, joints, report)
    detections = _read(det_file, report) if det_file else None
    if detections is not None:
        boxes = coco_json.person_boxes(detections, det_file, listed, report)
        no_joints = np.empty((len(boxes.boxes), 0, 3))
        listing.boxes = _group(names, boxes.image_ids, boxes.boxes, no_joints, boxes.rows)
    return listing


def _group(names: dict[int, str], image_ids: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray, rows: Rows) -> Group:
    """Those whose images have a path. names: ids -> paths in `images`"""
    named = np.isin(image_ids, list(names))
    return Group([names[i] for i in image_ids[named].tolist()], boxes[named], keypoints[named], rows.only(named))


def mpii_listing(dataset: Description, split: str, report: Report) -> Listing:
    """What is fit in a split ('train', 'val', 'test') of a data set in MPII's format; `report` gets the rest."""
    path, ground_truth = dataset.annotations(split), dataset.root / mpii_json.GROUND_TRUTH
    content = _read(path, report)
    folder = dataset.image_folder(split)
    if content is None:
        return Listing(folder, {})
    people = mpii_json.read_people(content, path, len(dataset.joint_names), split != 'test', report, folder)
    if split == 'val' and ground_truth.is_file():
        try:
            mpii_json.read_ground_truth(ground_truth, len(content))
        except InputError as error:
            report(Issue.FILE, str(error))
    size = PIXELS_PER_SCALE * np.stack([people.scale] * 2, axis=1)
    boxes = np.concatenate([people.center - size / 2, size], axis=1)
    keypoints = np.concatenate([people.joints - 1, people.visibility[..., None]], axis=2)
    return Listing(folder, dict.fromkeys(people.names), Group(people.names, boxes, keypoints, people.rows))


LISTINGS = {'COCO': coco_listing, 'MPII': mpii_listing}


def _read(path: Path, report: Report) -> Any:
    """The content of a json file; None where it cannot be read."""
    try:
        return read_json(path, PREPARE)
    except InputError as error:
        report(Issue.FILE, str(error))
        return None


def _told_size(image: dict) -> tuple[Any, Any] | None:
    return (image['width'], image['height']) if {'width', 'height'} <= image.keys() else None


def _compare_counts(people: coco_json.People, report: Report) -> None:
    labelled = (people.keypoints[..., 2] > 0).sum(axis=1)
    told = people.rows.integer('num_keypoints')
    for i in np.flatnonzero(labelled != told):
        report(Issue.COUNT, f'{people.rows.label(i)}: num_keypoints = {told[i]}, but {labelled[i]} joints are labelled')


def _report_uncounted(content: dict, path: Path, report: Report) -> None:
    """Reports the people whom reading leaves out without a word: those said to have no joints, and who have."""
    rows = Rows(content.get('annotations'), 'annotation', path, lambda *_: None)  # faults were told before
    for i, row in enumerate(rows.rows):
        keypoints = row.get('keypoints')
        if row.get('num_keypoints') != 0 or row.get('iscrowd') or not isinstance(keypoints, list):
            continue
        labelled = sum(isinstance(value, (int, float)) and value > 0 for value in keypoints[2::3])
        if labelled:
            text = f'num_keypoints = 0, but {labelled} joints are labelled: correct it, or the person is left out'
            report(Issue.UNCOUNTED, f'{rows.label(i)}: {text}')
