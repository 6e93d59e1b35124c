"""The kinds of error of Ronchi and Perona (Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, ICCV
2017), and the AP that each would give back if it were corrected.

With a joint's similarity ks to the ground truth, as in OKS, a labelled joint of a detection that found a person is
    good:      ks >= .85
    jitter:    ks >= .5
    inversion: ks >= .5 to its mirror joint of the same person
    swap:      ks >= .5 to the same or the mirror joint of another person
    miss:      none of these
where the first that holds counts. Beside them stand errors of score (matched detections are not sorted by how good
they are) and of the background (detections that found nobody).
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
# Low, so that detections with many wrong joints are still told whose they are.
MATCHED_OKS = 0.1


@dataclass
class Diagnosis:
    """What is wrong with the detections of an evaluation.

    person:     (m,) int64, whom each detection found at MATCHED_OKS; -1: nobody
    oks:        (m,) of the detection with that person; 0 where it found nobody
    kinds:      (m, K) int8, indices into KINDS; UNKNOWN without a person, or where the joint is not labelled
    background: (m,) bool, found nobody, not even someone who is ignored
    missed:     (n,) bool, people whom no detection found
    """

    person: np.ndarray
    oks: np.ndarray
    kinds: np.ndarray
    background: np.ndarray
    missed: np.ndarray


def diagnose(evaluation: Evaluation, permutation: np.ndarray) -> Diagnosis:
    """permutation: (K,) int64, of every joint the index of its mirror joint"""
    ground_truth, (detection, person) = evaluation.ground_truth, evaluation.pairs
    [found] = evaluation.match(np.array([MATCHED_OKS]), ground_truth.ignored)
    regular = (found >= 0) & ~ground_truth.ignored[found] if len(ground_truth) else found >= 0
    own = np.where(regular, found, -1)

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
    return Diagnosis(own, oks, np.where(known, kinds, UNKNOWN).astype(np.int8), found < 0, missed)


def _both(evaluation: Evaluation, chosen: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(c, K) each: joints' similarities to the same and to the mirror joint of the person of chosen pairs ((p,) bool);
    0 where that one is not labelled."""
    detection, person = (index[chosen] for index in evaluation.pairs)
    ground_truth, points = evaluation.ground_truth, evaluation.detections.keypoints[detection]
    both = []
    for place in (np.arange(len(permutation)), permutation):
        joints = ground_truth.keypoints[person][:, place]
        ks = similarities(points, joints[..., :2], ground_truth.area[person], evaluation.sigmas[place])
        both.append(ks * (joints[..., 2] > 0))
    return both[0], both[1]


def corrected_joints(evaluation: Evaluation, diagnosis: Diagnosis, kind: int) -> Evaluation:
    """Every joint of a kind at its true place."""
    wrong = diagnosis.kinds == kind
    true = evaluation.ground_truth.keypoints[diagnosis.person, :, :2] if len(evaluation.ground_truth) else 0
    return evaluation.changed(keypoints=np.where(wrong[..., None], true, evaluation.detections.keypoints))


def corrected_scores(evaluation: Evaluation, diagnosis: Diagnosis) -> Evaluation:
    """The scores of the detections that found somebody, handed out among them anew: the highest to the best OKS."""
    detections, matched = evaluation.detections, np.flatnonzero(diagnosis.person >= 0)
    scores = detections.scores.copy()
    scores[matched[np.argsort(diagnosis.oks[matched], kind='stable')]] = np.sort(scores[matched])
    return Evaluation(
        evaluation.ground_truth, arrange(detections.image, detections.keypoints, scores), evaluation.sigmas
    )


def without_background(evaluation: Evaluation, diagnosis: Diagnosis) -> Evaluation:
    """Without the detections that found nobody."""
    detections, kept = evaluation.detections, ~diagnosis.background
    return evaluation.changed(
        image=detections.image[kept], keypoints=detections.keypoints[kept], scores=detections.scores[kept]
    )


def corrected(evaluation: Evaluation, diagnosis: Diagnosis) -> dict[str, Tally]:
    """The tallies as they would be with one kind of error corrected and all others left."""
    joints = {KINDS[kind]: corrected_joints(evaluation, diagnosis, kind) for kind in (JITTER, INVERSION, SWAP, MISS)}
    others = {'score': corrected_scores, 'background': without_background}
    evaluations = {**joints, **{name: correct(evaluation, diagnosis) for name, correct in others.items()}}
    return {name: tally(changed) for name, changed in evaluations.items()}
