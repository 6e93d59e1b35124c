"""Reads and checks MPII's json files and valid.mat. Pixels are counted from 1, as in the files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from cvpack.errors import InputError
from lib.datasets.checks import Issue, Report, Rows, refuse, shown

# A test person's position in the official annotations, from 1; 0 if the json file was not made from them.
INDICES = ('image_index', 'person_index')
GROUND_TRUTH = 'gt_json/valid.mat'
# In valid.mat: (16, n) 0 or 1, (16, 2, n) in pixels from 1, (2, 2, n) corners, in the order of valid.json.
GROUND_TRUTH_FIELDS = ('jnt_missing', 'pos_gt_src', 'headboxes_src')


@dataclass
class People:
    """The people of a json file, in the file's order.

    names:      of their images
    center:     (n, 2) float64, x and y in image pixels from 1; x is -1 if the file does not give it
    scale:      (n,) float64, height in units of 200 image pixels
    joints:     (n, K, 2) float64, in image pixels from 1
    visibility: (n, K) float64: 0 or 1
    ids:        (n, 2) int64: INDICES
    rows:       their records
    """

    names: list[str]
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray
    visibility: np.ndarray
    ids: np.ndarray
    rows: Rows


def read_people(
    content: Any, path: Path, joints: int, labelled: bool, report: Report = refuse, folder: Path | None = None
) -> People:
    """The people whose records are valid; `report` receives the faults of the others (`refuse` raises InputError).

    content:  of the file at `path`
    joints:   K
    labelled: everybody must have joints, unlike in the test set
    folder:   of the images, if known: a name without a file there is refused if its form shows why
    """
    rows = Rows(content, 'person', path, report)
    names, center, scale = rows.names('image', folder), rows.numeric('center', 2), rows.numeric('scale')
    rows.require(scale > 0, 'scale', Issue.BOX, lambda i: f'scale = {shown(rows.rows[i]["scale"])} should be above 0')
    nowhere = None if labelled else [[0, 0]] * joints
    unseen = None if labelled else [0] * joints
    positions = rows.numeric('joints', joints, 2, default=nowhere, length=Issue.JOINTS)
    visibility = rows.numeric('joints_vis', joints, default=unseen, length=Issue.JOINTS)
    known = np.isin(visibility, (0, 1)).all(axis=1)
    rows.require(known, 'joints_vis', Issue.FIELD, lambda i: 'joints_vis has a value that is neither 0 nor 1')
    ids = np.stack([rows.integer(name, default=0) for name in INDICES], axis=1)
    good = rows.good
    if not good.any() or (labelled and not visibility[good].any()):
        report(Issue.NOBODY, f'{path} lists no people with joints: take another file')
    names = [name for name, fit in zip(names, good) if fit]
    return People(names, center[good], scale[good], positions[good], visibility[good], ids[good], rows.only(good))


@dataclass
class MpiiGroundTruth:
    """The ground truth of MPII's evaluation, in the order of valid.json.

    joints:     (n, 16, 2) float64, in image pixels from 1
    labelled:   (n, 16) bool
    head_boxes: (n, 2, 2) float64, two corners, x and y in image pixels
    """

    joints: np.ndarray
    labelled: np.ndarray
    head_boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.joints)

    def select(self, chosen: np.ndarray) -> 'MpiiGroundTruth':
        """Selects people by a mask (n,) or by indices."""
        return MpiiGroundTruth(self.joints[chosen], self.labelled[chosen], self.head_boxes[chosen])


def read_ground_truth(path: Path, people: int) -> MpiiGroundTruth:
    """The content of valid.mat. people: n, as in valid.json. Raises InputError for another file."""
    try:
        contents = scipy.io.loadmat(path)
        missing, joints, heads = (np.asarray(contents[name], np.float64) for name in GROUND_TRUTH_FIELDS)
        counts = {field.shape[-1] for field in (missing, joints, heads)}
        if len(counts) > 1:
            raise ValueError(f'its fields are of {counts} people')
        ground_truth = MpiiGroundTruth(joints.transpose(2, 0, 1), missing.T == 0, heads.transpose(2, 0, 1))
    except Exception as error:  # scipy raises all kinds of exceptions for a damaged file
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise InputError(f'{path} is no MPII ground truth ({reason}): get it again') from None
    if counts != {people}:
        raise InputError(f'{path} has {counts.pop()} people, but valid.json has {people}: take both from one split')
    return ground_truth
