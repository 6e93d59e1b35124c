"""PCKh (Andriluka et al., CVPR 2014) and PCK (Yang and Ramanan, PAMI 2013): the ratio of joints near the ground truth.

Distances are relative to the size of the head (PCKh) or to the longer side of the bounding box (PCK).
"""

from collections.abc import Callable, Sequence

import numpy as np

from lib.datasets.mpii_json import MpiiGroundTruth
from lib.datasets.records import Records
from lib.evaluation.bootstrap import Metrics
from lib.utils.transforms import PIXELS_PER_SCALE

GROUPS = {
    'Head': (9,),
    'Shoulder': (12, 13),
    'Elbow': (11, 14),
    'Wrist': (10, 15),
    'Hip': (2, 3),
    'Knee': (1, 4),
    'Ankle': (0, 5),
}
METRICS = (*GROUPS, 'Mean', 'Mean@0.1')
# Joints that count in the mean: all but pelvis and thorax.
COUNTED = np.isin(np.arange(16), (6, 7), invert=True)
HEAD_SIZE_FACTOR = 0.6
THRESHOLD = 0.5
# The field's Mean@0.1 is entry 11 of the thresholds 0, 0.01, ..., 0.5, which is not 0.1.
STRICT_THRESHOLD = 0.11
BOX_THRESHOLDS = (0.1, 0.05)
BOX_METRICS = tuple(f'PCK@{threshold}' for threshold in BOX_THRESHOLDS)


def pckh(errors: np.ndarray) -> dict[str, float]:
    """METRICS in 0 .. 1 of head_errors (n, 16)."""
    return _over_all(METRICS, pckh_metrics, errors)


def pck(predictions: np.ndarray, records: Records) -> dict[str, float]:
    """BOX_METRICS in 0 .. 1. predictions: (n, K, 3), x, y in image pixels and a score that is not used"""
    return _over_all(BOX_METRICS, pck_metrics, box_errors(predictions, *records.labels, records.scale))


def _over_all(
    names: Sequence[str], metrics: Callable[[np.ndarray, np.ndarray, int], Metrics], errors: np.ndarray
) -> dict[str, float]:
    """Metrics by name, everybody counted once, as if all were in a single image."""
    values = metrics(errors, np.zeros(len(errors), np.int64), 1)(np.ones(1, np.int64))
    return dict(zip(names, values.tolist()))


def pckh_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """METRICS as a function of how often each image counts; NaN where nothing is labelled.

    errors: head_errors (n, 16); image: (n,) index of each person's image; images: how many there are
    """
    near, labelled = _counts(errors, (THRESHOLD, STRICT_THRESHOLD), image, images)

    def metrics(weights: np.ndarray) -> np.ndarray:
        joints = weights @ labelled
        ratios = weights @ near / np.maximum(joints, 1)
        labelled_sides = [[joint for joint in members if joints[joint]] for members in GROUPS.values()]
        groups = [ratios[0, sides].mean() if sides else np.nan for sides in labelled_sides]
        total = joints[COUNTED].sum()
        means = ratios[:, COUNTED] @ joints[COUNTED] / total if total else np.full(len(near), np.nan)
        return np.append(groups, means)

    return metrics


def pck_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """BOX_METRICS as a function of how often each image counts. errors: box_errors (n, K); others as pckh_metrics'"""
    near, labelled = _counts(errors, BOX_THRESHOLDS, image, images)

    def metrics(weights: np.ndarray) -> np.ndarray:
        total = (weights @ labelled).sum()
        return (weights @ near).sum(axis=1) / total if total else np.full(len(near), np.nan)

    return metrics


def _counts(
    errors: np.ndarray, thresholds: Sequence[float], image: np.ndarray, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """An image's joints: (t, i, K) int64 those within each threshold, and (i, K) int64 those that are labelled."""
    flags = [*(errors <= threshold for threshold in thresholds), ~np.isnan(errors)]
    counts = np.zeros((len(flags), images, errors.shape[1]), np.int64)
    for count, flag in zip(counts, flags):
        np.add.at(count, image, flag)
    return counts[:-1], counts[-1]


def head_errors(keypoints: np.ndarray, ground_truth: MpiiGroundTruth) -> np.ndarray:
    """(n, 16) distances to the ground truth in head sizes; NaN where the joint is not labelled.

    keypoints: (n, 16, 2) in image pixels counted from 0, of the same people in the same order
    """
    corners = ground_truth.head_boxes
    sizes = HEAD_SIZE_FACTOR * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    errors = np.linalg.norm(keypoints + 1 - ground_truth.joints, axis=2) / sizes[:, None]
    return _of_labelled(errors, ground_truth.labelled)


def box_errors(predictions: np.ndarray, joints: np.ndarray, visibility: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, K) distances to the ground truth in longer sides of the box; NaN where the joint is not labelled.

    predictions: as pck's; joints (n, K, 2), visibility (n, K) and scale (n, 2): as in Records
    """
    longer = scale.max(axis=1, keepdims=True) * PIXELS_PER_SCALE
    errors = np.linalg.norm(predictions[..., :2] - joints, axis=2) / longer
    return _of_labelled(errors, visibility > 0)


def _of_labelled(errors: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """NaN where a joint is not labelled, and infinity where a labelled one has no finite error."""
    return np.where(labelled, np.where(np.isfinite(errors), errors, np.inf), np.nan)
