"""Sections of a report for data sets with OKS: precision and recall, kinds of error, joints, groups, cases."""

from collections.abc import Iterator, Sequence

import numpy as np

from lib.evaluation import breakdown, page
from lib.evaluation.cases import Case
from lib.evaluation.errors import (
    GOOD_KS,
    INVERSION,
    JITTER,
    KINDS,
    MATCHED_OKS,
    MISS,
    NEAR_KS,
    SWAP,
    UNKNOWN,
    Diagnosis,
    corrected,
    diagnose,
)
from lib.evaluation.oks import THRESHOLDS, Evaluation
from lib.evaluation.precision import AT_75, RECALLS, Tally, tally
from lib.utils.transforms import mirror_permutation

CURVES = (0.5, 0.75, 0.9)
BEST, WORST, BACKGROUND, MISSED = 3, 5, 2, 2  # how many cases of each


def _percent(value: float) -> str:
    return f'{100 * value:.1f}' if np.isfinite(value) else '-'


def _signed(difference: float) -> str:
    return f'{round(100 * difference, 1) + 0.0:+.1f}' if np.isfinite(difference) else '-'


def oks_sections(
    evaluation: Evaluation,
    names: Sequence[str],
    joint_names: Sequence[str],
    flip_pairs: Sequence[Sequence[int]],
) -> tuple[list[str], list[Case]]:
    """Sections of HTML, and cases to show. names: of the images, in the order of evaluation.ground_truth.image_ids"""
    diagnosis = diagnose(evaluation, mirror_permutation(len(joint_names), flip_pairs))
    tallied = tally(evaluation)
    sections = [
        _curves(tallied),
        _errors(tallied, corrected(evaluation, diagnosis), diagnosis),
        _joints(evaluation, diagnosis, joint_names),
        _groups(evaluation),
    ]
    return sections, list(_cases(evaluation, diagnosis, joint_names, names))


def _curves(tallied: Tally) -> str:
    precision = tallied.precision()
    rows = [np.isclose(THRESHOLDS, threshold).argmax() for threshold in CURVES]
    lines = {f'OKS {t:g}: AP {_percent(precision[row].mean())}': precision[row] for t, row in zip(CURVES, rows)}
    text = 'Precision at each recall. A line drops to 0 at the highest recall that is reached.'
    lines = {name: np.nan_to_num(line) for name, line in lines.items()}
    return page.section('Precision and recall', text, page.curves(RECALLS.tolist(), lines, ('recall', 'precision')))


def _errors(tallied: Tally, changed: dict[str, Tally], diagnosis: Diagnosis) -> str:
    """How many errors of each kind there are, and the AP that each costs."""
    known = diagnosis.kinds[diagnosis.kinds != UNKNOWN]
    counts = {KINDS[kind]: f'{(known == kind).sum():,} joints' for kind in (JITTER, INVERSION, SWAP, MISS)}
    matched = int((diagnosis.person >= 0).sum())
    counts |= {'score': f'{matched:,} detections', 'background': f'{diagnosis.background.sum():,} detections'}
    ratios = {KINDS[kind]: _percent((known == kind).mean() if len(known) else np.nan) + ' %' for kind in range(5)}

    def scores(precision: np.ndarray) -> list[float]:
        return [precision.mean(), precision[0].mean(), precision[AT_75].mean()]

    before, rows, gains = scores(tallied.precision()), [], {}
    for name, other in changed.items():
        after = scores(other.precision())
        gains[name] = 100 * np.nan_to_num(after[0] - before[0])
        differences = [_signed(b - a) for a, b in zip(before, after)]
        rows.append([name, counts[name], ratios.get(name, ''), _percent(after[0]), *differences])
    text = (
        'Kinds of error of Ronchi and Perona (ICCV 2017), each corrected alone. A labelled joint of a detection that '
        f'matches a person (at OKS {MATCHED_OKS:g}) is good at a similarity of at least {GOOD_KS:g}, and jitter at '
        f'{NEAR_KS:g}; otherwise it is an inversion near its mirror joint, a swap near a joint of another person, or a '
        'miss. To correct an error, joints are moved to their ground truth, the scores of matched detections are '
        f'sorted by OKS, and background detections, which match nobody, are removed. {ratios["good"]} of the joints '
        f'are good. People not found: {diagnosis.missed.sum():,}.'
    )
    head = ('error', 'count', 'of joints', 'AP if corrected', 'gain in AP', 'AP50', 'AP75')
    return page.section('Kinds of error', text, page.bars(gains, 'AP'), page.table(head, rows))


