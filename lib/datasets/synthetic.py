"""Drawn people in COCO's published layout, so that the whole path from JPEG to AP runs on any bare machine.

A scene is painted into one map of labels, at twice the image's resolution. Coloured, the labels are the
picture; read, they tell which joints are covered. So picture and annotation cannot disagree.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.datasets.coco_categories import PERSON
from lib.datasets.description import COCO
from lib.datasets.figures import PATTERNS, Figure, Part, draw_figure, plain, random_colour
from lib.datasets.image_names import image_path

CATEGORY = {
    'supercategory': 'person',
    'id': PERSON,
    'name': 'person',
    'keypoints': COCO.joint_names,
    'skeleton': [(a + 1, b + 1) for a, b in COCO.skeleton],
}
SIZES = (200, 261)
MIN_VISIBLE, MIN_LABELLED, MIN_AREA = 7, 9, 600  # joints, joints, pixels: who shows less is left out
SHADES = (0.8, 1, 1.06)  # of a part's rim, body and lit side
ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def _place(figure: Figure, scale: float, x: float, bottom: float) -> Figure:
    """The figure in image pixels: a body height of `scale`, the hips at `x`, the lowest point at `bottom`."""
    lowest = max((part.spheres[:, 1] + part.spheres[:, 3]).max() for part in figure.parts)
    shift = np.array((x, bottom - scale * lowest, 0, 0))
    parts = [part._replace(spheres=part.spheres * scale + shift) for part in figure.parts]
    return Figure(parts, figure.joints * scale + shift[:2])


def _people(rng: np.random.Generator, height: int, width: int) -> list[Figure]:
    """One to three people side by side, some seen from behind or from the side, some cut by the border."""
    count = rng.choice((1, 2, 3), p=(0.45, 0.45, 0.1))
    people = []
    for slot in rng.permutation(count):
        yaw = rng.choice((0, 180, 60, -60), p=(0.72, 0.18, 0.05, 0.05)) + rng.normal(0, 18)
        scale = height * rng.uniform(0.6, 0.95) * (1, 0.95, 0.85)[count - 1]
        bottom = height * rng.uniform(0.9, 1)
        if rng.random() < 0.12:
            scale, bottom = scale * 1.6, scale * 1.6 + height * rng.uniform(0, 0.2)
        x = width * (slot + rng.uniform(0.3, 0.7)) / count
        people.append(_place(draw_figure(rng, yaw), scale, x, bottom))
    return people


def _flat(colour: np.ndarray, *circles: tuple) -> Part:
    """The convex hull of circles (x, y, radius)."""
    return Part(np.array([(x, y, 0, radius) for x, y, radius in circles]), plain(colour))


def _panel(colour: np.ndarray, left: float, top: float, right: float, bottom: float) -> Part:
    return _flat(colour, *((x, y, 2) for x in (left, right) for y in (top, bottom)))


def _thing(rng: np.random.Generator, x: float, y: float, size: float) -> list[Part]:
    """A ball, a box, a bush, a tree or a post that stands at x, y."""
    kind = rng.choice(('ball', 'box', 'bush', 'tree', 'post'))
    green = kind in ('bush', 'tree')
    colour = random_colour(rng, (0.18, 0.42) if green else (0, 1), (0.2, 0.65), (0.4, 0.9))
    if kind == 'ball':
        return [_flat(colour, (x, y - 0.2 * size, 0.2 * size))]
    if kind == 'box':
        left, right, top = x - 0.25 * size, x + 0.25 * size, y - size * rng.uniform(0.3, 0.6)
        lid = _panel(0.85 * colour, left - 2, top, right + 2, top + 0.05 * size)
        return [_panel(colour, left, top, right, y), lid]
    top = y - size * (0.2 if kind == 'bush' else rng.uniform(0.8, 1.3))
    wood = random_colour(rng, (0.02, 0.1), (0.3, 0.6), (0.3, 0.6))
    post = _flat(wood, (x, y, 0.04 * size), (x, top, 0.03 * size))
    leaves = ((-0.17, 0.06, 0.85), (0.17, 0.05, 0.92), (0, -0.05, 1))
    crown = [_flat(colour * shade, (x + dx * size, top + dy * size, 0.2 * size)) for dx, dy, shade in leaves]
    return [post, *crown] if green else [post]


def _backdrop(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    """Wall or sky over the floor, with soft blotches: (height, width, 3) float32."""
    wall, floor = (random_colour(rng, (0, 1), (0.03, 0.32), value) for value in ((0.7, 1), (0.5, 0.9)))
    canvas = np.where(np.arange(height)[:, None, None] < horizon, wall, floor)
    canvas = canvas * np.linspace(0.85, 1.1, height)[:, None, None]
    blotches = np.float32(rng.normal(0, 6, (6, 6, 1)) + rng.normal(0, 4, (6, 6, 3)))
    return np.float32(canvas) + cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)


def _clutter(rng: np.random.Generator, height: int, width: int, horizon: int) -> list[Part]:
    """Pictures or windows above the horizon, lines anywhere, things on the floor."""
    parts = []
    for _ in range(rng.integers(0, 5)):
        x, y, w, h = rng.uniform((0, 0, 10, 10), (width, 0.8 * horizon, 30, 30))
        colour = random_colour(rng, (0, 1), (0.05, 0.5), (0.5, 1))
        parts.append(_panel(0.7 * colour, x - w, y - h, x + w, y + h))
        parts.append(_panel(colour, x - w + 4, y - h + 4, x + w - 4, y + h - 4))
    for _ in range(rng.integers(0, 4)):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        colour, thickness = random_colour(rng, (0, 1), (0, 0.4), (0.3, 0.9)), rng.uniform(0.5, 1.5)
        parts.append(_flat(colour, *((x, y, thickness) for x, y in ends)))
    for y in sorted(rng.uniform(horizon + 5, height, rng.integers(1, 5))):
        parts += _thing(rng, rng.uniform(0, width), y, height * rng.uniform(0.25, 0.5))
    return parts


def _cast_shadows(backdrop: np.ndarray, people: list[Figure]) -> None:
    """Darkens the floor under the people, in place."""
    light = np.ones(backdrop.shape[:2], np.float32)
    for part in (part for figure in people for part in figure.parts if part.shows & {15, 16}):
        x, y, _, radius = part.spheres.max(axis=0)
        axes = (int(4 * radius), int(1.2 * radius))
        cv2.ellipse(light, (int(x), int(y)), axes, 0, 0, 360, 0.8, -1, cv2.LINE_AA)
    backdrop *= light[..., None]


def _paint(parts: list[Part], height: int, width: int) -> np.ndarray:
    """Labels (2 height, 2 width) uint16: 0 nothing, 3k + 1, 2, 3 the rim, body and lit side of part k."""
    labels = np.zeros((2 * height, 2 * width), np.uint16)
    spheres = np.concatenate([part.spheres for part in parts])[:, None]
    middle, radius = 2 * spheres[..., :2] + 0.5, 2 * spheres[..., 3:]
    radii = (radius, radius - np.minimum(0.16 * radius, 2), 0.5 * radius)
    outlines = np.stack([middle + size * CIRCLE for size in radii])
    outlines[2] -= 0.25 * radius
    outlines = np.int32(np.round(16 * outlines))
    end = 0
    for k, part in enumerate(parts):
        start, end = end, end + len(part.spheres)
        for shade in range(3):
            outline = cv2.convexHull(outlines[shade, start:end].reshape(-1, 1, 2))
            cv2.fillConvexPoly(labels, outline, 3 * k + 1 + shade, cv2.LINE_8, 4)
    return labels


def _tint(rng: np.random.Generator, labels: np.ndarray, parts: list[Part], backdrop: np.ndarray) -> np.ndarray:
    """The picture (height, width, 3) uint8 of a map of labels over a backdrop."""
    colours = np.stack([part.colours for part in parts], axis=1)[:, :, None] * np.reshape(SHADES, (3, 1))
    palette = np.zeros((len(PATTERNS), 1 + 3 * len(parts), 4), np.uint8)
    palette[:, 1:, :3] = np.clip(colours, 0, 255).reshape(len(PATTERNS), -1, 3)
    palette[:, 1:, 3] = 255
    height, width = labels.shape
    stripe = rng.integers(5, 10)
    row, column = (palette.shape[1] * np.uint16(np.arange(n) // stripe % 2) for n in (height, width))
    index = labels + row[:, None] + 2 * column
    layer = np.take(palette.view(np.uint32), index).view(np.uint8).reshape(height, width, 4)
    layer = cv2.resize(layer, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    grain = rng.uniform(1, 4) * rng.standard_normal((height // 2, width // 2, 1), np.float32)
    image = layer[..., :3] + backdrop * (1 - layer[..., 3:] / np.float32(255)) + grain
    return np.clip(image, 0, 255).astype(np.uint8)


def _annotation(labels: np.ndarray, pixels: np.ndarray, first: int, figure: Figure) -> dict | None:
    """COCO's fields for a person; None where too little is to be seen.

    labels: as `_paint` returns them; pixels: how many of each part; first: number of the first part
    """
    height, width = labels.shape[0] // 2, labels.shape[1] // 2
    keypoints = np.zeros((len(COCO.joint_names), 3), int)
    for joint, (x, y) in enumerate(np.rint(figure.joints).astype(int)):
        if 0 <= x < width and 0 <= y < height:
            part = (int(labels[2 * y, 2 * x]) - 1) // 3 - first
            seen = 0 <= part < len(figure.parts) and joint in figure.parts[part].shows
            keypoints[joint] = x, y, 2 if seen else 1
    area = sum(int(count) for count, part in zip(pixels[first:], figure.parts) if part.is_body) / 4
    labelled, visible = ((keypoints[:, 2] >= least).sum() for least in (1, 2))
    if labelled < MIN_LABELLED or visible < MIN_VISIBLE or area < MIN_AREA:
        return None
    spheres = np.concatenate([part.spheres for part in figure.parts if part.is_body])
    low = np.clip((spheres[:, :2] - spheres[:, 3:]).min(axis=0), 0, (width, height))
    high = np.clip((spheres[:, :2] + spheres[:, 3:]).max(axis=0), 0, (width, height))
    return {
        'category_id': PERSON,
        'iscrowd': 0,
        'num_keypoints': int(labelled),
        'keypoints': keypoints.ravel().tolist(),
        'bbox': np.round([*low, *(high - low)], 2).tolist(),
        'area': area,
    }


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """A picture (height, width, 3) uint8 BGR, and COCO's fields of everybody in it, without ids."""
    height, width = (int(side) for side in rng.integers(*SIZES, 2))
    horizon = int(height * rng.uniform(0.5, 0.75))
    people, annotations = [], [None]
    backdrop, clutter = _backdrop(rng, height, width, horizon), _clutter(rng, height, width, horizon)
    near = _thing(rng, rng.uniform(0, width), height * rng.uniform(0.95, 1.1), height * rng.uniform(0.25, 0.45))
    near = near if rng.random() < 0.15 else []
    while None in annotations:
        people = [person for person, kept in zip(people, annotations) if kept] or _people(rng, height, width)
        parts = clutter + [part for person in people for part in person.parts] + near
        labels = _paint(parts, height, width)
        pixels = np.bincount(labels.ravel(), minlength=3 * len(parts) + 1)[1:].reshape(-1, 3).sum(axis=1)
        firsts = np.cumsum([len(clutter), *(len(person.parts) for person in people)])
        annotations = [_annotation(labels, pixels, *pair) for pair in zip(firsts, people)]
    _cast_shadows(backdrop, people)
    return _tint(rng, labels, parts, backdrop), annotations


