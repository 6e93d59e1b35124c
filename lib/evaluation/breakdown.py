"""The people in groups: by size, by number of labelled joints, by crowding; and the metrics of a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pycocotools import mask

from lib.evaluation.ground_truth import GroundTruth
from lib.evaluation.oks import ANY_AREA, Evaluation
from lib.evaluation.precision import tally

# Sides of squares, in pixels: COCO's medium is 32 to 96, its large is from 96 on.
SIDES = (0, 32, 64, 96, 160, 256, np.inf)
JOINTS_A_GROUP = 5
# Two people are in each other's way from this intersection over union of their boxes on.
OVERLAP = 0.1
CROWDING = ((0, 0), (1, 1), (2, 2), (3, np.inf))


@dataclass
class Group:
    """The metrics of a group of people, in 0 .. 1."""

    name: str
    people: int
    ap: float
    ap50: float
    ar: float


def by_size(evaluation: Evaluation) -> list[Group]:
    """Groups by the root of the annotated area, as COCO's medium and large: detections of other sizes do not count."""
    groups = []
    for low, high in pairwise(SIDES):
        name = f'{low} to {high}' if np.isfinite(high) else f'from {low}'
        area = evaluation.ground_truth.area
        groups.append(_group(evaluation, f'{name} px', (area >= low**2) & (area < high**2), (low**2, high**2)))
    return [group for group in groups if group.people]


def by_joints(evaluation: Evaluation) -> list[Group]:
    """Groups by the number of labelled joints."""
    count = evaluation.ground_truth.labelled.sum(axis=1)
    joints = evaluation.ground_truth.keypoints.shape[1]
    bands = [(low, min(low + JOINTS_A_GROUP - 1, joints)) for low in range(1, joints + 1, JOINTS_A_GROUP)]
    return _banded(evaluation, count, bands, 'joint')


def by_crowding(evaluation: Evaluation) -> list[Group]:
    """Groups by the number of other people whose boxes overlap theirs."""
    return _banded(evaluation, crowding(evaluation.ground_truth), CROWDING, 'other')


def crowding(ground_truth: GroundTruth) -> np.ndarray:
    """(n,) int64: how many other people, no crowds, have boxes with an intersection over union of at least OVERLAP."""
    count = np.zeros(len(ground_truth), np.int64)
    single = np.flatnonzero(~ground_truth.crowd)
    starts = np.flatnonzero(np.diff(ground_truth.image[single], prepend=-1))
    for people in np.split(single, starts[1:]):
        boxes = ground_truth.boxes[people]
        if len(boxes) > 1:
            overlap = mask.iou(boxes, boxes, np.zeros(len(boxes), np.uint8)) >= OVERLAP
            count[people] = (overlap & ~np.eye(len(boxes), dtype=bool)).sum(axis=1)
    return count


def _banded(evaluation: Evaluation, count: np.ndarray, bands: Sequence[tuple[float, float]], noun: str) -> list[Group]:
    groups = []
    for low, high in bands:
        numbers = f'{low}' if low == high else f'{low} to {high}' if np.isfinite(high) else f'{low} and more'
        name = f'{numbers} {noun}{"" if low == high == 1 else "s"}'
        groups.append(_group(evaluation, name, (low <= count) & (count <= high)))
    return [group for group in groups if group.people]


def _group(evaluation: Evaluation, name: str, only: np.ndarray, area: tuple[float, float] = ANY_AREA) -> Group:
    """The metrics of some people, (n,) bool; the others are ignored."""
    tallied = tally(evaluation, only, area)
    precision = tallied.precision()
    people = int(tallied.people.sum())
    return Group(name, people, float(precision.mean()), float(precision[0].mean()), float(tallied.recall().mean()))
