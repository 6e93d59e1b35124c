"""PCKh by person and joint (Andriluka et al., CVPR 2014), in MPII's files."""

from pathlib import Path

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.mpii import HEAD_SIZE_FACTOR, NOT_IN_MEAN
from lib.datasets.mpii_json import read_ground_truth

# Joints that count in the mean.
COUNTED = np.isin(np.arange(16), NOT_IN_MEAN, invert=True)


def read_people(path: Path) -> tuple[list[str], np.ndarray]:
    """Of a results.json for MPII: the people's images, and joints (n, 16, 2) in image pixels from 0.

    Raises InputError for another file.
    """
    rows = read_json(path, 'test again')
    try:
        names = [str(row['image']) for row in rows]
        keypoints = np.array([row['keypoints'] for row in rows], np.float64).reshape(len(rows), len(COUNTED), 3)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise InputError(f'{path} is no result for MPII: test again') from None
    return names, keypoints[..., :2]


def head_errors(keypoints: np.ndarray, mat_path: Path) -> np.ndarray:
    """(n, 16) distances to the truth in head sizes; NaN where the joint is not labelled.

    keypoints (n, 16, 2) in image pixels from 0; mat_path: valid.mat, of the same people in the same order. Raises
    InputError for another file.
    """
    ground_truth = read_ground_truth(mat_path, len(keypoints))
    places = ground_truth['pos_gt_src'].transpose(2, 0, 1) - 1
    corners = ground_truth['headboxes_src']
    sizes = HEAD_SIZE_FACTOR * np.linalg.norm(corners[1] - corners[0], axis=0)
    errors = np.linalg.norm(keypoints - places, axis=2) / sizes[:, None]
    return np.where(ground_truth['jnt_missing'].T == 1, np.nan, errors)


def true_joints(mat_path: Path, people: int) -> np.ndarray:
    """(n, 16, 3): x, y in image pixels from 0, and 1 for a labelled joint, else 0."""
    ground_truth = read_ground_truth(mat_path, people)
    return np.dstack([ground_truth['pos_gt_src'].transpose(2, 0, 1) - 1, 1 - ground_truth['jnt_missing'].T])
