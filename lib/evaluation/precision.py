"""COCO's average precision, also over resampled images (bootstrap).

It is the mean of the interpolated precision at 101 recalls, averaged over OKS thresholds .5, .55, ... .95.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import Params

from lib.evaluation.bootstrap import Metrics
from lib.evaluation.oks import ANY_AREA, THRESHOLDS, Evaluation

RECALLS: np.ndarray = Params(iouType='keypoints').recThrs  # 0, .01, ... 1
SIZES = Params(iouType='keypoints').areaRng[1:]  # square pixels: medium, large
AT_75 = int(np.argmin(np.abs(THRESHOLDS - 0.75)))


@dataclass
class Ranking:
    """The detections at one OKS threshold, as indices into Tally.image.

    hits:    (h,) int64, rising: true positives
    ignored: (l,) int64, rising: detections that do not count at this threshold
    before:  (h,) int64: how many ignored detections come before each hit
    """

    hits: np.ndarray
    ignored: np.ndarray
    before: np.ndarray


@dataclass
class Tally:
    """What average precision and recall are computed from.

    image:    (c,) int64, image indices of the detections that count at any threshold, by falling score
    rankings: one for each of THRESHOLDS
    people:   (i,) int64, how many people of each image count
    """

    image: np.ndarray
    rankings: list[Ranking]
    people: np.ndarray

    def measure(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(T, 101) precision at RECALLS and (T,) recall; NaN without people.

        weights: (i,) int64, how often each image counts; default: once
        """
        weights = np.ones_like(self.people) if weights is None else weights
        total = self.people @ weights
        if total == 0:
            return np.full((len(self.rankings), len(RECALLS)), np.nan), np.full(len(self.rankings), np.nan)
        own = weights[self.image]
        seen = np.cumsum(own)
        precision, recall = zip(*(_measure(ranking, own, seen, total) for ranking in self.rankings))
        return np.stack(precision), np.array(recall)

    def precision(self) -> np.ndarray:
        """(T, 101) precision at RECALLS."""
        return self.measure()[0]


def _measure(ranking: Ranking, own: np.ndarray, seen: np.ndarray, total: int) -> tuple[np.ndarray, float]:
    """(101,) precision at RECALLS of one ranking, and its recall.

    own: (c,) how often each detection counts; seen: (c,) their cumulative sum; total: how many people count
    """
    hits = np.cumsum(own[ranking.hits])
    ignored = np.append(0, np.cumsum(own[ranking.ignored]))[ranking.before]
    # Precision rises at hits only, so the maxima are there.
    precision = hits / (seen[ranking.hits] - ignored + np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hits[-1] / total if len(hits) else 0.0
    return np.append(falling, 0)[np.searchsorted(hits / total, RECALLS)], recall


def tally(evaluation: Evaluation, only: np.ndarray | None = None, area: tuple[float, float] = ANY_AREA) -> Tally:
    """The tally of an evaluation, or of a subset of its people; the others are ignored, like crowds.

    only: (n,) bool, the people of the subset
    area: range of areas of the subset, in square pixels; as in COCO, unmatched detections outside it are ignored
    """
    ground_truth, detections = evaluation.ground_truth, evaluation.detections
    ignored = ground_truth.ignored | (ground_truth.area < area[0]) | (ground_truth.area > area[1])
    if only is not None:
        ignored |= ~only
    matched = evaluation.match(THRESHOLDS, ignored)
    outside = np.zeros(len(detections), bool)
    if area != ANY_AREA:
        outside = (detections.area < area[0]) | (detections.area > area[1])
    # An index of -1 takes the appended entry.
    counts = ~np.append(ignored, False)[matched] & ~((matched < 0) & outside)
    order = np.argsort(-detections.scores, kind='stable')
    order = order[counts.any(axis=0)[order]]
    rankings = []
    for row, counted in zip(matched[:, order], counts[:, order]):
        hits, skipped = np.flatnonzero(counted & (row >= 0)), np.flatnonzero(~counted)
        rankings.append(Ranking(hits, skipped, np.searchsorted(skipped, hits)))
    people = np.bincount(ground_truth.image[~ignored], minlength=len(ground_truth.image_ids))
    return Tally(detections.image[order], rankings, people)


def coco_metrics(evaluation: Evaluation) -> Metrics:
    """COCO's ten metrics, in the order of coco.METRICS, as a function of how often each image counts."""
    tallies = [tally(evaluation, area=area) for area in (ANY_AREA, *map(tuple, SIZES))]

    def metrics(weights: np.ndarray) -> np.ndarray:
        rows = []
        for every, medium, large in zip(*(one.measure(weights) for one in tallies)):
            at = every.reshape(len(THRESHOLDS), -1).mean(axis=1)
            rows += [every.mean(), at[0], at[AT_75], medium.mean(), large.mean()]
        return np.array(rows)

    return metrics
