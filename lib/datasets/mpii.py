"""MPII human pose, single person: people, evaluation; MPII's own facts."""

import json
from pathlib import Path

import numpy as np
import scipy.io

from cvpack.files import read_json
from lib.datasets.coco import PREPARE
from lib.datasets.description import Description
from lib.datasets.joints import Records, pack_paths
from lib.datasets.mpii_json import INDICES, read_ground_truth, read_people
from lib.evaluation.nms import Scoring
from lib.evaluation.submission import check_mpii

# MPII counts a joint as visible or not; the loss knows three values.
VISIBLE = 2
# The annotated centre lies high on the body; it moves down by so many pixels for a scale of 1.
CENTER_SHIFT = 15
GROUND_TRUTH = 'gt_json/valid.mat'
SUBMISSION = 'pred_keypoints_mpii.mat'

METRICS = {
    'Head': (9,),
    'Shoulder': (12, 13),
    'Elbow': (11, 14),
    'Wrist': (10, 15),
    'Hip': (2, 3),
    'Knee': (1, 4),
    'Ankle': (0, 5),
}
# Pelvis and thorax do not count in the mean.
NOT_IN_MEAN = (6, 7)
HEAD_SIZE_FACTOR = 0.6
THRESHOLD = 0.5
# What the field calls Mean@0.1 is entry 11 of the thresholds 0, 0.01, ..., 0.5.
STRICT_THRESHOLD = 0.11


def _records(dataset: Description, split: str) -> Records:
    """The people of a split. MPII's coordinates count from 1; ours from 0."""
    path = dataset.annotations(split)
    joints, folder = len(dataset.joint_names), dataset.image_folder(split)
    people = read_people(read_json(path, PREPARE), path, joints, labelled=split != 'test', folder=folder)
    scale, center = people.scale.astype(np.float32), people.center.astype(np.float32)
    located = center[:, 0] != -1
    center[located, 1] += CENTER_SHIFT * scale[located]
    return Records(
        root=folder,
        paths=pack_paths(people.names),
        center=center - 1,
        scale=np.stack([scale, scale], axis=1),
        joints=people.joints.astype(np.float32) - 1,
        visibility=people.visibility.astype(np.float32) * VISIBLE,
        ids=people.ids,
        boxes_from='annotation',
    )


def train_records(dataset: Description, min_keypoints: int) -> Records:
    """The people to train on; MPII lists none without joints, so `min_keypoints` leaves nobody out.

    Raises InputError for an unfit file.
    """
    return _records(dataset, 'train')


def test_records(dataset: Description, split: str, gt_boxes: bool) -> Records:
    """The people to test. split: 'val' or 'test'. MPII gives the position and size of all, so `gt_boxes` is moot.

    Raises InputError for an unfit file, also for a ground truth that is not theirs.
    """
    records = _records(dataset, split)
    if split == 'val' and (dataset.root / GROUND_TRUTH).is_file():
        read_ground_truth(dataset.root / GROUND_TRUTH, len(records))
    return records


def check_validation(dataset: Description) -> None:
    """Raises InputError for a validation set that a test would refuse."""
    test_records(dataset, 'val', gt_boxes=False)


