"""MPII human pose, single person: its people, and their ground truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.files import read_json
from lib.datasets.checks import PREPARE
from lib.datasets.mpii_json import GROUND_TRUTH, MpiiGroundTruth, read_ground_truth, read_people
from lib.datasets.records import Reader, Records, TestSet, pack_paths

# MPII counts a joint as visible or not; the loss knows three values.
VISIBLE = 2
# The annotated centre lies high on the body; it moves down by so many pixels for a scale of 1.
CENTER_SHIFT = 15


@dataclass
class MpiiTestSet(TestSet):
    """A split of MPII. ground_truth: None where there is none"""

    ground_truth: MpiiGroundTruth | None


class MpiiReader(Reader):
    """Reads MPII's json files and valid.mat."""

    def train_records(self, min_keypoints: int) -> Records:
        """The people to train on; MPII lists none without joints, so `min_keypoints` leaves nobody out."""
        return self._records('train')

    def test_set(self, split: str, gt_boxes: bool) -> MpiiTestSet:
        """The people to test. MPII gives the position and size of all, so `gt_boxes` is moot."""
        records, file = self._records(split), self.ground_truth_file(split)
        ground_truth = read_ground_truth(file, len(records)) if split == 'val' and file.is_file() else None
        return MpiiTestSet(split, records, file, ground_truth)

    def ground_truth_file(self, split: str) -> Path:
        """valid.mat; the test set has none that is public."""
        return self.dataset.root / GROUND_TRUTH

    def check_validation(self) -> None:
        """Raises InputError for a validation set that a test would refuse."""
        self.test_set('val', gt_boxes=False)

    def _records(self, split: str) -> Records:
        """The people of a split. MPII's coordinates count from 1; ours from 0."""
        path = self.dataset.annotations(split)
        joints, folder = len(self.dataset.joint_names), self.dataset.image_folder(split)
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
            scores=np.ones(len(people.names)),
            boxes_from='annotation',
        )
