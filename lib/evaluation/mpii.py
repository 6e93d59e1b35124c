"""Evaluation on MPII with PCKh, the sections of its report, and the file for its server."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from cvpack.errors import InputError
from cvpack.files import atomic_write, read_json, sha256
from lib.datasets.description import Description
from lib.datasets.mpii import MpiiTestSet
from lib.datasets.mpii_json import INDICES, read_ground_truth
from lib.datasets.records import select
from lib.evaluation import page
from lib.evaluation.cases import Case
from lib.evaluation.evaluator import Evaluator, Resampled, ResultRows, evenly_spaced
from lib.evaluation.nms import PUBLISHED, Scoring
from lib.evaluation.pckh import COUNTED, METRICS, THRESHOLD, head_errors, pckh, pckh_metrics
from lib.evaluation.submission import check_mpii

SUBMISSION = 'pred_keypoints_mpii.mat'
BEST, WORST = 4, 8  # how many cases of each
REPORTED_THRESHOLDS = (0.1, 0.2, THRESHOLD)


class MpiiEvaluator(Evaluator):
    """PCKh. A row of results.json is a person: the image and K rows (x, y, score) in pixels counted from 0."""

    main_metrics = ('Mean', 'Mean@0.1')

    def __init__(self, dataset: Description, test_set: MpiiTestSet) -> None:
        super().__init__(dataset, test_set)
        self.test_set: MpiiTestSet = test_set

    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> ResultRows:
        """MPII wants all people, without instance scores: `scoring` is not used."""
        people = np.concatenate([keypoints, scores], axis=2).tolist()
        return [{'image': path.decode(), 'keypoints': row} for path, row in zip(self.records.paths, people)]

    def write(self, rows: ResultRows, folder: Path) -> Path:
        """Also writes pred_keypoints_mpii.mat: a struct array `pred` with, for each person, the image, the indices in
        the official annotations (0 where the json file lacks them) and structs `point`, pixels counted from 1.
        """
        keypoints = _keypoints(rows, len(self.dataset.joint_names))
        # A structured array becomes a MATLAB struct array; a list of dictionaries would become a cell array.
        points = np.zeros(keypoints.shape[:2], [('id', 'O'), ('x', 'O'), ('y', 'O')])
        points['id'] = np.arange(keypoints.shape[1])
        points['x'], points['y'] = keypoints[..., 0] + 1, keypoints[..., 1] + 1
        people = np.zeros(len(rows), [(name, 'O') for name in ('image', *INDICES, 'point')])
        for person, row, ids, joints in zip(people, rows, self.records.ids, points):
            person['image'], person['point'] = row['image'], joints
            person[INDICES[0]], person[INDICES[1]] = ids.tolist()
        path = super().write(rows, folder)
        with atomic_write(folder / SUBMISSION) as file:
            scipy.io.savemat(file, {'pred': people})
        return path

    def evaluate(self, rows: ResultRows) -> dict[str, float] | None:
        ground_truth = self.test_set.ground_truth
        if ground_truth is None:
            return None
        joints = len(self.dataset.joint_names)
        if joints != len(COUNTED):
            raise InputError(
                f'{self.test_set.ground_truth_file} has {len(COUNTED)} joints, DATASET.KEYPOINT.NAMES {joints}: '
                'move the file away to test without metrics'
            )
        metrics = pckh(head_errors(_keypoints(rows), ground_truth))
        return {name: -1.0 if np.isnan(value) else value for name, value in metrics.items()}

    def check_submission(self, results: Path) -> list[str]:
        return check_mpii(results.parent / SUBMISSION, len(self.dataset.joint_names), len(self.records))

    def sections(self, rows: ResultRows) -> tuple[list[str], list[Case]]:
        ground_truth, keypoints = self.test_set.ground_truth, _keypoints(rows)
        assert ground_truth is not None
        errors = head_errors(keypoints, ground_truth)
        joints = np.dstack([ground_truth.joints - 1, ground_truth.labelled])
        cases = _cases(errors, keypoints, joints, [row['image'] for row in rows])
        return [_joints_section(errors, self.dataset.joint_names)], list(cases)

    def people(self) -> dict[str, np.ndarray]:
        people: dict[str, list] = {}
        for path, joints, visibility in zip(self.records.paths, *self.records.labels):
            people.setdefault(path.decode(), []).append(np.column_stack([joints, visibility]))
        return {name: np.stack(rows) for name, rows in people.items()}

    def subset(self, images: int) -> 'MpiiEvaluator':
        paths = np.unique(self.records.paths)
        chosen = np.isin(self.records.paths, paths[evenly_spaced(images, len(paths))])
        records, ground_truth = select(self.records, chosen), self.test_set.ground_truth
        ground_truth = None if ground_truth is None else ground_truth.select(chosen)
        test_set = dataclasses.replace(self.test_set, records=records, ground_truth=ground_truth)
        return MpiiEvaluator(self.dataset, test_set)

    @classmethod
    def resampled(cls, path: Path, content: dict[str, Any], ground_truth: Path, results: Path) -> Resampled:
        rows = read_json(results, 'run the test again')
        try:
            names = [str(row['image']) for row in rows]
            keypoints = _keypoints(rows)
        except (TypeError, KeyError, ValueError, OverflowError):
            raise InputError(f'{results} is not a results file for MPII: run the test again') from None
        images, image = np.unique(names, return_inverse=True)
        errors = head_errors(keypoints, read_ground_truth(ground_truth, len(rows)))
        metrics = pckh_metrics(errors, image, len(images))
        return Resampled(METRICS, metrics, images.tolist(), (sha256(ground_truth),))


def _keypoints(rows: ResultRows, joints: int = len(COUNTED)) -> np.ndarray:
    """(n, joints, 2) float64: x and y in image pixels counted from 0."""
    keypoints = np.array([row['keypoints'] for row in rows], np.float64)
    return keypoints.reshape(len(rows), joints, 3)[..., :2]


def _joints_section(errors: np.ndarray, joint_names: Sequence[str]) -> str:
    rows = []
    for name, column in zip(joint_names, errors.T):
        own = column[np.isfinite(column)]
        quantiles = [f'{value:.3f}' for value in np.quantile(own, [0.5, 0.9])] if len(own) else ['-', '-']
        ratios = [f'{100 * (own <= limit).mean():.1f}' if len(own) else '-' for limit in REPORTED_THRESHOLDS]
        rows.append([name, f'{len(own):,}', *quantiles, *ratios])
    columns = [f'PCKh@{limit:g}' for limit in REPORTED_THRESHOLDS]
    head = ('joint', 'labelled', 'median error', '90 % are within', *columns)
    return page.section('Joints', 'Errors are distances in head sizes.', page.table(head, rows))


def _cases(errors: np.ndarray, keypoints: np.ndarray, ground_truth: np.ndarray, names: Sequence[str]) -> Iterator[Case]:
    """The people with the largest and smallest mean error, of those with half of their joints labelled."""
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