def write_results(
    records: Records, keypoints: np.ndarray, scores: np.ndarray, folder: Path, scoring: Scoring | None = None
) -> Path:
    """Writes the predictions and returns the path of the first of two files.

    results.json: per person the image and K rows (x, y, score), pixels counted from 0
    pred_keypoints_mpii.mat: for the benchmark: a struct array `pred`, a person each, with the image, the person's
                             place in the official annotations (0 where the json file does not tell) and
                             `point` structs, pixels counted from 1

    keypoints (n, K, 2) in image pixels, scores (n, K, 1)
    scoring: of the COCO format; people of MPII have no scores, and all of them are asked for
    """
    rows = np.concatenate([keypoints, scores], axis=2)
    names = [path.decode() for path in records.paths]
    path = folder / 'results.json'
    path.write_text(json.dumps([{'image': name, 'keypoints': row.tolist()} for name, row in zip(names, rows)]))

    # Only a field of a structured array is a MATLAB struct; a list of dictionaries would be a cell.
    points = np.zeros(keypoints.shape[:2], [('id', 'O'), ('x', 'O'), ('y', 'O')])
    points['id'] = np.arange(keypoints.shape[1])
    points['x'], points['y'] = keypoints[..., 0] + 1, keypoints[..., 1] + 1
    people = np.zeros(len(records), [(name, 'O') for name in ('image', *INDICES, 'point')])
    for person, name, ids, own in zip(people, names, records.ids, points):
        person['image'], person['point'] = name, own
        person[INDICES[0]], person[INDICES[1]] = ids.tolist()
    scipy.io.savemat(folder / SUBMISSION, {'pred': people})
    return path


def ground_truth_file(dataset: Description, split: str) -> Path:
    """What a split is evaluated against."""
    return dataset.root / GROUND_TRUTH


def check_submission(dataset: Description, results: Path, records: Records) -> list[str]:
    """Raises InputError where the file beside results.json would be refused; returns remarks on one that is taken."""
    return check_mpii(results.parent / SUBMISSION, len(dataset.joint_names), len(records))


def evaluate(dataset: Description, split: str, results: Path, records: Records) -> dict[str, float] | None:
    """PCKh of the records' results.json, in per cent; None where there is no truth to hold it against."""
    ground_truth = dataset.root / GROUND_TRUTH
    if split == 'test' or not ground_truth.is_file():
        return None
    return pckh(np.array([person['keypoints'] for person in json.loads(results.read_text())]), ground_truth)


def pckh(predictions: np.ndarray, mat_path: Path) -> dict[str, float]:
    """PCKh (Andriluka et al., CVPR 2014): the share of joints, in per cent, within half a head's size of the truth.

    predictions: (n, 16, 3), x, y (image pixels counted from 0) and a score that is not used
    mat_path:    valid.mat, of the same n people in the same order

    Returns Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle, Mean and Mean@0.1. Raises InputError for another file.
    """
    ground_truth = read_ground_truth(mat_path, len(predictions))
    present = 1 - ground_truth['jnt_missing']  # (16, n)
    predicted = predictions[..., :2].transpose(1, 2, 0) + 1
    errors = np.linalg.norm(predicted - ground_truth['pos_gt_src'], axis=1)
    corners = ground_truth['headboxes_src']
    head_sizes = HEAD_SIZE_FACTOR * np.linalg.norm(corners[1] - corners[0], axis=0)

    counts = present.sum(axis=1)
    weights = counts.copy()
    weights[list(NOT_IN_MEAN)] = 0

    def per_joint(threshold: float) -> np.ndarray:
        return 100 * ((errors / head_sizes <= threshold) * present).sum(axis=1) / np.maximum(counts, 1)

    shares = per_joint(THRESHOLD)
    figures = {name: float(shares[list(joints)].mean()) for name, joints in METRICS.items()}
    figures['Mean'] = float(np.average(shares, weights=weights))
    figures['Mean@0.1'] = float(np.average(per_joint(STRICT_THRESHOLD), weights=weights))
    return figures


def ground_truth(dataset: Description, split: str) -> dict[str, np.ndarray]:
    """The people of every test image: path in `images` -> (people, K, 3), x, y, visibility."""
    records = _records(dataset, split)
    people: dict[str, list] = {}
    for name, joints, visibility in zip(records.paths.tolist(), records.joints, records.visibility):
        people.setdefault(name.decode(), []).append(np.column_stack([joints, visibility]))
    return {name: np.stack(rows) for name, rows in people.items()}


def format_metrics(metrics: dict[str, float]) -> dict[str, str]:
    """The figures as papers print them: per cent, one decimal."""
    return {name: f'{value:.1f}' for name, value in metrics.items()}
