"""Reader of MPII Human Pose, single person."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.files import read_json
from lib.datasets.checks import PREPARE
from lib.datasets.mpii_json import GROUND_TRUTH, MpiiGroundTruth, read_ground_truth, read_people
from lib.datasets.records import Reader, Records, TestSet, pack_paths

VISIBLE = 2  # MPII's joints are visible (1) or not (0); ours have three values
CENTER_SHIFT = 15  # pixels per scale; the annotated centre lies too high on the body


@dataclass
class MpiiTestSet(TestSet):
    """A split of MPII. ground_truth: None without valid.mat"""

    ground_truth: MpiiGroundTruth | None


class MpiiReader(Reader):
    """Reads MPII's json files and valid.mat."""

    def train_records(self, min_keypoints: int) -> Records:
        """Everybody, as in the published code; `min_keypoints` is not used."""
        return self._records('train')

    def test_set(self, split: str, gt_boxes: bool) -> MpiiTestSet:
        """The people to test. MPII annotates the position and size of all, so `gt_boxes` is not used."""
        records, file = self._records(split), self.ground_truth_file(split)
        ground_truth = read_ground_truth(file, len(records)) if split == 'val' and file.is_file() else None
        return MpiiTestSet(split, records, file, ground_truth)

    def ground_truth_file(self, split: str) -> Path:
        """valid.mat; that of the test set is not public."""
        return self.dataset.root / GROUND_TRUTH

    def check_validation(self) -> None:
        self.test_set('val', gt_boxes=False)

    def _records(self, split: str) -> Records:
        """The people of a split, with MPII's coordinates, counted from 1, converted to ours, counted from 0."""
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
