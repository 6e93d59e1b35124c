"""Synthetic people in COCO's layout, to run everything from JPEG to AP without downloads.

A body has 3-D landmarks relative to the middle of the hips, in body heights: to the person's left, up, forwards. Its
parts are convex hulls of spheres at landmarks. Under orthographic projection these are convex hulls of circles, so the
parts, drawn from far to near, give a view from any side.
"""

import colorsys
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from lib.datasets.coco_categories import PERSON
from lib.datasets.description import COCO

# Probability, and angle ranges in degrees: upper half forwards and sideways, lower half forwards and sideways.
ARMS = (
    (0.35, (-20, 25), (6, 24), (0, 60), (-15, 25)),  # hanging
    (0.15, (-20, 20), (125, 165), (-20, 20), (100, 190)),  # raised
    (0.25, (-20, 20), (60, 98), (-20, 20), (60, 190)),  # to the side
    (0.25, (-25, 95), (5, 50), (0, 130), (-60, 10)),  # to the front or on the hip
)
LEGS = (
    (0.4, (-5, 8), (2, 9), (-10, 4), (0, 6)),  # straight
    (0.5, (-28, 38), (1, 30), (-40, 10), (1, 20)),  # a step
    (0.1, (30, 90), (2, 25), (-30, 10), (0, 10)),  # raised
)
# Colour name and radii of the spheres; {} stands for each side. Of parts at equal depth the later one is in front.
PARTS = (
    ('shin', {'{}_knee': 0.043, '{}_ankle': 0.027}),
    ('shoe', {'{}_ankle': 0.027, '{}_toe': 0.02}),
    ('trousers', {'{}_hip': 0.062, '{}_knee': 0.044}),
    ('trousers', {'left_hip': 0.062, 'right_hip': 0.062, 'belly': 0.055}),
    ('skin', {'collar': 0.034, 'nape': 0.032}),
    ('shirt', {'left_hip': 0.056, 'right_hip': 0.056, 'left_shoulder': 0.044, 'right_shoulder': 0.044}),
    ('arm', {'{}_shoulder': 0.04, '{}_elbow': 0.031}),
    ('arm', {'{}_elbow': 0.031, '{}_wrist': 0.023}),
    ('skin', {'{}_wrist': 0.023, '{}_hand': 0.027}),
    ('watch', {'left_wrist': 0.027}),
    ('hair', {'crown': 0.084}),
    ('skin', {'{}_ear': 0.019}),
    ('skin', {'skull': 0.077, 'chin': 0.05}),
    ('hair', {'left_parting': 0.026, 'right_parting': 0.026}),
    ('white', {'{}_eye': 0.015}),
    ('pupil', {'{}_eye': 0.009}),
    ('red', {'nose': 0.012}),
    ('red', {'left_lip': 0.006, 'right_lip': 0.006}),
)
SIDES = {'left': 1, 'right': -1}
CIRCLE = np.array(cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 0, 360, 15)) / 1000
MIN_VISIBLE, MIN_LABELLED = 7, 9  # joints of each person
CATEGORY = {
    'id': PERSON,
    'name': 'person',
    'keypoints': COCO.joint_names,
    'skeleton': [(a + 1, b + 1) for a, b in COCO.skeleton],
}


class Part(NamedTuple):
    """A convex hull of spheres."""

    spheres: np.ndarray  # (n, 4): x to the right, y down, z towards the viewer, radius; pixels
    colour: np.ndarray  # (3,) BGR, 0 to 255
    joints: frozenset[int] = frozenset()  # visible where this part is in front


class Person(NamedTuple):
    """The parts from far to near, and the joints (17, 2) in pixels."""

    parts: list[Part]
    joints: np.ndarray