def _detections(content: dict, seed: int) -> list[dict]:
    """A box near every annotated one, as a person detector would find it."""
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    boxes = []
    for person in content['annotations']:
        rng = np.random.default_rng((seed, 2, person['id']))
        x, y, w, h = person['bbox']
        corners = np.array(((x, y), (x + w, y + h))) + rng.normal(0, 0.025, (2, 2)) * (w, h)
        low, high = np.clip(corners, 0, sizes[person['image_id']])
        box = {'bbox': np.round([*low, *(high - low)], 2).tolist(), 'score': round(rng.uniform(0.7, 1), 3)}
        boxes.append({'image_id': person['image_id'], 'category_id': PERSON} | box)
    return boxes


def _write_split(root: Path, split: str, number: int, count: int, seed: int) -> dict:
    """Draws a split's images; returns its json. Ids depend on the split and the position alone."""
    images, people = [], []
    for i in tqdm(range(count), desc=f'drawing {split}', unit='image', disable=None):
        image, annotations = draw_image(np.random.default_rng((seed, number, i)))
        image_id = number * 1_000_000 + i + 1
        name = f'COCO_{split}_{image_id:012d}.jpg'
        path = root / 'images' / image_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), image, (cv2.IMWRITE_JPEG_QUALITY, 90)):
            raise OSError(f'cannot write {path}')
        images.append({'id': image_id, 'file_name': name, 'height': image.shape[0], 'width': image.shape[1]})
        ids = ({'id': 10 * image_id + k, 'image_id': image_id} for k in range(len(annotations)))
        people += [fields | annotation for fields, annotation in zip(ids, annotations)]
    info = {'description': 'drawn people', 'seed': seed}
    return {'info': info, 'images': images, 'annotations': people, 'categories': [CATEGORY]}


def write_dataset(root: Path, train_images: int, val_images: int, seed: int = 0) -> dict[str, int]:
    """Writes images/{train2014,val2014}, gt_json and det_json under `root`; returns the counts.

    An image depends on the seed, its split and its position alone. Files already there are written over; the
    json files come last.
    """
    train = _write_split(root, 'train2014', 0, train_images, seed)
    val = _write_split(root, 'val2014', 1, val_images, seed)
    for name, content in (
        (COCO.train_json, train),
        (COCO.val_json, val),
        (COCO.val_boxes, _detections(val, seed)),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    counts = {'train images': len(train['images']), 'train people': len(train['annotations'])}
    return counts | {'val images': len(val['images']), 'val people': len(val['annotations'])}
