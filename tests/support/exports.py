"""Exports as labelling tools and research sets write them, all of the same labelled animals.

Each form writes its files and images into a folder and returns the options by which `prepare own` reads them. Keys that
say nothing (licenses, dates, URLs) are left out, quirks are kept: where a tool drops or moves something, so does its
form. Those of Datumaro, Label Studio, Supervisely, X-AnyLabeling, labelme2coco and Darwin were held against files that
the tools themselves wrote.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.support.annotations import write_json

WIDTH, HEIGHT = 160, 120
IMAGES = ('ash.jpg', 'birch.jpg', 'cedar.jpg', 'elm.jpg', 'fir.jpg', 'oak.jpg')
JOINTS = ('nose', 'left_hand', 'right_hand', 'left_foot', 'right_foot', 'tail')
LIMBS = ((0, 1), (0, 2), (5, 3), (5, 4), (0, 5))
PAIRS = ((1, 2), (3, 4))
# Where the trousers' joints are among DeepFashion2's 294.
TROUSERS = slice(168, 182)
Options = list[object]


@dataclass(frozen=True)
class Animal:
    """image: one of IMAGES; keypoints: (K, 3) integers, zeros where not labelled; box: x, y, width, height"""

    image: str
    keypoints: np.ndarray
    box: tuple[float, float, float, float]

    @property
    def labelled(self) -> np.ndarray:
        """(K,) bool"""
        return self.keypoints[:, 2] > 0

    @property
    def hull(self) -> list[int]:
        """The smallest box around the labelled joints."""
        points = self.keypoints[self.labelled, :2]
        return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def animals(joints: int = len(JOINTS), complete: bool = False) -> list[Animal]:
    """Nine, two in every second image, side by side. Some joints are occluded and, unless complete, others missing."""
    rng, found = np.random.default_rng(joints), []
    for number, image in enumerate(IMAGES):
        for place in range(1 + number % 2):
            box = np.array([8 + 78 * place, 10, 62, 96]) + rng.integers(0, 6, 4) / [4, 4, 2, 2]
            low, high = (box[:2] + 4).astype(int), (box[:2] + box[2:] - 4).astype(int)
            points = np.full((joints, 3), 2)
            points[:, :2] = rng.integers(low, high, (joints, 2))
            points[rng.integers(joints), 2] = 1
            if not complete:
                points[rng.choice(joints, joints // 3, replace=False)] = 0
            found.append(Animal(image, points, tuple(box.tolist())))
    return found


def halves(everybody: Sequence[Animal]) -> tuple[list[Animal], list[Animal]]:
    """Those of the first four images, for train, and the others."""
    train = [animal for animal in everybody if animal.image in IMAGES[:4]]
    return train, [animal for animal in everybody if animal.image not in IMAGES[:4]]


def draw(folder: Path, names: dict[str, str] | Sequence[str] = IMAGES) -> Path:
    """Writes the images, each of a brightness of its own (see `drawn`).

    names: those of IMAGES, or (a dictionary) the names of the files to draw them into
    """
    for image, name in (names if isinstance(names, dict) else dict(zip(names, names))).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        level = 30 * (1 + IMAGES.index(image))
        assert cv2.imwrite(str(folder / name), np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    return folder


def drawn(file: Path) -> str:
    """Which of IMAGES a file is, by its pixels."""
    return IMAGES[round(cv2.imread(str(file)).mean() / 30) - 1]


def coco(everybody: Sequence[Animal], joints: Sequence[str] = JOINTS, first: int = 1) -> dict[str, Any]:
    """COCO's form without quirks; ids count from `first`."""
    ids = {image: number for number, image in enumerate(dict.fromkeys(one.image for one in everybody), first)}
    return {
        'images': [{'id': ids[name], 'file_name': name, 'width': WIDTH, 'height': HEIGHT} for name in ids],
        'annotations': [
            {
                'id': number,
                'image_id': ids[one.image],
                'category_id': 1,
                'iscrowd': 0,
                'bbox': list(one.box),
                'area': one.box[2] * one.box[3],
                'keypoints': one.keypoints.flatten().tolist(),
                'num_keypoints': int(one.labelled.sum()),
            }
            for number, one in enumerate(everybody, first)
        ],
        'categories': [
            {
                'id': 1,
                'name': 'animal',
                'supercategory': '',
                'keypoints': list(joints),
                'skeleton': [[a + 1, b + 1] for a, b in LIMBS],
            }
        ],
    }