def random_person(rng: np.random.Generator, yaw: float, height: float, x: float, bottom: float) -> Person:
    """A person of `height` pixels, hips at `x`, feet at `bottom`; facing the viewer at 0 degrees, right at 90."""
    camera = Rotation.from_euler('ZXY', (rng.normal(0, 8), rng.uniform(0, 14), yaw), degrees=True)
    landmarks = {name: height * camera.apply(point) * (1, -1, 1) for name, point in _pose(rng).items()}
    shift = x, bottom - max(y for _, y, _ in landmarks.values()), 0
    colours, size, parts = _colours(rng), height * rng.uniform(0.95, 1.2), []
    for key, radii in PARTS:
        for side in SIDES if '{}' in next(iter(radii)) else ('',):
            names = [name.format(side) for name in radii]
            spheres = [(*landmarks[name] + shift, size * radius) for name, radius in zip(names, radii.values())]
            joints = frozenset(COCO.joint_names.index(name) for name in names if name in COCO.joint_names)
            parts.append(Part(np.array(spheres), colours[key], joints))
    parts.sort(key=lambda part: part.spheres[:, 2].mean())
    return Person(parts, np.array([(landmarks[name] + shift)[:2] for name in COCO.joint_names]))


def random_colour(rng: np.random.Generator, saturation: tuple, value: tuple) -> np.ndarray:
    """BGR (3,), 0 to 255, of any hue, with saturation and value between two bounds each, in [0, 1]."""
    return 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def _colours(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Colours by their names in PARTS. The watch on the left wrist makes the sides distinguishable from behind."""
    skin, hair = np.array((188, 210, 246)) * rng.uniform(0.3, 1), np.array((110, 160, 220)) * rng.uniform(0.1, 1)
    shirt, trousers, shoe = (random_colour(rng, (0.1, 0.8), value) for value in ((0.45, 1), (0.2, 0.75), (0.15, 0.95)))
    arm, shin = (skin if rng.random() < 0.5 else cloth for cloth in (shirt, trousers))
    fixed = {'watch': np.array((40, 40, 220)), 'white': np.full(3, 250), 'pupil': np.full(3, 40)}
    worn = {'shirt': shirt, 'arm': arm, 'trousers': trousers, 'shin': shin, 'shoe': shoe}
    return fixed | worn | {'skin': skin, 'hair': hair, 'red': skin * (0.7, 0.7, 0.88)}


def _limb(rng: np.random.Generator, sign: int, actions: tuple) -> np.ndarray:
    """Unit vectors (2, 3) along the upper and the lower half. sign: 1 on the left, -1 on the right."""
    _, *ranges = actions[rng.choice(len(actions), p=[action[0] for action in actions])]
    forwards, sideways = np.radians(rng.uniform(*np.transpose(ranges))).reshape(2, 2).T
    down = np.cos(sideways)
    return np.stack([sign * np.sin(sideways), -down * np.cos(forwards), down * np.sin(forwards)], axis=1)


def _pose(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Landmarks (3,) of a body; everything above the hips leans together."""
    lower: dict[str, np.ndarray] = {}
    upper: dict[str, tuple | np.ndarray] = {'skull': (0, 0.417, 0.018), 'chin': (0, 0.357, 0.036)}
    upper |= {'nose': (0, 0.393, 0.103), 'crown': (0, 0.435, -0.006)}
    upper |= {'belly': (0, 0.07, 0), 'collar': (0, 0.305, 0), 'nape': (0, 0.345, 0.006)}
    for side, sign in SIDES.items():
        hip, shoulder = np.array((sign * 0.062, 0, 0)), np.array((sign * 0.107, 0.285, 0))
        (thigh, shin), (arm, forearm) = _limb(rng, sign, LEGS), _limb(rng, sign, ARMS)
        knee, elbow = hip + 0.245 * thigh, shoulder + 0.16 * arm
        ankle, wrist = knee + 0.245 * shin, elbow + 0.145 * forearm
        toe = ankle + (sign * 0.02, -0.025, 0.075)
        lower |= {f'{side}_hip': hip, f'{side}_knee': knee, f'{side}_ankle': ankle, f'{side}_toe': toe}
        upper |= {f'{side}_shoulder': shoulder, f'{side}_elbow': elbow, f'{side}_wrist': wrist}
        upper |= {f'{side}_hand': wrist + 0.04 * forearm, f'{side}_eye': (sign * 0.03, 0.415, 0.09)}
        upper |= {f'{side}_ear': (sign * 0.086, 0.401, 0.015), f'{side}_lip': (sign * 0.016, 0.359, 0.085)}
        upper[f'{side}_parting'] = (sign * 0.036, 0.469, 0.052)
    chest = Rotation.from_euler('ZXY', rng.normal((0, 6, 0), (8, 12, 12)), degrees=True)
    return lower | {name: chest.apply(point) for name, point in upper.items()}


def _people(rng: np.random.Generator, height: int, width: int) -> list[Person]:
    """One to three people side by side, some seen from behind or from the side, some cut by the border."""
    count, people = rng.choice((1, 2, 3), p=(0.45, 0.45, 0.1)), []
    for slot in rng.permutation(count):
        yaw = rng.choice((0, 180, 60, -60), p=(0.72, 0.18, 0.05, 0.05)) + rng.normal(0, 18)
        size = height * rng.uniform(0.55, 0.95) * rng.choice((1, 1.6), p=(0.88, 0.12))
        bottom = max(height, size) + height * rng.uniform(-0.1, 0.05)
        people.append(random_person(rng, yaw, size, width * (slot + rng.uniform(0.3, 0.7)) / count, bottom))
    return people


def _thing(rng: np.random.Generator, height: int, width: int) -> Part:
    """A random object: a ball, a bar or a block."""
    spheres = np.zeros((3, 4))
    spheres[:, :2] = rng.uniform((0, 0), (width, height)) + rng.normal(0, 0.1 * height, 2) * ((-1,), (0,), (1,))
    spheres[:, 3] = height * rng.uniform(0.01, 0.08)
    return Part(spheres, random_colour(rng, (0.1, 0.6), (0.35, 0.95)))


def _draw_parts(image: np.ndarray, parts: list[Part]) -> np.ndarray:
    """Draws on an image (height, width, 3) in place; returns labels (height, width): 0 nothing, k the k-th part."""
    labels = np.zeros(image.shape[:2], np.uint16)
    for number, part in enumerate(parts, start=1):
        circles = part.spheres[:, None, :2] + part.spheres[:, None, 3:] * CIRCLE
        outline = cv2.convexHull(np.int32(np.rint(16 * circles)).reshape(-1, 1, 2))
        cv2.fillConvexPoly(image, outline, part.colour.tolist(), cv2.LINE_AA, 4)
        cv2.polylines(image, [outline], True, (0.75 * part.colour).tolist(), 1, cv2.LINE_AA, 4)
        cv2.fillConvexPoly(labels, outline, number, cv2.LINE_8, 4)
    return labels


def _annotation(labels: np.ndarray, first: int, person: Person) -> dict | None:
    """COCO's fields for a person whose parts have the labels from `first` on; None where too little is visible."""
    height, width = labels.shape
    keypoints = np.zeros((len(COCO.joint_names), 3), int)
    for joint, (x, y) in enumerate(np.rint(person.joints).astype(int)):
        if 0 <= x < width and 0 <= y < height:
            part = int(labels[y, x]) - first
            visible = 0 <= part < len(person.parts) and joint in person.parts[part].joints
            keypoints[joint] = x, y, 2 if visible else 1
    labelled = np.count_nonzero(keypoints[:, 2])
    if labelled < MIN_LABELLED or np.count_nonzero(keypoints[:, 2] == 2) < MIN_VISIBLE:
        return None
    spheres = np.concatenate([part.spheres for part in person.parts])
    low = np.clip((spheres[:, :2] - spheres[:, 3:]).min(axis=0), 0, (width, height))
    high = np.clip((spheres[:, :2] + spheres[:, 3:]).max(axis=0), 0, (width, height))
    return {
        'category_id': PERSON,
        'iscrowd': 0,
        'num_keypoints': int(labelled),
        'keypoints': keypoints.ravel().tolist(),
        'bbox': np.round([*low, *(high - low)], 2).tolist(),
        'area': int(((labels >= first) & (labels < first + len(person.parts))).sum()),
    }


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """An image (height, width, 3) uint8 BGR, and COCO's annotations of its people, without ids."""
    height, width = (int(side) for side in rng.integers(200, 261, 2))
    wall, floor = (random_colour(rng, (0.03, 0.32), value) for value in ((0.7, 1), (0.5, 0.9)))
    backdrop = np.where(np.arange(height)[:, None, None] < height * rng.uniform(0.5, 0.75), wall, floor)
    backdrop = backdrop + cv2.resize(rng.normal(0, 6, (6, 6, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    behind, before = ([_thing(rng, height, width) for _ in range(rng.integers(most))] for most in (9, 2))
    annotations: list[dict | None] = [None]
    while None in annotations:
        people, image = _people(rng, height, width), np.clip(backdrop, 0, 255).astype(np.uint8)
        labels = _draw_parts(image, [*behind, *(part for person in people for part in person.parts), *before])
        firsts = (1 + len(behind) + k * len(person.parts) for k, person in enumerate(people))
        annotations = [_annotation(labels, *pair) for pair in zip(firsts, people)]
    grain = rng.uniform(1, 4) * rng.standard_normal((height, width, 1), np.float32)
    return np.clip(image + grain, 0, 255).astype(np.uint8), [one for one in annotations if one]


def _detections(people: list[dict], seed: int) -> list[dict]:
    """A box near every annotated one, as a detector would return it."""
    rng, boxes = np.random.default_rng((seed, 2)), []
    for person in people:
        x, y, w, h = person['bbox']
        left, top, right, bottom = rng.uniform(0, 0.06, 4) * (w, h, w, h)
        box = np.round([x + left, y + top, w - left - right, h - top - bottom], 2).tolist()
        found = {'image_id': person['image_id'], 'category_id': PERSON, 'bbox': box}
        boxes.append(found | {'score': round(rng.uniform(0.7, 1), 3)})
    return boxes


def _write_split(root: Path, split: str, number: int, count: int, seed: int) -> dict:
    """Writes a split's images; returns its json content. An image depends only on the seed, its split and its index."""
    images, people = [], []
    for i in tqdm(range(count), desc=f'drawing {split}', unit='image', disable=None):
        image, annotations = draw_image(np.random.default_rng((seed, number, i)))
        image_id = number * 1_000_000 + i + 1
        path = root / 'images' / split / f'COCO_{split}_{image_id:012d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), image, (cv2.IMWRITE_JPEG_QUALITY, 90)):
            raise OSError(f'cannot write {path}')
        images.append({'id': image_id, 'file_name': path.name, 'height': image.shape[0], 'width': image.shape[1]})
        people += [{'id': 10 * image_id + k, 'image_id': image_id} | one for k, one in enumerate(annotations)]
    return {'info': {'seed': seed}, 'images': images, 'annotations': people, 'categories': [CATEGORY]}


def write_dataset(root: Path, train_images: int, val_images: int, seed: int = 0) -> dict[str, int]:
    """Writes images/{train2014,val2014}, gt_json and det_json under `root`, replacing files; returns the counts."""
    train = _write_split(root, 'train2014', 0, train_images, seed)
    val = _write_split(root, 'val2014', 1, val_images, seed)
    contents = {COCO.train_json: train, COCO.val_json: val, COCO.val_boxes: _detections(val['annotations'], seed)}
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    counts = {'train images': len(train['images']), 'train people': len(train['annotations'])}
    return counts | {'val images': len(val['images']), 'val people': len(val['annotations'])}
