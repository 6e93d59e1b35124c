"""What a report says of MPII, whose measure is PCKh: joints and cases."""

from collections.abc import Iterator, Sequence

import numpy as np

from lib.datasets.mpii_json import MpiiGroundTruth
from lib.evaluation import page
from lib.evaluation.cases import Case
from lib.evaluation.pckh import THRESHOLD, head_errors

BEST, WORST = 4, 8
# Ratios of joints within so many head sizes.
WITHIN = (0.1, 0.2, THRESHOLD)


def pckh_sections(
    ground_truth: MpiiGroundTruth, keypoints: np.ndarray, names: Sequence[str], joint_names: Sequence[str]
) -> tuple[list[str], list[Case]]:
    """Sections of html, and people to show.

    keypoints: (n, 16, 2) in image pixels counted from 0, of the same people; names: of their images
    """
    errors = head_errors(keypoints, ground_truth)
    joints = np.dstack([ground_truth.joints - 1, ground_truth.labelled])
    return [_joints(errors, joint_names)], list(_cases(errors, keypoints, joints, names))


def _joints(errors: np.ndarray, joint_names: Sequence[str]) -> str:
    rows = []
    for name, column in zip(joint_names, errors.T):
        own = column[np.isfinite(column)]
        quantiles = [f'{value:.3f}' for value in np.quantile(own, [0.5, 0.9])] if len(own) else ['-', '-']
        ratios = [f'{100 * (own <= most).mean():.1f}' if len(own) else '-' for most in WITHIN]
        rows.append([name, f'{len(own):,}', *quantiles, *ratios])
    head = ('joint', 'labelled', 'median error', '90 % are within', *(f'PCKh@{most:g}' for most in WITHIN))
    return page.section('Joints', 'Distances are in head sizes.', page.table(head, rows))


def _cases(errors: np.ndarray, keypoints: np.ndarray, ground_truth: np.ndarray, names: Sequence[str]) -> Iterator[Case]:
    """The people with the largest and the smallest mean error, of those with half of their joints labelled."""
    known = np.isfinite(errors)
    fit = np.flatnonzero(2 * known.sum(axis=1) >= errors.shape[1])
    mean = np.nansum(errors[fit], axis=1) / known[fit].sum(axis=1)
    order = np.argsort(mean, kind='stable')
    best = order[: min(BEST, len(order) // 2)]
    worst = [i for i in order[::-1][:WORST] if i not in best]
    for title, indices in (('Worst', worst), ('Best', best)):
        for i in indices:
            index = fit[i]
            caption = f'{names[index]}: mean error {mean[i]:.2f} head sizes'
            yield Case(names[index], ground_truth[index], keypoints[index], title, caption)
