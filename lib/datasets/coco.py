"""Reader of COCO and data sets in its format."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.files import read_json
from cvpack.logger import LOGGER
from lib.datasets.checks import PREPARE
from lib.datasets.coco_categories import PERSON, check_joint_names, is_labelled_person
from lib.datasets.coco_json import (
    Boxes,
    check_ground_truth,
    image_paths,
    labelled_people,
    listed_images,
    person_boxes,
)
from lib.datasets.records import Reader, Records, TestSet, pack_paths
from lib.utils.transforms import centers_and_scales


@dataclass
class CocoTestSet(TestSet):
    """A split in COCO's format.

    content: of the annotation file, checked; without `annotations` for COCO's test-dev
    paths:   of the listed images: id -> path in the image folder
    """

    content: dict[str, Any]
    paths: dict[int, str]


class CocoReader(Reader):
    """Reads COCO and data sets in its format."""

    def train_records(self, min_keypoints: int) -> Records:
        """The people to train on: in listed images, no crowds, with at least so many labelled joints."""
        path, folder = self.dataset.annotations('train'), self.dataset.image_folder('train')
        content = read_json(path, PREPARE)
        listed = listed_images(content, path, folder=folder)
        names = image_paths(listed, folder, path)
        check_joint_names(content, path, self.dataset.joint_names)
        people = labelled_people(content, path, listed, len(self.dataset.joint_names), min_keypoints)
        center, scale = centers_and_scales(people.boxes)
        return Records(
            root=folder,
            paths=pack_paths([names[i] for i in people.image_ids.tolist()]),
            center=center,
            scale=scale,
            joints=people.keypoints[..., :2].astype(np.float32),
            visibility=people.keypoints[..., 2].astype(np.float32),
            ids=people.image_ids,
            scores=np.ones(len(people.boxes)),
            integer=np.array([{*map(type, joints)} <= {int, bool} for joints in people.rows.column('keypoints')], bool),
        )

    def test_set(self, split: str, gt_boxes: bool) -> CocoTestSet:
        """The boxes to test, by falling score: a detector's, or those of the annotated people, with joints.

        Only boxes of people in listed images count. A detector's boxes that are empty or not finite are dropped, and
        their number is logged.
        """
        path, detections = self.dataset.annotations(split), self.dataset.boxes(split)
        content, names = self._annotations(split)
        keypoints = None
        if gt_boxes or detections is None:
            people = labelled_people(content, path, names, len(self.dataset.joint_names), min_keypoints=1)
            boxes = Boxes(people.image_ids, people.boxes, np.ones(len(people.boxes)), people.rows)
            keypoints = people.keypoints.astype(np.float32)
        else:
            boxes = person_boxes(read_json(detections, f'{PREPARE}, or test with --gt-boxes'), detections, names)
        if boxes.left_out:
            text = f'{boxes.left_out} boxes that are empty or not finite are left out'
            logging.getLogger(LOGGER).info(f'{detections}: {text}')
        order = np.argsort(-boxes.scores, kind='stable')
        center, scale = centers_and_scales(boxes.boxes[order])
        # prepare writes annotated boxes into the detector's file where there is no detector.
        annotated = keypoints is not None or set(boxes.rows.column('source')) == {'annotation'}
        records = Records(
            root=self.dataset.image_folder(split),
            paths=pack_paths([names[i] for i in boxes.image_ids[order].tolist()]),
            center=center,
            scale=scale,
            joints=None if keypoints is None else keypoints[..., :2],
            visibility=None if keypoints is None else keypoints[..., 2],
            ids=boxes.image_ids[order],
            scores=boxes.scores[order],
            boxes_from='annotation' if annotated else 'detector',
        )
        return CocoTestSet(split, records, path, content, names)

    def ground_truth_file(self, split: str) -> Path:
        """The annotations."""
        return self.dataset.annotations(split)

    def check_validation(self) -> None:
        content, names = self._annotations('val')
        if self.dataset.boxes('val') is None:
            labelled_people(content, self.dataset.annotations('val'), names, len(self.dataset.joint_names), 1)

    def _annotations(self, split: str) -> tuple[dict[str, Any], dict[int, str]]:
        """The checked annotations of 'val' or 'test', and the image paths by id."""
        path, folder = self.dataset.annotations(split), self.dataset.image_folder(split)
        content = read_json(path, PREPARE)
        listed = listed_images(content, path, folder=folder)
        check_joint_names(content, path, self.dataset.joint_names)
        if split == 'val' or 'annotations' in content:
            check_ground_truth(content, path, len(self.dataset.joint_names))
        return content, image_paths(listed, folder, path)


def annotated_boxes(annotations: list[dict]) -> list[dict]:
    """The boxes of the labelled people in a detector's format, marked as annotated."""
    return [
        {
            'image_id': annotation['image_id'],
            'category_id': PERSON,
            'bbox': annotation['bbox'],
            'score': 1.0,
            'source': 'annotation',
        }
        for annotation in annotations
        if is_labelled_person(annotation)
    ]