def _written(folder: Path, name: str, content: Any, images: str | Path) -> Options:
    return ['--annotations', write_json(folder / name, content), '--images', folder / images]


def plain(folder: Path, everybody: Sequence[Animal]) -> Options:
    """COCO's own form, images beside it."""
    draw(folder / 'images')
    return _written(folder, 'animals.json', coco(everybody), 'images')


def cvat(folder: Path, everybody: Sequence[Animal]) -> Options:
    """CVAT, COCO Keypoints 1.0: joints count as categories, rectangles are one, absent joints keep their place."""
    content = coco(everybody)
    fence = {'id': 1, 'name': 'fence', 'supercategory': '', 'keypoints': [], 'skeleton': []}
    content['categories'] = [fence, content['categories'][0] | {'id': 2}]
    for row in content['annotations']:
        row |= {'category_id': 2, 'segmentation': [], 'attributes': {'occluded': False, 'keyframe': True}}
        points = np.array(row['keypoints'], float).reshape(-1, 3)
        points[points[:, 2] == 0, :2] = 71.25, 33.5
        row['keypoints'] = points.flatten().tolist()
    content['annotations'].append({'id': 99, 'image_id': 1, 'category_id': 1, 'bbox': [0.0, 80.0, 160.0, 9.0]})
    for row in content['images']:
        row |= {'file_name': f'clip/{row["file_name"]}', 'license': 0, 'date_captured': 0}
    draw(folder / 'images/default/clip')
    return _written(folder, 'annotations/person_keypoints_default.json', content, 'images')


def roboflow(folder: Path, everybody: Sequence[Animal]) -> Options:
    """Roboflow: a folder and a file a split, ids from 0 in each, a category without joints, names with a hash."""
    hashed = {name: f'{name[:-4]}_jpg.rf.{hashlib.md5(name.encode()).hexdigest()}.jpg' for name in IMAGES}
    for split, own in zip(('train', 'valid'), halves(everybody)):
        content = coco(own, first=0)
        content['categories'].insert(0, {'id': 0, 'name': 'animal', 'supercategory': 'none'})
        for row in content['images']:
            row |= {'extra': {'name': row['file_name']}, 'license': 1, 'file_name': hashed[row['file_name']]}
        draw(folder / split, {one.image: hashed[one.image] for one in own})
        write_json(folder / split / '_annotations.coco.json', content)
    train, val = (folder / split / '_annotations.coco.json' for split in ('train', 'valid'))
    return ['--annotations', train, '--val', val, '--images', folder]


def coco_annotator(folder: Path, everybody: Sequence[Animal]) -> Options:
    """COCO Annotator: no boxes, ids of a database; images of one name differ by their path in its container."""
    content = coco(everybody, first=625)
    content['categories'] = [
        {'id': 7, 'name': 'buoy', 'supercategory': '', 'color': '#1bbe19', 'metadata': {}, 'keypoint_colors': []},
        content['categories'][0] | {'id': 3, 'color': '#ffffff', 'metadata': {}},
    ]
    places = {name: f'{name[:-4]}/1.jpg' for name in IMAGES}
    for row in content['images']:
        row |= {'path': f'/datasets/farm/{places[row["file_name"]]}', 'file_name': '1.jpg', 'dataset_id': 5}
    for row in content['annotations']:
        row |= {'category_id': 3, 'area': 0, 'bbox': [0, 0, 0, 0], 'iscrowd': False, 'isbbox': False}
    draw(folder / 'farm', places)
    return _written(folder, '.exports/coco-1700000000.json', content, 'farm')


