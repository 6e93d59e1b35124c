"""Instance scores, and removal of duplicates by non-maximum suppression (NMS) with OKS or its soft variant.

Similarity is that of the poses: boxes that hardly overlap may yield the same pose, and boxes that overlap two poses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from easydict import EasyDict

from cvpack.errors import InputError
from lib.datasets.records import Records
from lib.evaluation.ground_truth import grouped
from lib.evaluation.oks import similarities
from lib.utils.heatmap import SCORE_OFFSET
from lib.utils.transforms import PIXELS_PER_SCALE

CONFIDENT_PEAK = 0.2  # of the joints that TEST.RESCORE = 'confident' counts


@dataclass(frozen=True)
class Scoring:
    """How people are scored and suppressed: the configuration's TEST.RESCORE, NMS and NMS_THRESHOLD.

    sigmas: (K,) the joints' OKS constants
    """

    rescore: str = 'mean'
    nms: str = 'none'
    threshold: float = 0.9
    sigmas: Sequence[float] = ()


PUBLISHED = Scoring()  # the published code's


def scoring_of(cfg: EasyDict, records: Records) -> Scoring:
    """How a configuration's tests score the people found in these records' boxes.

    Raises InputError if it removes duplicates where the boxes are annotated, of which each is somebody.
    """
    if cfg.TEST.NMS == 'oks' and records.joints is not None:
        raise InputError("TEST.NMS = 'oks' removes duplicates, but annotated boxes have none: set 'none'")
    return Scoring(cfg.TEST.RESCORE, cfg.TEST.NMS, cfg.TEST.NMS_THRESHOLD, cfg.DATASET.KEYPOINT.SIGMAS)


def instance_scores(box_scores: np.ndarray, joint_scores: np.ndarray, rescore: str) -> np.ndarray:
    """(n,) people's scores from the scores of boxes (n,) and joints (n, K): heatmap peaks + 0.5.

    rescore: 'mean', the box score times the mean joint score, as in the published code; or 'confident', the box score
             times the mean peak of the joints with peaks above CONFIDENT_PEAK, 0 without one
    """
    if rescore == 'mean':
        return box_scores * joint_scores.mean(axis=1)
    peaks = joint_scores - SCORE_OFFSET
    confident = peaks > CONFIDENT_PEAK
    return box_scores * (peaks * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)


def _oks(person: int, others: np.ndarray, keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(m,) OKS of a person with others (m,) over all joints; the area of a pair is the mean of both."""
    pair_areas = (areas[person] + areas[others]) / 2
    return similarities(keypoints[others], keypoints[person], pair_areas, sigmas).mean(axis=1)


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """(n,) bool: the people of an image to keep. By falling score, each removes the remaining ones whose OKS with it is
    above the threshold; of equal scores the first is kept.

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
    """(n,) new scores; nobody is removed (Soft-NMS, linear; Bodla et al., ICCV 2017). By falling score, each multiplies
    the scores of the remaining ones whose OKS with it is above the threshold by 1 - OKS. Arguments as oks_nms'.
    """
    scores, left = scores.copy(), np.arange(len(scores))
    while len(left):
        best = left[np.argmax(scores[left])]
        left = left[left != best]
        oks = _oks(best, left, keypoints, areas, sigmas)
        scores[left] *= np.where(oks > threshold, 1 - oks, 1)
    return scores


def scored(
    records: Records, keypoints: np.ndarray, joint_scores: np.ndarray, scoring: Scoring
) -> tuple[np.ndarray, np.ndarray]:
    """The indices (m,) of the people to keep, rising, and the scores (n,) of all n.

    keypoints (n, K, 2) in image pixels, joint_scores (n, K). The area of a person is that of the box.
    """
    scores = instance_scores(records.scores, joint_scores, scoring.rescore)
    kept = np.ones(len(scores), bool)
    if scoring.nms == 'none':
        return np.flatnonzero(kept), scores
    areas = (records.scale.astype(np.float64) * PIXELS_PER_SCALE).prod(axis=1)
    sigmas = np.array(scoring.sigmas)
    for own in grouped(records.ids):
        people = keypoints[own], scores[own], areas[own], sigmas, scoring.threshold
        if scoring.nms == 'oks':
            kept[own] = oks_nms(*people)
        else:
            scores[own] = soft_oks_nms(*people)
    return np.flatnonzero(kept), scores
