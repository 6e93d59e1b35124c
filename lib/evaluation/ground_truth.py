"""Ground truth and detections in COCO's format as flat arrays, sorted by image."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.coco_categories import PERSON
from lib.datasets.coco_json import check_ground_truth, listed_images

MAX_DETECTIONS = 20  # of an image that count, those with the highest scores


@dataclass
class GroundTruth:
    """The annotated people of a data set.

    image_ids: (i,) int64, rising
    image:     (n,) int64, indices into image_ids, rising
    keypoints: (n, K, 3) float64: x, y in image pixels, visibility
    boxes:     (n, 4) float64: x, y, width, height in image pixels
    area:      (n,) float64, in square pixels
    crowd:     (n,) bool: several people in one annotation
    ignored:   (n,) bool: count neither as found nor as missed: crowds, people without labelled joints
    """

    image_ids: np.ndarray
    image: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def labelled(self) -> np.ndarray:
        """(n, K) bool"""
        return self.keypoints[..., 2] > 0


@dataclass
class Detections:
    """Detected people, sorted by image, then by falling score; at most MAX_DETECTIONS in an image.

    image:     (m,) int64, indices into GroundTruth.image_ids
    keypoints: (m, K, 2) float64, in image pixels
    scores:    (m,) float64
    """

    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def area(self) -> np.ndarray:
        """(m,) of the joints' bounding boxes, in square pixels."""
        return np.ptp(self.keypoints, axis=1).prod(axis=1)


def ranks(groups: np.ndarray) -> np.ndarray:
    """(n,) int64: the index of each entry within its group. groups: (n,) rising numbers"""
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    return np.arange(len(groups)) - np.repeat(first, counts)


def grouped(numbers: np.ndarray) -> list[np.ndarray]:
    """The indices of equal numbers (n,), rising, an array for each number."""
    order = np.argsort(numbers, kind='stable')
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def arrange(image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> Detections:
    """Sorts detections (fields as in Detections, in any order) and keeps MAX_DETECTIONS of an image."""
    order = np.lexsort([-scores, image])  # stable, like COCOeval's sort
    order = order[ranks(image[order]) < MAX_DETECTIONS]
    return Detections(image[order], keypoints[order], scores[order])


def parse_ground_truth(content: Any, path: Path, joints: int) -> GroundTruth:
    """The people in the content of the COCO annotation file at path. Raises InputError for an invalid file."""
    listed = listed_images(content, path)
    check_ground_truth(content, path, joints)
    return as_arrays(content, listed, joints)


def as_arrays(content: dict[str, Any], listed: Collection[int], joints: int) -> GroundTruth:
    """The people in the content of a checked COCO annotation file. listed: the ids of its images; joints: K"""
    image_ids = np.array(sorted(listed), np.int64)
    rows = [row for row in content['annotations'] if row['category_id'] == PERSON and row['image_id'] in listed]
    rows.sort(key=lambda row: row['image_id'])
    crowd = np.array([bool(row.get('iscrowd', 0)) for row in rows], bool)
    return GroundTruth(
        image_ids,
        np.searchsorted(image_ids, np.array([row['image_id'] for row in rows], np.int64)),
        np.array([row['keypoints'] for row in rows], np.float64).reshape(-1, joints, 3),
        np.array([row['bbox'] for row in rows], np.float64).reshape(-1, 4),
        np.array([row['area'] for row in rows], np.float64),
        crowd,
        crowd | np.array([row['num_keypoints'] == 0 for row in rows], bool),
    )


def parse_detections(rows: Any, path: Path, ground_truth: GroundTruth) -> Detections:
    """The people in the content of the results.json at path. Raises InputError if it does not fit the ground truth."""
    joints = ground_truth.keypoints.shape[1]
    try:
        image_ids = np.array([row['image_id'] for row in rows], np.int64)
        scores = np.array([row['score'] for row in rows], np.float64)
        keypoints = np.array([row['keypoints'] for row in rows], np.float64).reshape(len(rows), joints, 3)
        if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
            raise ValueError
    except (TypeError, KeyError, ValueError, OverflowError):
        raise InputError(f'{path} is not a COCO results file of {joints} joints: run the test again') from None
    unknown = np.setdiff1d(image_ids, ground_truth.image_ids)
    if len(unknown):
        raise InputError(f'{path}: image {unknown[0]} is not listed in the ground truth: run the test again')
    return arrange(np.searchsorted(ground_truth.image_ids, image_ids), keypoints[..., :2], scores)
