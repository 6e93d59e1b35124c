"""What a report says of a data set with OKS: curves, errors, joints, groups, cases."""

from collections.abc import Iterator, Sequence

import numpy as np

from lib.evaluation import breakdown, page
from lib.evaluation.cases import Case
from lib.evaluation.errors import (
    INVERSION,
    JITTER,
    KINDS,
    MATCHED_OKS,
    MISS,
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
# How many of each kind of case.
BEST, WORST, BACKGROUND, MISSED = 3, 5, 2, 2


def percent(value: float) -> str:
    """As tables show it; a dash where there is nothing to measure."""
    return f'{100 * value:.1f}' if np.isfinite(value) else '-'


def _signed(difference: float) -> str:
    return f'{round(100 * difference, 1) + 0.0:+.1f}' if np.isfinite(difference) else '-'


def oks_sections(
    evaluation: Evaluation,
    names: Sequence[str],
    joint_names: Sequence[str],
    flip_pairs: Sequence[Sequence[int]],
) -> tuple[list[str], list[Case]]:
    """Sections of html, and people to show. names: of the images, in the order of evaluation.ground_truth.image_ids"""
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
    lines = {f'OKS {t:g}: AP {percent(precision[row].mean())}': precision[row] for t, row in zip(CURVES, rows)}
    text = 'How pure the detections are when so many people are found. A line drops where no more are.'
    lines = {name: np.nan_to_num(line) for name, line in lines.items()}
    return page.section('Precision and recall', text, page.curves(RECALLS.tolist(), lines, ('recall', 'precision')))


def _errors(tallied: Tally, changed: dict[str, Tally], diagnosis: Diagnosis) -> str:
    """The table of kinds: how many there are, and what each costs."""
    known = diagnosis.kinds[diagnosis.kinds != UNKNOWN]
    counts = {KINDS[kind]: f'{(known == kind).sum():,} joints' for kind in (JITTER, INVERSION, SWAP, MISS)}
    matched = int((diagnosis.person >= 0).sum())
    counts |= {'score': f'{matched:,} detections', 'background': f'{diagnosis.background.sum():,} detections'}
    joint_shares = {KINDS[kind]: percent((known == kind).mean() if len(known) else np.nan) + ' %' for kind in range(5)}

    def scores(precision: np.ndarray) -> list[float]:
        return [precision.mean(), precision[0].mean(), precision[AT_75].mean()]

    before, rows, given = scores(tallied.precision()), [], {}
    for name, other in changed.items():
        after = scores(other.precision())
        given[name] = 100 * np.nan_to_num(after[0] - before[0])
        gains = [_signed(b - a) for a, b in zip(before, after)]
        rows.append([name, counts[name], joint_shares.get(name, ''), percent(after[0]), *gains])
    text = (
        'Kinds of error of Ronchi and Perona (ICCV 2017), each corrected alone. A labelled joint of a detection that '
        f'found a person (at OKS {MATCHED_OKS:g}) is good from a similarity of .85 on, jitters from .5 on; else it '
        'is an inversion where it lies near its mirror joint, a swap near a joint of another person, or a miss. '
        'Corrected, joints lie at their true places; scores sort the matched detections by OKS; background detections, '
        f'which found nobody, are gone. {joint_shares["good"]} of the joints are good; '
        f'people whom no detection found: {diagnosis.missed.sum():,}.'
    )
    head = ('error', 'how many', 'of joints', 'AP if corrected', 'gain in AP', 'AP50', 'AP75')
    return page.section('Kinds of error', text, page.bars(given, 'AP'), page.table(head, rows))


def _joints(evaluation: Evaluation, diagnosis: Diagnosis, joint_names: Sequence[str]) -> str:
    """For each joint its kinds of error, and how far off it is."""
    ground_truth, found = evaluation.ground_truth, np.flatnonzero(diagnosis.person >= 0)
    people = diagnosis.person[found]
    offsets = evaluation.detections.keypoints[found] - ground_truth.keypoints[people, :, :2]
    errors = np.linalg.norm(offsets, axis=2) / np.sqrt(ground_truth.area[people] + np.spacing(1))[:, None]
    bars, rows = {}, []
    for joint, name in enumerate(joint_names):
        kinds = diagnosis.kinds[found, joint]
        known = kinds != UNKNOWN
        counts = np.bincount(kinds[known], minlength=len(KINDS))
        bars[name] = counts / max(counts.sum(), 1)
        own = errors[known, joint]
        quantiles = [percent(value) for value in np.quantile(own, [0.5, 0.9])] if len(own) else ['-', '-']
        rows.append([name, f'{len(own):,}', *quantiles, *(percent(share) for share in bars[name])])
    text = (
        'Labelled joints of the people that were found. Distances are in per cent of the size of the person, the '
        'root of the annotated area.'
    )
    head = ('joint', 'labelled', 'median error', '90 % are within', *(f'{kind} %' for kind in KINDS))
    colors = (page.COLORS[1], page.COLORS[0], page.COLORS[2], page.COLORS[3], page.COLORS[4])
    return page.section('Joints', text, page.shares(bars, KINDS, colors), page.table(head, rows))


def _groups(evaluation: Evaluation) -> str:
    tables = []
    for title, groups in (
        ('size (root of area)', breakdown.by_size(evaluation)),
        ('labelled joints', breakdown.by_joints(evaluation)),
        ('others in the way', breakdown.by_crowding(evaluation)),
    ):
        rows = [[g.name, f'{g.people:,}', percent(g.ap), percent(g.ap50), percent(g.ar)] for g in groups]
        tables.append(page.table((title, 'people', 'AP', 'AP50', 'AR'), rows))
    text = (
        'Of a group only its people are to be found; finding others is no mistake. Detections of nobody count in '
        'every group, but for those of size, so AP falls with the size of a group: compare it between runs, and AR '
        'between groups too. Others in the way: people whose boxes overlap with an intersection over union of '
        f'{breakdown.OVERLAP:g} and more.'
    )
    return page.section('People', text, page.beside(*tables))


def _cases(
    evaluation: Evaluation, diagnosis: Diagnosis, joint_names: Sequence[str], names: Sequence[str]
) -> Iterator[Case]:
    """The worst and the best: of the people found, with half of their joints labelled; of nobody; of those not found.

    Worst is where the score promised most of what OKS lacks.
    """
    ground_truth, detections = evaluation.ground_truth, evaluation.detections
    labelled = (diagnosis.kinds != UNKNOWN).sum(axis=1)
    fit = np.flatnonzero(2 * labelled >= len(joint_names))
    regret = detections.scores[fit] * (1 - diagnosis.oks[fit])
    best = fit[np.argsort(-diagnosis.oks[fit], kind='stable')][: min(BEST, len(fit) // 2)]
    worst = [i for i in fit[np.argsort(-regret, kind='stable')][:WORST] if i not in best]
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
        yield Case(image, None, detections.keypoints[index], 'Found nobody', caption)
    missed = np.flatnonzero(diagnosis.missed & ground_truth.labelled.any(axis=1))
    for person in missed[np.argsort(-ground_truth.area[missed], kind='stable')][:MISSED]:
        image = names[ground_truth.image[person]]
        caption = f'{image}: {ground_truth.labelled[person].sum()} labelled joints'
        yield Case(image, ground_truth.keypoints[person], None, 'Not found', caption)
