"""The official MPII annotations, mpii_human_pose_v1_u12_1.mat: people, their json records, and valid.mat.

Coordinates stay as in the .mat: image pixels counted from 1.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, savemat
from scipy.io.matlab import mat_struct

from cvpack.errors import InputError

ADDRESS = 'http://human-pose.mpi-inf.mpg.de'
MATRIX = 'mpii_human_pose_v1_u12_1.mat'
# The evaluation's names of joints 0 to 15.
EVALUATION_NAMES = (
    ('rank', 'rkne', 'rhip', 'lhip', 'lkne', 'lank', 'pelv', 'thor')
    + ('neck', 'head', 'rwri', 'relb', 'rsho', 'lsho', 'lelb', 'lwri')
)  # fmt: skip
JOINTS = len(EVALUATION_NAMES)
HEAD_BOX = ('x1', 'y1', 'x2', 'y2')


@dataclass(frozen=True)
class Person:
    """One annotated person; center, scale and head_box are None where they are not annotated.

    image_index, person_index: positions in annolist and annorect, from 1, which the official test submission needs
    center:   (x, y)
    scale:    the person's height / 200 pixels
    joints:   id -> (x, y) of the annotated joints
    head_box: (x1, y1, x2, y2)
    """

    image: str
    training: bool
    image_index: int
    person_index: int
    center: list[float] | None
    scale: float | None
    joints: dict[int, list[float]]
    head_box: list[float] | None

    @property
    def located(self) -> bool:
        """Whether the person has a centre and a scale."""
        return self.center is not None and self.scale is not None

    def record(self) -> dict[str, Any]:
        """The json record. A joint that is not annotated is [-1, -1] with visibility 0; the others have 1."""
        return {
            'image': self.image,
            'center': self.center,
            'scale': self.scale,
            'joints': [self.joints.get(i, [-1.0, -1.0]) for i in range(JOINTS)],
            'joints_vis': [int(i in self.joints) for i in range(JOINTS)],
        }

    def test_record(self) -> dict[str, Any]:
        """The json record of a test person: no joints, but the indices for the submission."""
        unlabelled = {'joints': [[0.0, 0.0]] * JOINTS, 'joints_vis': [0] * JOINTS}
        return self.record() | unlabelled | {'image_index': self.image_index, 'person_index': self.person_index}


def read_people(path: Path) -> list[Person]:
    """All people in the official .mat, image by image. Raises InputError if it is another file."""
    try:
        release = loadmat(path, struct_as_record=False, squeeze_me=True)['RELEASE']
        images, training = _structs(release.annolist), np.atleast_1d(release.img_train)
        if len(images) != len(training):
            raise ValueError(f'{len(images)} images, but img_train has {len(training)} entries')
        return [
            _person(rectangle, str(image.image.name), bool(train), image_index, person_index)
            for image_index, (image, train) in enumerate(zip(images, training), start=1)
            for person_index, rectangle in enumerate(_structs(getattr(image, 'annorect', None)), start=1)
        ]
    except OSError:
        raise
    except Exception as error:  # scipy raises all kinds of exceptions for a damaged file
        reason = f'{type(error).__name__}: {error}'
        raise InputError(
            f'{path} is not the official MPII annotation file ({reason}): get {MATRIX} from {ADDRESS}'
        ) from error


def evaluation_mat(people: Sequence[Person]) -> bytes:
    """The content of valid.mat for people with head boxes, in their order.

    dataset_joints (1, 16) names; jnt_missing (16, n) 0 or 1; pos_gt_src (16, 2, n) joints, 0 where missing;
    headboxes_src (2, 2, n) with the rows (x1, y1), (x2, y2).
    """
    missing = np.ones((JOINTS, len(people)), np.uint8)
    joints = np.zeros((JOINTS, 2, len(people)))
    for column, person in enumerate(people):
        for joint, position in person.joints.items():
            missing[joint, column] = 0
            joints[joint, :, column] = position
    head_boxes = np.array([person.head_box for person in people], np.float64).reshape(-1, 2, 2)
    contents = {
        'dataset_joints': np.array(EVALUATION_NAMES, dtype=object)[None],
        'jnt_missing': missing,
        'pos_gt_src': joints,
        'headboxes_src': head_boxes.transpose(1, 2, 0),
    }
    buffer = io.BytesIO()
    savemat(buffer, contents)
    # scipy writes the time into the first 116 bytes, which are free text; equal input should give equal files.
    return b'MATLAB 5.0 MAT-file'.ljust(116) + buffer.getvalue()[116:]


def _person(rectangle: mat_struct, image: str, training: bool, image_index: int, person_index: int) -> Person:
    joints = {}
    for point in _structs(getattr(getattr(rectangle, 'annopoints', None), 'point', None)):
        joint, position = _numbers(point, 'id'), _numbers(point, 'x', 'y')
        if joint is None or position is None:
            continue
        if joint[0] not in range(JOINTS):
            raise ValueError(f'{image} has a joint with id {joint[0]:g}')
        joints[int(joint[0])] = position
    center, scale = _numbers(getattr(rectangle, 'objpos', None), 'x', 'y'), _numbers(rectangle, 'scale')
    head_box = _numbers(rectangle, *HEAD_BOX)
    return Person(image, training, image_index, person_index, center, scale[0] if scale else None, joints, head_box)


def _structs(value: Any) -> list[mat_struct]:
    """A MATLAB struct array as a list; loadmat returns one struct for one element, an empty array for none."""
    return [item for item in np.atleast_1d(value).flat if isinstance(item, mat_struct)]


def _numbers(struct: Any, *names: str) -> list[float] | None:
    """The named fields as floats; None if one is missing, empty, or not a single number."""
    values = [np.asarray(getattr(struct, name, None)) for name in names]
    if any(value.size != 1 or value.dtype.kind not in 'fiu' for value in values):
        return None
    return [float(value.item()) for value in values]
