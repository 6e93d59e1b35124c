"""Pictures of the best and worst cases: ground truth left, prediction right."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.datasets.checks import Issue
from lib.datasets.image_files import load_image
from lib.utils.visualize import draw_skeleton

# Of each half of a picture, in pixels. A dozen pictures take a few hundred kB.
HEIGHT, MAX_WIDTH = 300, 360
JPEG_QUALITY = 85
MARGIN = 0.25  # around the joints, relative to their extent
MIN_EXTENT = 16  # pixels
GREY = 160
GAP = 2  # pixels
MAX_COORDINATE = 1e4  # pixels; lines are as thick as a person is large, and would hide the picture


@dataclass
class Case:
    """A person to show.

    image:        its file in the folder of images
    ground_truth: (K, 3) x, y in image pixels and visibility; None for a detection that matches nobody
    prediction:   (K, 2) in image pixels; None for a person who was not found
    title:        what it is an example of
    caption:      its metrics
    """

    image: str
    ground_truth: np.ndarray | None
    prediction: np.ndarray | None
    title: str
    caption: str


def picture(case: Case, folder: Path, skeleton: Sequence[tuple[int, int]], joint_names: Sequence[str]) -> str | Issue:
    """A case as the data URL of a JPEG, or what is wrong with its image file. folder: of the images"""
    image = load_image(folder / case.image)
    if isinstance(image, Issue):
        return image
    ground_truth = None if case.ground_truth is None else (case.ground_truth[:, :2], case.ground_truth[:, 2] > 0)
    prediction = None if case.prediction is None else (case.prediction, np.ones(len(case.prediction), bool))
    drawn = [points[known] for points, known in filter(None, (ground_truth, prediction))]
    view, zoom, corner = _crop(image, np.concatenate(drawn))
    sides = []
    for person in (ground_truth, prediction):
        side = view.copy()
        if person is None:
            side = np.full_like(side, GREY)
        else:
            points = np.clip((person[0] - corner) * zoom, -MAX_COORDINATE, MAX_COORDINATE)
            draw_skeleton(side, points, person[1], skeleton, joint_names)
        sides.append(np.pad(side, [(0, 0), (GAP, GAP), (0, 0)], constant_values=255))
    good, data = cv2.imencode('.jpg', np.hstack(sides)[:, GAP:-GAP], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise RuntimeError('OpenCV cannot write JPEGs')
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()


def _crop(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The resized part of an image (H, W, 3) around points (p, 2), its zoom, and its corner (x, y) in the image."""
    size = np.array(image.shape[1::-1])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * max((high - low).max(), MIN_EXTENT)
    # Joints may lie outside the image, but the crop has to contain some of it.
    low = np.clip(np.floor(low - margin), 0, size - 2).astype(int)
    high = np.clip(np.ceil(high + margin), low + 2, size).astype(int)
    width, height = (high - low).tolist()
    zoom = min(HEIGHT / height, MAX_WIDTH / width)
    shape = max(round(width * zoom), 1), max(round(height * zoom), 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    return cv2.resize(part, shape, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR), zoom, low
