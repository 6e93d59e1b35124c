"""PCKh (Andriluka et al., CVPR 2014): the ratio of joints within half a head's size of the ground truth."""

from pathlib import Path

import numpy as np

from lib.datasets.mpii_json import MpiiGroundTruth, read_ground_truth
from lib.evaluation.bootstrap import Metrics, by_image

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
# What the field calls Mean@0.1 is entry 11 of the thresholds 0, 0.01, ..., 0.5.
STRICT_THRESHOLD = 0.11


def pckh(predictions: np.ndarray, mat_path: Path) -> dict[str, float]:
    """METRICS in per cent.

    predictions: (n, 16, 3), x, y (image pixels counted from 0) and a score that is not used
    mat_path:    valid.mat, of the same n people in the same order. Raises InputError for another file.
    """
    metrics = pckh_of(head_errors(predictions[..., :2], read_ground_truth(mat_path, len(predictions))))
    return {name: 100 * value for name, value in metrics.items()}


def pckh_of(errors: np.ndarray) -> dict[str, float]:
    """METRICS, in 0 .. 1, of head_errors (n, 16)."""
    people = np.arange(len(errors))
    return dict(zip(METRICS, pckh_metrics(errors, people, len(people))(np.ones_like(people)).tolist()))


def pckh_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """METRICS as a function of how often each image counts.

    errors: head_errors (n, 16); image: (n,) indices of the people's images; images: how many there are
    """
    near = by_image([errors <= threshold for threshold in (THRESHOLD, STRICT_THRESHOLD)], image, images)
    [labelled] = by_image([np.isfinite(errors)], image, images)

    def metrics(weights: np.ndarray) -> np.ndarray:
        joints = weights @ labelled
        ratios = weights @ near / np.maximum(joints, 1)
        groups = [ratios[0, list(members)].mean() for members in GROUPS.values()]
        total = joints[COUNTED].sum()
        means = ratios[:, COUNTED] @ joints[COUNTED] / total if total else np.full(len(near), np.nan)
        return np.append(groups, means)

    return metrics


def head_errors(keypoints: np.ndarray, ground_truth: MpiiGroundTruth) -> np.ndarray:
    """(n, 16) distances to the ground truth in head sizes; NaN where the joint is not labelled.

    keypoints: (n, 16, 2) in image pixels counted from 0, of the same people in the same order
    """
    corners = ground_truth.head_boxes
    sizes = HEAD_SIZE_FACTOR * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    errors = np.linalg.norm(keypoints + 1 - ground_truth.joints, axis=2) / sizes[:, None]
    return np.where(ground_truth.labelled, errors, np.nan)
