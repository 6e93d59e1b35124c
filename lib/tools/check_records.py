"""What lib.tools.check_data looks for in the json files, and in what they say of their images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets import coco, coco_json, mpii, mpii_json
from lib.datasets.checks import Kind, Report, Rows, shown
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
    listed = coco_json.listed_images(content, path, report) if content is not None else {}
    folder = dataset.image_folder(split)
    if not listed:
        return Listing(folder, {})
    names = coco.image_paths(listed)
    listing = Listing(folder, {names[i]: _told_size(image) for i, image in listed.items()})
    coco_json.check_joint_names(content, path, dataset.joint_names, report)
    if split != 'test' or 'annotations' in content:  # COCO's test-dev has none
        people = coco_json.labelled_people(content, path, listed, joints, 1, report)
        _compare_counts(people, report)
        listing.people = Group([names[i] for i in people.image_ids], people.boxes, people.keypoints, people.rows)
        if split != 'train':
            coco_json.check_truth(content, path, joints, report)
    detections = _read(det_file, report) if det_file else None
    if detections is not None:
        boxes = coco_json.person_boxes(detections, det_file, listed, report)
        no_joints = np.empty((len(boxes.boxes), 0, 3))
        listing.boxes = Group([names[i] for i in boxes.image_ids], boxes.boxes, no_joints, boxes.rows)
    return listing


def mpii_listing(dataset: Description, split: str, report: Report) -> Listing:
    """What is fit in a split ('train', 'val', 'test') of a data set in MPII's format; `report` gets the rest."""
    path, truth = dataset.annotations(split), dataset.root / mpii.TRUTH
    content = _read(path, report)
    folder = dataset.image_folder(split)
    if content is None:
        return Listing(folder, {})
    people = mpii_json.read_people(content, path, len(dataset.joint_names), split != 'test', report)
    if split == 'val' and truth.is_file():
        try:
            mpii_json.read_truth(truth, len(content))
        except InputError as error:
            report(Kind.FILE, str(error))
    size = PIXELS_PER_SCALE * np.stack([people.scale] * 2, axis=1)
    boxes = np.concatenate([people.center - size / 2, size], axis=1)
    keypoints = np.concatenate([people.joints - 1, people.visibility[..., None]], axis=2)
    return Listing(folder, dict.fromkeys(people.names), Group(people.names, boxes, keypoints, people.rows))


LISTINGS = {'COCO': coco_listing, 'MPII': mpii_listing}


def _read(path: Path, report: Report) -> Any:
    """The content of a json file; None where it cannot be read."""
    try:
        return read_json(path, coco.PREPARE)
    except InputError as error:
        report(Kind.FILE, str(error))
        return None


def _told_size(image: dict) -> tuple[Any, Any] | None:
    return (image['width'], image['height']) if {'width', 'height'} <= image.keys() else None


def _compare_counts(people: coco_json.People, report: Report) -> None:
    labelled = (people.keypoints[..., 2] > 0).sum(axis=1)
    told = people.rows.whole('num_keypoints')
    for i in np.flatnonzero(labelled != told):
        report(Kind.COUNT, f'{people.rows.label(i)}: num_keypoints = {told[i]}, but {labelled[i]} joints are labelled')


def compare_with_images(listing: Listing, found: dict[Path, tuple[int, int] | Kind], report: Report) -> None:
    """Reports what does not fit the images. found: file -> height and width, or what is wrong with it."""
    shapes_of = {name: found[listing.folder / name] for name in listing.sizes}
    for group in listing.groups:
        there = [i for i, name in enumerate(group.names) if not isinstance(shapes_of[name], Kind)]
        if there:
            shapes = np.array([shapes_of[group.names[i]] for i in there])
            _compare_group(group, np.array(there), shapes[:, ::-1], report)
    for name, told in listing.sizes.items():
        shape = shapes_of[name]
        if told is not None and not isinstance(shape, Kind) and told != shape[::-1]:
            text = f'{shape[1]} x {shape[0]} pixels, its record says {shown(told[0])} x {shown(told[1])}'
            report(Kind.SIZE, f'image {name}: {text}')


def _compare_group(group: Group, indices: np.ndarray, sizes: np.ndarray, report: Report) -> None:
    """indices: of the people whose images were read; sizes (n, 2): the width and height of those."""
    boxes, keypoints = group.boxes[indices], group.keypoints[indices]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    for i in np.flatnonzero(((high <= 0) | (low >= sizes)).any(axis=1)):
        text = f'box {boxes[i].round(1).tolist()} misses its image of {sizes[i][0]} x {sizes[i][1]} pixels'
        report(Kind.BOX_OUTSIDE, f'{group.rows.label(indices[i])}: {text}')
    positions, labelled = keypoints[..., :2], keypoints[..., 2] > 0
    at_zero = labelled & (positions == 0).all(axis=2)
    outside = labelled & ((positions < 0) | (positions >= sizes[:, None])).any(axis=2)
    for kind, mask in ((Kind.AT_ZERO, at_zero), (Kind.OUTSIDE, outside)):
        for i in np.flatnonzero(mask.any(axis=1)):
            joint = mask[i].argmax()
            x, y = positions[i, joint]
            text = f'joint {joint} at ({x:g}, {y:g}) in an image of {sizes[i][0]} x {sizes[i][1]} pixels'
            report(kind, f'{group.rows.label(indices[i])}: {text}')