def _joints(evaluation: Evaluation, diagnosis: Diagnosis, joint_names: Sequence[str]) -> str:
    """Each joint's kinds of error and its distance to the ground truth."""
    ground_truth, matched = evaluation.ground_truth, np.flatnonzero(diagnosis.person >= 0)
    people = diagnosis.person[matched]
    offsets = evaluation.detections.keypoints[matched] - ground_truth.keypoints[people, :, :2]
    errors = np.linalg.norm(offsets, axis=2) / np.sqrt(ground_truth.area[people] + np.spacing(1))[:, None]
    bars, rows = {}, []
    for joint, name in enumerate(joint_names):
        kinds = diagnosis.kinds[matched, joint]
        known = kinds != UNKNOWN
        counts = np.bincount(kinds[known], minlength=len(KINDS))
        bars[name] = counts / max(counts.sum(), 1)
        own = errors[known, joint]
        quantiles = [_percent(value) for value in np.quantile(own, [0.5, 0.9])] if len(own) else ['-', '-']
        rows.append([name, f'{len(own):,}', *quantiles, *map(_percent, bars[name])])
    text = (
        'Labelled joints of the people who were found. Errors are distances in per cent of the square root of the '
        "person's annotated area."
    )
    head = ('joint', 'labelled', 'median error', '90 % are within', *(f'{kind} %' for kind in KINDS))
    colors = (page.COLORS[1], page.COLORS[0], page.COLORS[2], page.COLORS[3], page.COLORS[4])
    return page.section('Joints', text, page.stacked_bars(bars, KINDS, colors), page.table(head, rows))


def _groups(evaluation: Evaluation) -> str:
    tables = []
    for title, groups in (
        ('size (square root of area)', breakdown.by_size(evaluation)),
        ('labelled joints', breakdown.by_joints(evaluation)),
        ('overlapping people', breakdown.by_crowding(evaluation)),
    ):
        rows = [[g.name, f'{g.people:,}', _percent(g.ap), _percent(g.ap50), _percent(g.ar)] for g in groups]
        tables.append(page.table((title, 'people', 'AP', 'AP50', 'AR'), rows))
    text = (
        'In each group the other people are ignored. Background detections count in all groups except those by size, '
        'so AP is lower in smaller groups: compare AP between runs, and AR also between groups. People overlap where '
        f'the intersection over union of their boxes is at least {breakdown.MIN_IOU:g}.'
    )
    return page.section('People', text, page.beside(*tables))


def _cases(
    evaluation: Evaluation, diagnosis: Diagnosis, joint_names: Sequence[str], names: Sequence[str]
) -> Iterator[Case]:
    """The worst and best detections of people with half of their joints labelled, then background and missed people.

    The worst have the largest score x (1 - OKS).
    """
    ground_truth, detections = evaluation.ground_truth, evaluation.detections
    labelled = (diagnosis.kinds != UNKNOWN).sum(axis=1)
    fit = np.flatnonzero(2 * labelled >= len(joint_names))
    loss = detections.scores[fit] * (1 - diagnosis.oks[fit])
    best = fit[np.argsort(-diagnosis.oks[fit], kind='stable')][: min(BEST, len(fit) // 2)]
    worst = [i for i in fit[np.argsort(-loss, kind='stable')][:WORST] if i not in best]
    for title, indices in (('Worst', worst), ('Best', best)):
        for index in indices:
            person, image = diagnosis.person[index], names[detections.image[index]]
            caption = f'{image}: OKS {diagnosis.oks[index]:.2f}, score {detections.scores[index]:.2f}'
            wrong = [f'{joint_names[j]} {KINDS[k]}' for j, k in enumerate(diagnosis.kinds[index]) if k >= INVERSION]
            caption += '; ' + ', '.join(wrong) if wrong else ''
            yield Case(image, ground_truth.keypoints[person], detections.keypoints[index], title, caption)
    background = np.flatnonzero(diagnosis.background)
    for index in background[np.argsort(-detections.scores[background], kind='stable')][:BACKGROUND]:
        image = names[detections.image[index]]
        caption = f'{image}: score {detections.scores[index]:.2f}'
        yield Case(image, None, detections.keypoints[index], 'Background', caption)
    missed = np.flatnonzero(diagnosis.missed & ground_truth.labelled.any(axis=1))
    for person in missed[np.argsort(-ground_truth.area[missed], kind='stable')][:MISSED]:
        image = names[ground_truth.image[person]]
        caption = f'{image}: {ground_truth.labelled[person].sum()} labelled joints'
        yield Case(image, ground_truth.keypoints[person], None, 'Not found', caption)
