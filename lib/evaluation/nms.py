"""The scores of people found, and those found twice: rescoring, non-maximum suppression by OKS, its soft variant.

Boxes that overlap little may still lead to one pose, and a detector's boxes that overlap much to two: how alike two
people are is told by their joints. All of it is of one image at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lib.datasets.records import Records
from lib.evaluation.oks import similarities
from lib.utils.heatmap import SCORE_OFFSET
from lib.utils.transforms import PIXELS_PER_SCALE

# 'confident' counts joints whose peak is higher.
CONFIDENT_PEAK = 0.2


@dataclass(frozen=True)
class Scoring:
    """How people are scored and which are left out: the configuration's TEST.RESCORE, .NMS and .NMS_THRESHOLD.

    sigmas: (K,) the joints' OKS constants
    """

    rescore: str = 'mean'
    nms: str = 'none'
    threshold: float = 0.9
    sigmas: Sequence[float] = ()


# The published code's: a box's score times the joints' mean, and nobody left out.
PUBLISHED = Scoring()


def instance_scores(box_scores: np.ndarray, joint_scores: np.ndarray, rescore: str) -> np.ndarray:
    """(n,) people's scores of their boxes' (n,) and joints' (n, K), peaks of heatmaps + 0.5.

    mean:      the box's times the mean of all joints' scores, the published code's
    confident: the box's times the mean peak of the joints with peaks above 0.2; 0 for who has none
    """
    if rescore == 'mean':
        return box_scores * joint_scores.mean(axis=1)
    peaks = joint_scores - SCORE_OFFSET
    confident = peaks > CONFIDENT_PEAK
    return box_scores * (peaks * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)


def _oks(person: int, others: np.ndarray, keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(m,) OKS of a person with others (m,), all joints counted; a pair's area is the mean of its two."""
    pair_areas = (areas[person] + areas[others]) / 2
    return similarities(keypoints[others], keypoints[person], pair_areas, sigmas).mean(axis=1)


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """(n,) bool: who of an image's people stays. By falling score, each removes those left whose OKS with it is above
    the threshold; of equal scores the first stays.

    keypoints (n, K, 2) in image pixels; scores (n,); areas (n,) in square pixels; sigmas (K,)
    """
    kept = np.zeros(len(scores), bool)
    left = np.argsort(-scores, kind='stable')
    while len(left):
        best, left = left[0], left[1:]
        kept[best] = True
        left = left[_oks(best, left, keypoints, areas, sigmas) <= threshold]
    return kept


def soft_oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """(n,) new scores; nobody is removed (Bodla et al., ICCV 2017, the linear form). By falling score, each multiplies
    those of all that are left and whose OKS with it is above the threshold by 1 - OKS.

    Arguments as oks_nms'.
    """
    scores, left = scores.copy(), np.arange(len(scores))
    while len(left):
        best = left[np.argmax(scores[left])]
        left = left[left != best]
        alike = _oks(best, left, keypoints, areas, sigmas)
        scores[left] *= np.where(alike > threshold, 1 - alike, 1)
    return scores


def _images(ids: np.ndarray) -> Iterator[np.ndarray]:
    """The indices of each image's people. ids: (n,)"""
    order = np.argsort(ids, kind='stable')
    return iter(np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)) if len(ids) else iter(())


def scored(
    records: Records, keypoints: np.ndarray, joint_scores: np.ndarray, scoring: Scoring
) -> tuple[np.ndarray, np.ndarray]:
    """The indices (m,) of the people that stay, rising, and the scores (n,) of all n.

    keypoints (n, K, 2) in image pixels, joint_scores (n, K). The area of a person is that of its box.
    """
    scores = instance_scores(records.scores, joint_scores, scoring.rescore)
    kept = np.ones(len(scores), bool)
    if scoring.nms == 'none':
        return np.flatnonzero(kept), scores
    areas = (records.scale.astype(np.float64) * PIXELS_PER_SCALE).prod(axis=1)
    sigmas = np.array(scoring.sigmas)
    for own in _images(records.ids):
        people = keypoints[own], scores[own], areas[own], sigmas, scoring.threshold
        if scoring.nms == 'oks':
            kept[own] = oks_nms(*people)
        else:
            scores[own] = soft_oks_nms(*people)
    return np.flatnonzero(kept), scores
