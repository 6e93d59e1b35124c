"""The metrics of a test as functions of how often each of its images counts: once for all, or as a bootstrap has it."""

import numpy as np
from pycocotools.cocoeval import Params

from lib.datasets.mpii import METRICS, STRICT_THRESHOLD, THRESHOLD
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.coco import PCK_THRESHOLDS
from lib.evaluation.heads import COUNTED
from lib.evaluation.oks import ANY_AREA, THRESHOLDS, Evaluation
from lib.evaluation.precision import tally

SIZES = Params(iouType='keypoints').areaRng[1:]  # square pixels: medium, large
AT_75 = int(np.argmin(np.abs(THRESHOLDS - 0.75)))


def coco_metrics(evaluation: Evaluation) -> Metrics:
    """COCO's ten, in the order of coco_eval.FIGURES."""
    tallies = [tally(evaluation, area=area) for area in (ANY_AREA, *map(tuple, SIZES))]

    def metrics(weights: np.ndarray) -> np.ndarray:
        rows = []
        for every, medium, large in zip(*(one.measure(weights) for one in tallies)):
            at = every.reshape(len(THRESHOLDS), -1).mean(axis=1)
            rows += [every.mean(), at[0], at[AT_75], medium.mean(), large.mean()]
        return np.array(rows)

    return metrics


def pck_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """PCK at each of PCK_SHARES. errors: coco_eval.box_errors' (n, K); image: (n,) indices of the people's images."""
    near = _by_image([errors <= share for share in PCK_THRESHOLDS], image, images)
    labelled = _by_image([np.isfinite(errors)], image, images)

    def metrics(weights: np.ndarray) -> np.ndarray:
        total = (weights @ labelled).sum()
        return (weights @ near).sum(axis=1) / total if total else np.full(len(near), np.nan)

    return metrics


def pckh_metrics(errors: np.ndarray, image: np.ndarray, images: int) -> Metrics:
    """PCKh of FIGURES, the mean, and that at 0.1. errors: heads.head_errors' (n, 16); image: as pck_metrics'."""
    near = _by_image([errors <= threshold for threshold in (THRESHOLD, STRICT_THRESHOLD)], image, images)
    labelled = _by_image([np.isfinite(errors)], image, images)[0]

    def metrics(weights: np.ndarray) -> np.ndarray:
        joints = weights @ labelled
        shares = weights @ near / np.maximum(joints, 1)
        groups = [shares[0, list(members)].mean() for members in METRICS.values()]
        total = joints[COUNTED].sum()
        means = shares[:, COUNTED] @ joints[COUNTED] / total if total else np.full(len(near), np.nan)
        return np.append(groups, means)

    return metrics


def _by_image(flags: list[np.ndarray], image: np.ndarray, images: int) -> np.ndarray:
    """(f, i, K) int64: how many of an image's people have each flag (n, K) at each joint."""
    counts = np.zeros((len(flags), images, flags[0].shape[1]), np.int64)
    for count, flag in zip(counts, flags):
        np.add.at(count, image, flag)
    return counts
