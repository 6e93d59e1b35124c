"""The description of a data set: its joints and its files. COCO's and MPII's; an experiment may have its own."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from easydict import EasyDict

Pairs = tuple[tuple[int, int], ...]

# Keys under DATASET.KEYPOINT in the configuration -> fields.
KEYPOINT = {
    'NAMES': 'joint_names',
    'FLIP_PAIRS': 'flip_pairs',
    'UPPER_BODY_IDS': 'upper_body_ids',
    'SKELETON': 'skeleton',
    'SIGMAS': 'sigmas',
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """A data set.

    name:     in reports
    root:     its folder, absolute or relative to home(); all other paths are relative to it
    format:   of its json files: 'COCO' or 'MPII'
    images:   the folder of the images that the json files name; '{split}' in it stands for train, val or test
    train_json, val_json, test_json: annotations; the test split's may lack people; '': there is no test split
    val_boxes, test_boxes: a detector's boxes, in COCO's results format; '': test on annotated boxes
    joint_names:    K, in the order of the json files; names that begin with left or right give the side
    flip_pairs:     pairs of joints that a flip swaps
    upper_body_ids: joints of the upper half, for half-body augmentation; the others are the lower half
    skeleton:       limbs, pairs of joints, for drawing
    sigmas:         K, the spread of each joint's annotations in units of the square root of the person's area, for
                    OKS; empty if the evaluation does not need them (MPII)
    """

    name: str
    root: Path
    format: str = 'COCO'
    images: str = 'images'
    train_json: str
    val_json: str
    test_json: str = ''
    val_boxes: str = ''
    test_boxes: str = ''
    joint_names: tuple[str, ...]
    flip_pairs: Pairs
    upper_body_ids: tuple[int, ...]
    skeleton: Pairs
    sigmas: tuple[float, ...] = ()

    def at(self, root: Path) -> 'Description':
        """The same data set in another folder."""
        return dataclasses.replace(self, root=root)

    def annotations(self, split: str) -> Path:
        """The annotations of 'train', 'val' or 'test'."""
        return self.root / getattr(self, f'{split}_json')

    def boxes(self, split: str) -> Path | None:
        """A detector's boxes for 'val' or 'test'; None if there are none."""
        name = getattr(self, f'{split}_boxes')
        return self.root / name if name else None

    def image_folder(self, split: str) -> Path:
        """The folder of the images of 'train', 'val' or 'test'."""
        return self.root / self.images.replace('{split}', split)

    def to_config(self) -> dict:
        """The configuration's DATASET, in plain values; the inverse of from_config."""
        values = {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}
        keypoint = {key: values.pop(name) for key, name in KEYPOINT.items()}
        return {name.upper(): value for name, value in values.items()} | {
            'KEYPOINT': {'NUM': len(self.joint_names), **keypoint}
        }

    @classmethod
    def from_config(cls, dataset: EasyDict) -> 'Description':
        """dataset: the configuration's DATASET."""
        values = {name: dataset[name.upper()] for name in cls.__dataclass_fields__ if name not in KEYPOINT.values()}
        joints = {name: _fixed(dataset.KEYPOINT[key]) for key, name in KEYPOINT.items()}
        return cls(**{**values, **joints, 'root': Path(dataset.ROOT)})


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _fixed(value: object) -> object:
    return tuple(_fixed(entry) for entry in value) if isinstance(value, (list, tuple)) else value


# fmt: off
COCO = Description(
    name='COCO',
    root=Path('dataset/COCO'),
    train_json='gt_json/train_val_minus_minival_2014.json',
    val_json='gt_json/minival_2014.json',
    test_json='gt_json/test_dev.json',
    val_boxes='det_json/minival_2014_det.json',
    test_boxes='det_json/test_dev_det.json',
    joint_names=(
        'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder', 'left_elbow',
        'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle',
        'right_ankle',
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    upper_body_ids=tuple(range(13)),
    skeleton=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # Divided as in pycocotools: 0.26 / 10 is not the float 0.026.
    sigmas=tuple(sigma / 10 for sigma in (
        0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89,
    )),
)

MPII = Description(
    name='MPII',
    root=Path('dataset/MPII'),
    format='MPII',
    train_json='gt_json/train.json',
    val_json='gt_json/valid.json',
    test_json='det_json/test.json',
    joint_names=(
        'right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle', 'pelvis', 'thorax',
        'upper_neck', 'head_top', 'right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder', 'left_elbow',
        'left_wrist',
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    upper_body_ids=tuple(range(7, 16)),
    skeleton=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7), (13, 7),
        (13, 14), (14, 15),
    ),
)
# fmt: on
