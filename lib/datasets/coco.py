"""COCO keypoints and data sets in its format: people, boxes, evaluation; COCO's own facts."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.files import read_json
from cvpack.logger import LOGGER
from lib.datasets.coco_categories import PERSON, check_joint_names, is_labelled_person
from lib.datasets.coco_json import (
    Boxes,
    check_ground_truth,
    image_paths,
    labelled_people,
    listed_images,
    person_boxes,
)
from lib.datasets.description import Description
from lib.datasets.image_names import image_path as image_path
from lib.datasets.joints import Records, pack_paths
from lib.evaluation.coco import keypoint_metrics, pck
from lib.evaluation.nms import Scoring, scored
from lib.evaluation.submission import check_coco
from lib.utils.transforms import centers_and_scales

PREPARE = 'prepare the data set (python -m lib.tools.prepare -h) or correct its description in config.py'
PUBLISHED = Scoring()


def annotated_boxes(annotations: list[dict]) -> list[dict]:
    """The boxes of the labelled people in the form of a detector's, marked as what they are."""
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


def train_records(dataset: Description, min_keypoints: int) -> Records:
    """The people to train on: not a crowd, with joints, of a listed image. Raises InputError for unfit files."""
    path, folder = dataset.annotations('train'), dataset.image_folder('train')
    content = read_json(path, PREPARE)
    listed = listed_images(content, path, folder=folder)
    names = image_paths(listed, folder, path)
    check_joint_names(content, path, dataset.joint_names)
    people = labelled_people(content, path, listed, len(dataset.joint_names), min_keypoints)
    center, scale = centers_and_scales(people.boxes)
    return Records(
        root=folder,
        paths=pack_paths([names[i] for i in people.image_ids.tolist()]),
        center=center,
        scale=scale,
        joints=people.keypoints[..., :2].astype(np.float32),
        visibility=people.keypoints[..., 2].astype(np.float32),
        integer=np.array([{*map(type, joints)} <= {int, bool} for joints in people.rows.column('keypoints')], bool),
    )


def _truth(dataset: Description, split: str) -> tuple[Any, dict[int, dict]]:
    """The annotations of 'val' or 'test', fit to be evaluated against, and the images that they list."""
    path = dataset.annotations(split)
    content = read_json(path, PREPARE)
    listed = listed_images(content, path, folder=dataset.image_folder(split))
    check_joint_names(content, path, dataset.joint_names)
    if split == 'val' or 'annotations' in content:  # COCO's test-dev has none that are public
        check_ground_truth(content, path, len(dataset.joint_names))
    return content, listed


def check_validation(dataset: Description) -> None:
    """Raises InputError for validation annotations that a test would refuse; a detector's boxes are not looked at."""
    path = dataset.annotations('val')
    content, listed = _truth(dataset, 'val')
    image_paths(listed, dataset.image_folder('val'), path)
    if dataset.boxes('val') is None:
        labelled_people(content, path, listed, len(dataset.joint_names), min_keypoints=1)


