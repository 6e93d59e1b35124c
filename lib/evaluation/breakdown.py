"""Metrics of groups of people: by size, by number of labelled joints, by crowding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pycocotools import mask

from lib.evaluation.ground_truth import GroundTruth, grouped
from lib.evaluation.oks import ANY_AREA, Evaluation
from lib.evaluation.precision import tally

# Square roots of areas, in pixels. COCO's medium is 32 to 96, its large from 96.
SIZES = (0, 32, 64, 96, 160, 256, np.inf)
JOINTS_PER_GROUP = 5
MIN_IOU = 0.1  # of the bounding boxes of two people, to count them as overlapping
CROWDING = ((0, 0), (1, 1), (2, 2), (3, np.inf))


@dataclass
class Group:
    """A group of people and its metrics, in 0 .. 1."""

    name: str
    people: int
    ap: float
    ap50: float
    ar: float


def by_size(evaluation: Evaluation) -> list[Group]:
    """Groups by square root of the annotated area. As in COCO, detections of other sizes are ignored."""
    area, groups = evaluation.ground_truth.area, []
    for low, high in pairwise(SIZES):
        name = f'{low} to {high}' if np.isfinite(high) else f'from {low}'
        groups.append(_group(evaluation, f'{name} px', (area >= low**2) & (area < high**2), (low**2, high**2)))
    return [group for group in groups if group.people]


def by_joints(evaluation: Evaluation) -> list[Group]:
    """Groups by the number of labelled joints."""
    count = evaluation.ground_truth.labelled.sum(axis=1)
    joints = evaluation.ground_truth.keypoints.shape[1]
    ranges = [(low, min(low + JOINTS_PER_GROUP - 1, joints)) for low in range(1, joints + 1, JOINTS_PER_GROUP)]
    return _by_count(evaluation, count, ranges, 'joint')


def by_crowding(evaluation: Evaluation) -> list[Group]:
    """Groups by the number of people who overlap them."""
    return _by_count(evaluation, crowding(evaluation.ground_truth), CROWDING, 'other')


def crowding(ground_truth: GroundTruth) -> np.ndarray:
    """(n,) int64: how many other people, crowds excluded, have a box with an IoU of at least MIN_IOU with theirs."""
    count = np.zeros(len(ground_truth), np.int64)
    single = np.flatnonzero(~ground_truth.crowd)
    for own in grouped(ground_truth.image[single]):
        people = single[own]
        boxes = ground_truth.boxes[people]
        if len(boxes) > 1:
            overlap = mask.iou(boxes, boxes, np.zeros(len(boxes), np.uint8)) >= MIN_IOU
            count[people] = (overlap & ~np.eye(len(boxes), dtype=bool)).sum(axis=1)
    return count


def _by_count(
    evaluation: Evaluation, count: np.ndarray, ranges: Sequence[tuple[float, float]], noun: str
) -> list[Group]:
    """The groups that have anybody. count: (n,); ranges: of counts, both ends included"""
    groups = []
    for low, high in ranges:
        numbers = f'{low}' if low == high else f'{low} to {high}' if np.isfinite(high) else f'{low} or more'
        name = f'{numbers} {noun}{"" if low == high == 1 else "s"}'
        groups.append(_group(evaluation, name, (low <= count) & (count <= high)))
    return [group for group in groups if group.people]


def _group(evaluation: Evaluation, name: str, only: np.ndarray, area: tuple[float, float] = ANY_AREA) -> Group:
    """The group of some people, (n,) bool; the others are ignored."""
    tallied = tally(evaluation, only, area)
    precision, recall = tallied.measure()
    people = int(tallied.people.sum())
    return Group(name, people, float(precision.mean()), float(precision[0].mean()), float(recall.mean()))
