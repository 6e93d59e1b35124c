"""Truths and detections for the tests of lib.evaluation."""

import json
from pathlib import Path

import numpy as np
from pycocotools.cocoeval import Params

from lib.datasets.mpii_json import read_ground_truth
from lib.evaluation.ground_truth import GroundTruth, arrange
from lib.evaluation.oks import Evaluation
from lib.evaluation.pckh import head_errors, pckh

SIGMAS: np.ndarray = Params(iouType='keypoints').kpt_oks_sigmas


def person(points: np.ndarray, number: int, image: int, visibility: np.ndarray, **changes) -> dict:
    """An annotation around points (17, 2)."""
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    return {
        'id': number,
        'image_id': image,
        'category_id': 1,
        'iscrowd': 0,
        'num_keypoints': int((visibility > 0).sum()),
        'bbox': [*low.tolist(), *size.tolist()],
        'area': float(size.prod() / 2),
        'keypoints': np.column_stack([points * (visibility > 0)[:, None], visibility]).ravel().tolist(),
        **changes,
    }


def random_files(folder: Path, seed: int, images: int = 40) -> tuple[Path, Path]:
    """A truth and results of all sorts: crowds, people without joints, people who were found well, badly, twice, not
    at all; images without people, without detections, with more than twenty; equal scores."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images + 1):
        for _ in range(random.choice([0, 1, 2, 5])):
            center, size = random.uniform(50, 400, 2), random.choice([40, 90, 200])
            points = np.round(center + random.uniform(-0.5, 0.5, (17, 2)) * size)
            visibility = random.choice([0, 1, 2], 17, p=[0.3, 0.2, 0.5]) * (random.random() > 0.15)
            crowd = int(random.random() < 0.1)
            annotations.append(person(points, len(annotations) + 1, image, visibility, iscrowd=crowd))
            for _ in range(random.choice([0, 1, 2, 12], p=[0.1, 0.6, 0.2, 0.1])):
                found = points + random.normal(size=(17, 2)) * size * random.choice([0.01, 0.04, 0.1])
                results.append((image, found))
        results += [(image, random.uniform(0, 450, (17, 2))) for _ in range(random.choice([0, 1, 3]))]
    rows = [
        {
            'image_id': image,
            'category_id': 1,
            'keypoints': np.column_stack([points, np.ones(17)]).ravel().tolist(),
            'score': round(random.random(), 1),
        }
        for image, points in results
    ]
    random.shuffle(rows)
    listed = [{'id': image, 'file_name': f'{image}.jpg'} for image in range(1, images + 1)]
    ground_truth, found = folder / 'truth.json', folder / 'results.json'
    ground_truth.write_text(json.dumps({'images': listed, 'annotations': annotations, 'categories': [{'id': 1}]}))
    found.write_text(json.dumps(rows))
    return ground_truth, found


def evaluation(people: list[tuple], detections: list[tuple], sigma: float = 0.1) -> Evaluation:
    """Of people (image, joints (K, 3)) and detections (image, joints (K, 2), score): area 10,000 each.

    With sigma .1 a joint that is d pixels off has ks = exp(-d^2 / 800): .85 at 11.4 pixels, .5 at 23.5.
    """
    image, keypoints = (np.array(column) for column in zip(*people))
    count, joints = keypoints.shape[:2]
    ground_truth = GroundTruth(
        np.arange(image.max() + 1),
        image,
        keypoints.astype(float),
        np.tile([0.0, 0, 100, 200], (count, 1)),
        np.full(count, 1e4),
        np.zeros(count, bool),
        ~(keypoints[..., 2] > 0).any(axis=1),
    )
    found = arrange(*(np.array(column, float if place else int) for place, column in enumerate(zip(*detections))))
    return Evaluation(ground_truth, found, np.full(joints, sigma))


def pckh_in_percent(predictions: np.ndarray, ground_truth: Path) -> dict[str, float]:
    """PCKh as the published code gives it. predictions: (n, 16, 3); ground_truth: a valid.mat of the same people"""
    errors = head_errors(predictions[..., :2], read_ground_truth(ground_truth, len(predictions)))
    return {name: 100 * value for name, value in pckh(errors).items()}