def test_records(dataset: Description, split: str, gt_boxes: bool) -> Records:
    """The boxes to test, by falling score: a detector's, or those of the annotated people, with their joints.

    split: 'val' or 'test'; gt_boxes: the annotated ones although there are a detector's. Only boxes of people in
    listed images; of a detector's, those that are not finite or of no size are left out, and their number is logged.
    Raises InputError for unfit files, also for annotations that could not be evaluated against.
    """
    gt_file, det_file, folder = dataset.annotations(split), dataset.boxes(split), dataset.image_folder(split)
    gt_boxes = gt_boxes or det_file is None
    content, listed = _truth(dataset, split)
    keypoints = None
    if gt_boxes:
        people = labelled_people(content, gt_file, listed, len(dataset.joint_names), min_keypoints=1)
        boxes = Boxes(people.image_ids, people.boxes, np.ones(len(people.boxes)), people.rows)
        keypoints = people.keypoints.astype(np.float32)
    else:
        boxes = person_boxes(read_json(det_file, f'{PREPARE}, or test with --gt-boxes'), det_file, listed)
    if boxes.left_out:
        text = f'{boxes.left_out} boxes of no size, or with numbers that are not finite, are left out'
        logging.getLogger(LOGGER).info(f'{det_file}: {text}')
    order = np.argsort(-boxes.scores, kind='stable')
    center, scale = centers_and_scales(boxes.boxes[order])
    names = image_paths(listed, folder, gt_file)
    return Records(
        root=folder,
        paths=pack_paths([names[i] for i in boxes.image_ids[order].tolist()]),
        center=center,
        scale=scale,
        joints=None if keypoints is None else keypoints[..., :2],
        visibility=None if keypoints is None else keypoints[..., 2],
        ids=boxes.image_ids[order],
        scores=boxes.scores[order],
        # Annotated boxes that stand in a detector's file are still called what they are.
        boxes_from='annotation' if gt_boxes or set(boxes.rows.column('source')) == {'annotation'} else 'detector',
    )


def write_results(
    records: Records, keypoints: np.ndarray, scores: np.ndarray, folder: Path, scoring: Scoring = PUBLISHED
) -> Path:
    """Writes COCO's results.json, which is also what the test-dev server takes; returns its path.

    keypoints (n, K, 2) in image pixels, scores (n, K, 1)
    scoring: what an instance's score is made of, and who is left out; by default its box's score times its joints'
    mean, and nobody
    """
    rows = np.concatenate([keypoints, scores], axis=2).round(4).reshape(len(records), -1)
    kept, instance_scores = scored(records, keypoints, scores[..., 0], scoring)
    results = [
        {'image_id': int(image_id), 'category_id': PERSON, 'keypoints': row, 'score': float(score)}
        for image_id, row, score in zip(records.ids[kept], rows[kept].tolist(), instance_scores[kept])
    ]
    path = folder / 'results.json'
    path.write_text(json.dumps(results))
    return path


def ground_truth_file(dataset: Description, split: str) -> Path:
    """What a split is evaluated against."""
    return dataset.annotations(split)


def check_submission(dataset: Description, results: Path, records: Records) -> list[str]:
    """Raises InputError for a results.json that COCO's server would refuse; returns remarks on one that it takes."""
    return check_coco(results, dataset.annotations('test'), len(dataset.joint_names))


def evaluate(dataset: Description, split: str, results: Path, records: Records) -> dict[str, float] | None:
    """COCO's ten keypoint figures under the data set's sigmas, in 0 .. 1, and PCK where the boxes are annotated.

    results: of the records. None where there are no annotations, as COCO's test-dev has none that are public.
    """
    figures = keypoint_metrics(dataset.annotations(split), results, dataset.sigmas)
    if figures is None:
        return None
    if records.joints is not None:
        rows = [person['keypoints'] for person in json.loads(results.read_text())]
        figures |= pck(np.array(rows).reshape(len(records), -1, 3), records)
    return figures


def ground_truth(dataset: Description, split: str) -> dict[str, np.ndarray]:
    """The labelled people of every test image: path in `images` -> (people, K, 3), x, y, visibility."""
    path, folder = dataset.annotations(split), dataset.image_folder(split)
    content = read_json(path, PREPARE)
    listed = listed_images(content, path, folder=folder)
    if 'annotations' not in content:  # test-dev's are not public
        return {}
    people = labelled_people(content, path, listed, len(dataset.joint_names), min_keypoints=1)
    names = image_paths(listed, folder, path)
    return {names[i]: people.keypoints[people.image_ids == i] for i in np.unique(people.image_ids).tolist()}


def format_metrics(metrics: dict[str, float]) -> dict[str, str]:
    """The figures as papers print them: per cent, one decimal; a dash where there is nothing to measure (-1)."""
    return {name: f'{100 * value:.1f}' if value >= 0 else '-' for name, value in metrics.items()}
