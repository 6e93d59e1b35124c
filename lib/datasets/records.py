"""The people of a data set as arrays, and the interface of their readers, one for each format."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.datasets.description import Description


@dataclass
class Records:
    """People to crop, as flat arrays, whose memory workers share; a list of dictionaries would be copied.

    paths:      (n,) bytes, image files relative to `root`
    center:     (n, 2) float32, x and y in image pixels
    scale:      (n, 2) float32, the box's size in units of 200 image pixels
    joints:     (n, K, 2) float32, in image pixels; None for a detector's boxes
    visibility: (n, K) float32: 0 unlabelled, 1 occluded, 2 visible; None for a detector's boxes
    integer:    (n,) bool, whether the file has the joints as integers (training); None: no
    ids:        (n,) int64, of the images; for MPII (n, 2), of the people
    scores:     (n,) float64, of the boxes
    boxes_from: the source of the boxes (testing): 'detector' or 'annotation'
    """

    root: Path
    paths: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray | None = None
    visibility: np.ndarray | None = None
    integer: np.ndarray | None = None
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    boxes_from: str = ''

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        """The image file of a record."""
        return self.root / self.paths[index].decode()

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """joints and visibility of annotated people."""
        assert self.joints is not None and self.visibility is not None
        return self.joints, self.visibility


def pack_paths(paths: Sequence[str]) -> np.ndarray:
    """File names as one array of bytes."""
    return np.array([path.encode() for path in paths])


def select(records: Records, chosen: np.ndarray) -> Records:
    """The subset of the records given by a mask (n,) or indices."""
    arrays = {name: value[chosen] for name, value in vars(records).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(records, **arrays)


@dataclass
class TestSet:
    """A split to test. Each format adds its ground truth, so that a test reads each file once.

    ground_truth_file: may not exist
    """

    __test__ = False  # keeps pytest from collecting the class

    split: str
    records: Records
    ground_truth_file: Path


class Reader(ABC):
    """Reads the files of a data set. All methods raise InputError for invalid files."""

    def __init__(self, dataset: Description) -> None:
        self.dataset = dataset

    @abstractmethod
    def train_records(self, min_keypoints: int) -> Records:
        """The people to train on, each with at least so many labelled joints."""

    @abstractmethod
    def test_set(self, split: str, gt_boxes: bool) -> TestSet:
        """The people to test, and their checked ground truth where there is one.

        split: 'val' or 'test'; gt_boxes: use annotated boxes even if there are a detector's
        """

    @abstractmethod
    def ground_truth_file(self, split: str) -> Path:
        """The file with the ground truth of a split, which may not exist."""

    @abstractmethod
    def check_validation(self) -> None:
        """Raises InputError for validation annotations that a test would refuse; does not read a detector's boxes."""
