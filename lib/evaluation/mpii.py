"""The evaluation of MPII by PCKh, and the file for its benchmark."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from cvpack.errors import InputError
from cvpack.files import read_json, sha256
from lib.datasets.description import Description
from lib.datasets.mpii import MpiiTestSet
from lib.datasets.mpii_json import INDICES, read_ground_truth
from lib.datasets.records import select
from lib.evaluation.cases import Case
from lib.evaluation.evaluator import Evaluator, Resampled, Rows, evenly_spaced
from lib.evaluation.nms import PUBLISHED, Scoring
from lib.evaluation.pckh import COUNTED, METRICS, head_errors, pckh_metrics, pckh_of
from lib.evaluation.pckh_sections import pckh_sections
from lib.evaluation.submission import check_mpii

SUBMISSION = 'pred_keypoints_mpii.mat'


class MpiiEvaluator(Evaluator):
    """PCKh. A row of results.json is a person: the image and K rows (x, y, score), pixels counted from 0."""

    main_metrics = ('Mean', 'Mean@0.1')

    def __init__(self, dataset: Description, test_set: MpiiTestSet) -> None:
        super().__init__(dataset, test_set)
        self.test_set: MpiiTestSet = test_set

    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> Rows:
        """People of MPII have no scores, and all of them are asked for: `scoring` is moot."""
        people = np.concatenate([keypoints, scores], axis=2).tolist()
        return [{'image': path.decode(), 'keypoints': row} for path, row in zip(self.records.paths, people)]

    def write(self, rows: Rows, folder: Path) -> Path:
        """Also writes pred_keypoints_mpii.mat: a struct array `pred`, a person each, with the image, the person's place
        in the official annotations (0 where the json file does not tell) and `point` structs, pixels counted from 1.
        """
        keypoints = _keypoints(rows)
        # Only a field of a structured array is a MATLAB struct; a list of dictionaries would be a cell.
        points = np.zeros(keypoints.shape[:2], [('id', 'O'), ('x', 'O'), ('y', 'O')])
        points['id'] = np.arange(keypoints.shape[1])
        points['x'], points['y'] = keypoints[..., 0] + 1, keypoints[..., 1] + 1
        people = np.zeros(len(rows), [(name, 'O') for name in ('image', *INDICES, 'point')])
        for person, row, ids, own in zip(people, rows, self.records.ids, points):
            person['image'], person['point'] = row['image'], own
            person[INDICES[0]], person[INDICES[1]] = ids.tolist()
        path = super().write(rows, folder)
        scipy.io.savemat(folder / SUBMISSION, {'pred': people})
        return path

    def evaluate(self, rows: Rows) -> dict[str, float] | None:
        ground_truth = self.test_set.ground_truth
        if ground_truth is None:
            return None
        metrics = pckh_of(head_errors(_keypoints(rows), ground_truth))
        return {name: -1.0 if np.isnan(value) else value for name, value in metrics.items()}

    def check_submission(self, results: Path) -> list[str]:
        return check_mpii(results.parent / SUBMISSION, len(self.dataset.joint_names), len(self.records))

    def sections(self, rows: Rows) -> tuple[list[str], list[Case]]:
        assert self.test_set.ground_truth is not None
        names = [row['image'] for row in rows]
        assert self.test_set.ground_truth is not None
        return pckh_sections(self.test_set.ground_truth, _keypoints(rows), names, self.dataset.joint_names)

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
        rows = read_json(results, 'test again')
        try:
            names = [str(row['image']) for row in rows]
            keypoints = _keypoints(rows)
        except (TypeError, KeyError, ValueError, OverflowError):
            raise InputError(f'{results} is no result for MPII: test again') from None
        images, image = np.unique(names, return_inverse=True)
        errors = head_errors(keypoints, read_ground_truth(ground_truth, len(rows)))
        metrics = pckh_metrics(errors, image, len(images))
        return Resampled(METRICS, metrics, images.tolist(), (sha256(ground_truth),))


def _keypoints(rows: Rows) -> np.ndarray:
    """(n, 16, 2) float64: x and y in image pixels counted from 0."""
    keypoints = np.array([row['keypoints'] for row in rows], np.float64)
    return keypoints.reshape(len(rows), len(COUNTED), 3)[..., :2]