def label_studio(folder: Path, everybody: Sequence[Animal]) -> Options:
    """Label Studio: one set of joints an image (the last of each name), boxes as other annotations, no areas."""
    content, rows = coco(everybody, first=0), []
    joined: dict[int, np.ndarray] = {}
    for row, one in zip(content['annotations'], everybody):
        rows.append({key: row[key] for key in ('image_id', 'bbox', 'area', 'iscrowd')} | {'category_id': 6})
        earlier = joined.get(row['image_id'], np.zeros_like(one.keypoints))
        seen = one.keypoints * [1, 1, 0] + [0, 0, 2]
        joined[row['image_id']] = np.where(one.labelled[:, None], seen, earlier)
    for image, points in joined.items():
        whole = Animal('', points, (0, 0, 0, 0))
        rows.append({'image_id': image, 'category_id': 7, 'bbox': whole.hull, 'iscrowd': 0})
        rows[-1] |= {'keypoints': points.flatten().tolist(), 'num_keypoints': int(whole.labelled.sum())}
    joints = {'id': 7, 'name': 'default', 'supercategory': 'default', 'keypoints': list(JOINTS), 'skeleton': []}
    content |= {
        'annotations': [{'id': number} | row for number, row in enumerate(rows)],
        'categories': [{'id': 6, 'name': 'animal'}, joints],
        'info': {'year': 2026, 'version': '1.0', 'contributor': 'Label Studio'},
    }
    for row in content['images']:
        row['file_name'] = f'images/23082be9-{row["file_name"]}'
    draw(folder / 'images', {name: f'23082be9-{name}' for name in IMAGES})
    return _written(folder, 'result.json', content, 'images')


def supervisely(folder: Path, everybody: Sequence[Animal]) -> Options:
    """Supervisely: joints are seen or missing; the box is around them and, for missing ones, 0, 0."""
    content = coco(everybody)
    for row, one in zip(content['annotations'], everybody):
        points = one.keypoints * [1, 1, 0] + one.labelled[:, None] * [0, 0, 2]
        low, size = points[:, :2].min(axis=0), np.ptp(points[:, :2], axis=0)
        row |= {'keypoints': points.flatten().tolist(), 'num_keypoints': len(JOINTS), 'segmentation': []}
        row |= {'bbox': [*low.tolist(), *size.tolist()], 'area': int(size.prod())}
    content['info'] = {'description': 'COCO dataset converted from Supervisely', 'contributor': 'Supervisely'}
    draw(folder / 'farm/images')
    return _written(folder, 'farm/annotations/coco_instances.json', content, '.')


def datumaro(folder: Path, everybody: Sequence[Animal]) -> Options:
    """Datumaro: every label is a category, also one without joints; coordinates are floats."""
    content = coco(everybody)
    ground = {'id': 1, 'name': 'background', 'supercategory': '', 'keypoints': [], 'skeleton': []}
    content['categories'] = [ground, content['categories'][0] | {'id': 2}]
    for row in content['annotations']:
        values = [value if i % 3 == 2 else float(value) for i, value in enumerate(row['keypoints'])]
        row |= {'category_id': 2, 'keypoints': values, 'segmentation': []}
    draw(folder / 'images/train')
    return _written(folder, 'annotations/person_keypoints_train.json', content, 'images')


def x_anylabeling(folder: Path, everybody: Sequence[Animal], visible: bool = False) -> Options:
    """X-AnyLabeling: ids from 0, no limbs and (has_visible: false in its settings) two numbers a joint."""
    content = coco(everybody, first=0)
    content['categories'][0]['skeleton'] = []
    for row, one in zip(content['annotations'], everybody):
        row |= {'ignore': 0, 'segmentation': []}
        row['keypoints'] = one.keypoints[:, : 3 if visible else 2].flatten().tolist()
    for row in content['images']:
        row |= {'license': 0, 'url': None, 'date_captured': None}
    draw(folder / 'images')
    return _written(folder, 'coco_keypoints.json', content, 'images')
