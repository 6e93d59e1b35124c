"""Average precision from matches, also over images drawn with repetition (bootstrap).

COCO's: precision, made to fall, read at 101 recalls, averaged over them and over OKS .5, .55, ... .95.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import Params

from lib.analysis.oks import ANY_AREA, THRESHOLDS, Evaluation

RECALLS: np.ndarray = Params(iouType='keypoints').recThrs  # 0, .01, ... 1


@dataclass
class Ranking:
    """The detections that count at one OKS threshold, by falling score.

    image: (c,) int64, indices of their images
    hits:  (h,) int64, the places of those that found somebody
    """

    image: np.ndarray
    hits: np.ndarray


@dataclass
class Tally:
    """What average precision is computed from.

    rankings: one for each of THRESHOLDS
    people:   (i,) int64, how many of each image are to be found
    """

    rankings: list[Ranking]
    people: np.ndarray

    def precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(T, 101) precision at RECALLS; NaN where nobody is to be found.

        weights: (i,) int64, how often each image counts; default: once
        """
        weights = np.ones_like(self.people) if weights is None else weights
        total = self.people @ weights
        if total == 0:
            return np.full((len(self.rankings), len(RECALLS)), np.nan)
        return np.stack([_precision(ranking, total, weights) for ranking in self.rankings])

    def ap(self, weights: np.ndarray | None = None) -> float:
        """AP, in 0 .. 1; NaN where nobody is to be found."""
        return float(self.precision(weights).mean())

    def recall(self) -> np.ndarray:
        """(T,) share of the people who were found; their mean is AR. NaN where nobody is to be found."""
        found = np.array([len(ranking.hits) for ranking in self.rankings], float)
        return found / self.people.sum() if self.people.any() else np.full(len(found), np.nan)


def _precision(ranking: Ranking, total: int, weights: np.ndarray) -> np.ndarray:
    """(101,) precision at RECALLS of one ranking. total: people to be found, weights: (i,) of the images."""
    own = weights[ranking.image]
    hits = np.cumsum(own[ranking.hits])
    # Precision rises at hits alone, so nothing is lost by looking only there.
    precision = hits / (np.cumsum(own)[ranking.hits] + np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(falling, 0)[np.searchsorted(hits / total, RECALLS)]


def tally(evaluation: Evaluation, only: np.ndarray | None = None, area: tuple[float, float] = ANY_AREA) -> Tally:
    """The figures of an evaluation, or of a part of its people; the others are ignored, like crowds.

    only: (n,) bool, the people of the part
    area: of the people of the part, in square pixels; here detections outside that found nobody do not count either
    """
    truth, detections = evaluation.truth, evaluation.detections
    ignored = truth.ignored | (truth.area < area[0]) | (truth.area > area[1])
    if only is not None:
        ignored |= ~only
    matched = evaluation.match(THRESHOLDS, ignored)
    outside = np.zeros(len(detections), bool)
    if area != ANY_AREA:
        outside = (detections.area < area[0]) | (detections.area > area[1])
    # An index of -1 takes the last entry, which stands for nobody.
    counts = ~np.append(ignored, False)[matched] & ~((matched < 0) & outside)
    order = np.argsort(-detections.scores, kind='stable')
    rankings = []
    for row, counted in zip(matched[:, order], counts[:, order]):
        places = order[counted]
        rankings.append(Ranking(detections.image[places], np.flatnonzero(row[counted] >= 0)))
    people = np.bincount(truth.image[~ignored], minlength=len(truth.image_ids))
    return Tally(rankings, people)
