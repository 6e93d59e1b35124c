"""Percentage of correct keypoints (PCK; Yang and Ramanan, PAMI 2013), relative to the person's box."""

import numpy as np

from lib.datasets.records import Records
from lib.evaluation.bootstrap import Metrics, by_image
from lib.utils.transforms import PIXELS_PER_SCALE

THRESHOLDS = (0.1, 0.05)  # of the longer side of the box
METRICS = tuple(f'PCK@{threshold}' for threshold in THRESHOLDS)


def pck(predictions: np.ndarray, records: Records) -> dict[str, float]:
    """METRICS, in 0 .. 1: the ratio of labelled joints within so much of the longer side of the person's box.

    predictions: (n, K, 3), x, y in image pixels and score, of the records' people
    """
    errors, people = box_errors(predictions, *records.labels, records.scale), np.arange(len(records))
    return dict(zip(METRICS, pck_metrics(errors, people, len(people))(np.ones_like(people)).tolist()))


def pck_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """METRICS as a function of how often each image counts.

    errors: box_errors (n, K); image: (n,) indices of the people's images; images: how many there are
    """
    near = by_image([errors <= threshold for threshold in THRESHOLDS], image, images)
    [labelled] = by_image([np.isfinite(errors)], image, images)

    def metrics(weights: np.ndarray) -> np.ndarray:
        total = (weights @ labelled).sum()
        return (weights @ near).sum(axis=1) / total if total else np.full(len(near), np.nan)

    return metrics


def box_errors(predictions: np.ndarray, joints: np.ndarray, visibility: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, K) distances to the ground truth in units of the longer side of the person's box; NaN where not labelled.

    predictions: as pck's; joints (n, K, 2), visibility (n, K) and scale (n, 2): as in Records
    """
    longer = scale.max(axis=1, keepdims=True) * PIXELS_PER_SCALE
    errors = np.linalg.norm(predictions[..., :2] - joints, axis=2) / longer
    return np.where(visibility > 0, errors, np.nan)
