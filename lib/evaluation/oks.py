"""Object keypoint similarity (OKS) and the matching of detections to people, equal to COCOeval's.

For all images at once: a report needs AP twenty times and a bootstrap a thousand times, and COCOeval takes seconds for
one.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pycocotools.cocoeval import Params

from lib.evaluation.ground_truth import Detections, GroundTruth, ranks

THRESHOLDS: np.ndarray = Params(iouType='keypoints').iouThrs  # OKS .5, .55, ... .95
ALMOST_ONE = 1 - 1e-10  # COCOeval's highest threshold, to tolerate rounding
ANY_AREA = (0.0, np.inf)


def similarities(points: np.ndarray, ground_truth: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Keypoint similarities (p, K), ks = exp(-d^2 / (2 area (2 sigma)^2)). OKS is their mean over the labelled joints.

    points (p, K, 2) and ground_truth (p, K, 2) in image pixels; area (p,) of the person in square pixels; sigmas (K,)
    """
    squares = ((points - ground_truth) ** 2).sum(axis=-1)
    return np.exp(-squares / (2 * sigmas) ** 2 / (area[:, None] + np.spacing(1)) / 2)


def _outside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(p, K, 2): how far points (p, K, 2) lie outside boxes (p, 4) enlarged three times, in pixels."""
    corner, size = boxes[:, None, :2], boxes[:, None, 2:]
    return np.maximum(corner - size - points, 0) + np.maximum(points - corner - 2 * size, 0)


@dataclass
class Evaluation:
    """Detections and the ground truth to compare them with; `sigmas` (K,) are the joints' OKS constants.

    A pair is a detection and a person of the same image; pairs (p,) are sorted by detection, then person.
    """

    ground_truth: GroundTruth
    detections: Detections
    sigmas: np.ndarray

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(p,) int64 each: the indices of the pairs' detections and people."""
        people = np.bincount(self.ground_truth.image, minlength=len(self.ground_truth.image_ids))
        first = np.cumsum(people) - people
        detection = np.repeat(np.arange(len(self.detections)), people[self.detections.image])
        return detection, first[self.detections.image][detection] + ranks(detection)

    @cached_property
    def oks(self) -> np.ndarray:
        """(p,) of the pairs. For a person without joints it measures how far the detection lies outside the box."""
        detection, person = self.pairs
        points, labelled = self.detections.keypoints[detection], self.ground_truth.labelled[person]
        known, area = labelled.any(axis=1), self.ground_truth.area[person]
        joints = self.ground_truth.keypoints[person, :, :2]
        joints[~known] = points[~known] + _outside(points[~known], self.ground_truth.boxes[person[~known]])
        counted = labelled | ~known[:, None]
        ks = similarities(points, joints, area, self.sigmas)
        return (ks * counted).sum(axis=1) / counted.sum(axis=1)

    def match(self, thresholds: np.ndarray, ignored: np.ndarray) -> np.ndarray:
        """COCOeval's matching: (T, m) int64, the person that each detection matches, or -1.

        By falling score, each detection takes the most similar person that is free and has an OKS of at least the
        threshold; ignored people ((n,) bool) only where no other is free. Crowds are always free.
        """
        ground_truth, detections = self.ground_truth, self.detections
        detection, person = self.pairs
        rank, slot = ranks(detections.image), ranks(ground_truth.image)
        # One axis for the images (those with detections and people), so that all are processed together.
        images, image = np.unique(detections.image[detection], return_inverse=True)
        shape = len(images), slot.max(initial=-1) + 1
        oks = np.full((rank.max(initial=-1) + 1, *shape), -1.0)
        oks[rank[detection], image, slot[person]] = self.oks
        index = np.full(shape, -1)
        index[image, slot[person]] = person
        regular, single = ~ignored[index], ~ground_truth.crowd[index]
        bars = np.minimum(thresholds, ALMOST_ONE)[:, None, None]
        taken = np.zeros((len(thresholds), *shape), bool)
        matched = np.full((len(thresholds), len(oks), len(images)), -1)
        for step, similarity in enumerate(oks if shape[1] else ()):
            free = (similarity >= bars) & ~taken
            better = free & regular
            wanted = np.where(better.any(axis=2, keepdims=True), better, free)
            # The last of equally similar people, as in COCOeval.
            best = shape[1] - 1 - np.where(wanted, similarity, -1)[..., ::-1].argmax(axis=2)
            row, column = np.nonzero(wanted.any(axis=2))
            chosen = best[row, column]
            matched[row, step, column] = index[column, chosen]
            taken[row, column, chosen] = single[column, chosen]
        result = np.full((len(thresholds), len(detections)), -1)
        result[:, detection] = matched[:, rank[detection], image]
        return result

    def changed(self, **fields: np.ndarray) -> 'Evaluation':
        """The evaluation with some fields of its detections replaced; their order must not change."""
        return Evaluation(self.ground_truth, replace(self.detections, **fields), self.sigmas)
