"""Error diagnosis of Ronchi and Perona (Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, ICCV 2017):
kinds of error, and the AP gained by correcting each.

With ks, the similarity of a joint to the ground truth as in OKS, a labelled joint of a matched detection is
    good:      ks >= .85
    jitter:    ks >= .5
    inversion: ks >= .5 to its mirror joint of the same person
    swap:      ks >= .5 to the same or the mirror joint of another person
    miss:      none of these
where the first that applies counts. Two more kinds concern whole detections: score (matched detections are not sorted
by OKS) and background (detections that match nobody).
"""

from dataclasses import dataclass

import numpy as np

from lib.evaluation.ground_truth import arrange
from lib.evaluation.oks import Evaluation, similarities
from lib.evaluation.precision import Tally, tally

GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
UNKNOWN = -1
GOOD_KS, NEAR_KS = 0.85, 0.5
# Low, so that detections with many wrong joints are still matched.
MATCHED_OKS = 0.1


@dataclass
class Diagnosis:
    """What is wrong with the detections of an evaluation.

    person:     (m,) int64, the person that each detection matches at MATCHED_OKS; -1: none
    oks:        (m,) of the detection and that person; 0 without one
    kinds:      (m, K) int8, indices into KINDS; UNKNOWN without a person, or where the joint is not labelled
    background: (m,) bool, matches no person, ignored ones included
    missed:     (n,) bool, people that no detection matches
    """

    person: np.ndarray
    oks: np.ndarray
    kinds: np.ndarray
    background: np.ndarray
    missed: np.ndarray


def diagnose(evaluation: Evaluation, permutation: np.ndarray) -> Diagnosis:
    """The diagnosis of an evaluation. permutation: (K,) int64, the index of each joint's mirror joint"""
    ground_truth, (detection, person) = evaluation.ground_truth, evaluation.pairs
    [match] = evaluation.match(np.array([MATCHED_OKS]), ground_truth.ignored)
    regular = (match >= 0) & ~ground_truth.ignored[match] if len(ground_truth) else match >= 0
    own = np.where(regular, match, -1)

    joints = evaluation.detections.keypoints.shape[1]
    same, mirror, others = (np.zeros((len(own), joints)) for _ in range(3))
    is_own, is_other = own[detection] == person, regular[detection] & (own[detection] != person)
    same[detection[is_own]], mirror[detection[is_own]] = _both(evaluation, is_own, permutation)
    np.maximum.at(others, detection[is_other], np.maximum(*_both(evaluation, is_other, permutation)))
    kinds = np.select([same >= GOOD_KS, same >= NEAR_KS, mirror >= NEAR_KS, others >= NEAR_KS], range(4), MISS)
    known = np.zeros_like(kinds, bool)
    known[regular] = ground_truth.labelled[own[regular]]

    oks = np.zeros(len(own))
    oks[detection[is_own]] = evaluation.oks[is_own]
    missed = ~ground_truth.ignored
    missed[own[regular]] = False
    return Diagnosis(own, oks, np.where(known, kinds, UNKNOWN).astype(np.int8), match < 0, missed)


def _both(evaluation: Evaluation, chosen: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities (c, K) of the joints of chosen pairs ((p,) bool) to the person's same joint and to its mirror joint;
    0 where that is not labelled."""
    detection, person = (index[chosen] for index in evaluation.pairs)
    ground_truth, points = evaluation.ground_truth, evaluation.detections.keypoints[detection]
    both = []
    for place in (np.arange(len(permutation)), permutation):
        joints = ground_truth.keypoints[person][:, place]
        ks = similarities(points, joints[..., :2], ground_truth.area[person], evaluation.sigmas[place])
        both.append(ks * (joints[..., 2] > 0))
    return both[0], both[1]


def corrected_joints(evaluation: Evaluation, diagnosis: Diagnosis, kind: int) -> Evaluation:
    """With every joint of a kind moved to its ground truth."""
    wrong = diagnosis.kinds == kind
    right = evaluation.ground_truth.keypoints[diagnosis.person, :, :2] if len(evaluation.ground_truth) else 0
    return evaluation.changed(keypoints=np.where(wrong[..., None], right, evaluation.detections.keypoints))


def corrected_scores(evaluation: Evaluation, diagnosis: Diagnosis) -> Evaluation:
    """With the scores of the matched detections reassigned among them, the highest to the best OKS."""
    detections, matched = evaluation.detections, np.flatnonzero(diagnosis.person >= 0)
    scores = detections.scores.copy()
    scores[matched[np.argsort(diagnosis.oks[matched], kind='stable')]] = np.sort(scores[matched])
    return Evaluation(
        evaluation.ground_truth, arrange(detections.image, detections.keypoints, scores), evaluation.sigmas
    )


def without_background(evaluation: Evaluation, diagnosis: Diagnosis) -> Evaluation:
    """Without the detections that match nobody."""
    kept = ~diagnosis.background
    return evaluation.changed(**{name: value[kept] for name, value in vars(evaluation.detections).items()})


def corrected(evaluation: Evaluation, diagnosis: Diagnosis) -> dict[str, Tally]:
    """The tallies with a single kind of error corrected, by its name."""
    changed = {KINDS[kind]: corrected_joints(evaluation, diagnosis, kind) for kind in (JITTER, INVERSION, SWAP, MISS)}
    changed['score'] = corrected_scores(evaluation, diagnosis)
    changed['background'] = without_background(evaluation, diagnosis)
    return {name: tally(one) for name, one in changed.items()}
