"""check_data's view of the json files: the images, people and boxes of a split, with everything invalid reported."""

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

    names:     of their images, paths below the images folder
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
    """The valid content of a split's files.

    folder: of the images
    sizes:  image path below the folder -> (width, height) by its record, None if it gives none
    people: those to train or test on
    boxes:  a detector's
    """

    folder: Path
    sizes: dict[str, tuple[Any, Any] | None]
    people: Group | None = None
    boxes: Group | None = None

    @property
    def groups(self) -> list[Group]:
        """People and boxes, where there are any."""
        return [group for group in (self.people, self.boxes) if group is not None]


def coco_listing(dataset: Description, split: str, report: Report) -> Listing:
    """Reads a split ('train', 'val' or 'test') in COCO's format."""
    path, joints, folder = dataset.annotations(split), len(dataset.joint_names), dataset.image_folder(split)
    content = _read(path, report)
    listed = coco_json.listed_images(content, path, report, folder) if content is not None else {}
    names = coco_json.image_paths(listed, folder, path, report)
    if not listed:
        return Listing(folder, {})
    sized = {'width', 'height'}
    rows = {name: listed[i] for i, name in names.items()}
    listing = Listing(folder, {n: (r['width'], r['height']) if sized <= r.keys() else None for n, r in rows.items()})
    coco_categories.check_joint_names(content, path, dataset.joint_names, report)
    if split != 'test' or 'annotations' in content:  # those of COCO's test-dev are not public
        people = coco_json.labelled_people(content, path, listed, joints, 1, report)
        _report_counts(content, people, path, report)
        listing.people = _group(names, people.image_ids, people.boxes, people.keypoints, people.rows)
        if split != 'train':
            coco_json.check_ground_truth(content, path, joints, report)
    det_file = dataset.boxes(split) if split != 'train' else None
    if det_file and (detections := _read(det_file, report)) is not None:
        found = coco_json.person_boxes(detections, det_file, listed, report)
        listing.boxes = _group(names, found.image_ids, found.boxes, np.empty((len(found.boxes), 0, 3)), found.rows)
    return listing


def _group(names: dict[int, str], image_ids: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray, rows: Rows) -> Group:
    """The rows whose images have a path. names: image id -> path"""
    named = np.isin(image_ids, list(names))
    return Group([names[i] for i in image_ids[named].tolist()], boxes[named], keypoints[named], rows.only(named))


def mpii_listing(dataset: Description, split: str, report: Report) -> Listing:
    """Reads a split ('train', 'val' or 'test') in MPII's format."""
    path, ground_truth, folder = (
        dataset.annotations(split),
        dataset.root / mpii_json.GROUND_TRUTH,
        dataset.image_folder(split),
    )
    content = _read(path, report)
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
    """The content of a json file; None if it cannot be read."""
    try:
        return read_json(path, PREPARE)
    except InputError as error:
        report(Issue.FILE, str(error))
        return None


def _report_counts(content: dict, people: coco_json.People, path: Path, report: Report) -> None:
    """Reports people whose num_keypoints is wrong; with 0, reading skips them without a message."""
    labelled, counts = (people.keypoints[..., 2] > 0).sum(axis=1), people.rows.integer('num_keypoints')
    for i in np.flatnonzero(labelled != counts).tolist():
        text = f'num_keypoints = {counts[i]}, but {labelled[i]} joints are labelled'
        report(Issue.COUNT, f'{people.rows.label(i)}: {text}')
    rows = Rows(content.get('annotations'), 'annotation', path, lambda *_: None)  # reported before
    for i, row in enumerate(rows.rows):
        keypoints = row.get('keypoints')
        if row.get('num_keypoints') != 0 or row.get('iscrowd') or not isinstance(keypoints, list):
            continue
        if number := sum(isinstance(value, (int, float)) and value > 0 for value in keypoints[2::3]):
            text = f'num_keypoints = 0, but {number} joints are labelled: correct it, or the person is left out'
            report(Issue.UNCOUNTED, f'{rows.label(i)}: {text}')
