"""Small random exports of labelling tools, as hypothesis draws them, and random damage to them."""

import contextlib
import copy
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

FILES = ('a.png', 'b 1.png', 'c/é.png', 'c/f2.png', 'c/f3.png', 'D.jpeg')
# A name in two folders, and files that are no pictures.
OTHERS = ('x/twice.png', 'y/twice.png', 'cut.jpg', 'empty.png', 'text.png')
JOINTS = ('nose', 'left_eye', 'right_eye', 'tail', 'hip')


def size_of(image: int) -> tuple[int, int]:
    """(width, height) of an image by its number: powers of 2, so that ratios of them are exact."""
    return ((64, 32), (32, 64), (64, 64))[image % 3]


def write_images(folder: Path) -> Path:
    """Writes FILES and OTHERS."""
    for i, name in enumerate((*FILES, *OTHERS)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size_of(i)
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    (folder / 'cut.jpg').write_bytes((folder / 'cut.jpg').read_bytes()[:700])
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'text.png').write_bytes(b'not a picture')
    return folder


@contextlib.contextmanager
def fresh(images: Path) -> Iterator[Path]:
    """A folder beside the images for one example: hypothesis runs many in one test."""
    folder = Path(tempfile.mkdtemp(dir=images.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _person(rng: np.random.Generator, size: tuple[int, int], joints: int) -> dict:
    points = np.column_stack([rng.integers(8, 4 * side - 8, joints) / 4 for side in size])
    if rng.random() < 0.3:
        points = np.floor(points)
    visible = rng.choice((0, 1, 2), joints)
    visible[rng.integers(joints)] = 2
    points[visible == 0] = 0
    low, high = (getattr(points[visible > 0], end)(axis=0) for end in ('min', 'max'))
    (x, y), (width, height) = (low - 2).tolist(), (high - low + 4).tolist()
    whole = (points % 1 == 0).all()
    values = (points.astype(int) if whole else points).tolist()
    return {
        'keypoints': [value for point, v in zip(values, visible.tolist()) for value in (*point, v)],
        'num_keypoints': int((visible > 0).sum()),
        'bbox': [x, y, width, height],
        'area': width * height / 2,
    }


def coco_export(count: int, joints: int, seed: int, first: int = 0) -> dict:
    """COCO annotations of so many images, from the one of this number, and 1 to 3 people in each."""
    rng, people, images = np.random.default_rng(seed), [], []
    for i in range(count):
        (width, height), image = size_of(first + i), i + 1
        images.append({'id': image, 'file_name': FILES[first + i], 'width': width, 'height': height})
        for _ in range(rng.integers(1, 4)):
            ids = {'id': len(people) + 1, 'image_id': image, 'category_id': 1, 'iscrowd': 0}
            people.append(ids | _person(rng, (width, height), joints))
    category = {'id': 1, 'name': 'cat', 'keypoints': [*JOINTS[:joints]], 'skeleton': [[1, joints]]}
    return {'images': images, 'annotations': people, 'categories': [category]}


def coco_exports() -> st.SearchStrategy[dict]:
    return st.builds(coco_export, st.integers(2, 6), st.integers(1, 5), st.integers(0, 9))


@st.composite
def yolo_exports(draw: st.DrawFn) -> tuple[dict, dict[str, list[str]]]:
    """A data.yaml, and the lines of the label file of each image."""
    content = draw(coco_exports())
    names = content['categories'][0]['keypoints']
    lines: dict[str, list[str]] = {image['file_name']: [] for image in content['images']}
    for row in content['annotations']:
        image = content['images'][row['image_id'] - 1]
        size = image['width'], image['height']
        x, y, *extent = row['bbox']
        values: list[Any] = [0, *ratios([x + extent[0] / 2, y + extent[1] / 2, *extent], size)]
        for joint in range(len(names)):
            *point, v = row['keypoints'][3 * joint : 3 * joint + 3]
            values += [*ratios(point, size), v]
        lines[image['file_name']].append(' '.join(map(str, values)))
    mirrors = [*range(len(names))]
    if len(names) > 2:
        mirrors[1:3] = 2, 1
    content = {'path': '.', 'train': 'images', 'kpt_shape': [len(names), 3], 'flip_idx': mirrors, 'names': {0: 'cat'}}
    return content | {'kpt_names': {0: names}}, lines


def ratios(values: list[float], size: tuple[int, int]) -> list[float]:
    return [value / size[i % 2] for i, value in enumerate(values)]


NUMBERS = (0, 1, -1, 2, 3, -5.5, 0.5, 2.0, 40, math.nan, math.inf, -math.inf, 1e308, 1e12, 10**30, 10**400, 2**63)
OTHER_VALUES = (None, True, False, '', 'x', '1', '12.5', [], [[]], [[1, 2], [3]], {}, {'a': 1}, 'é\ud800', 'a' * 300)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.sampled_from((*NUMBERS, *OTHER_VALUES)) | st.recursive(SCALARS, lambda own: st.lists(own, max_size=4))
# What becomes of a text: {} is it, or the name of a file.
TEXTS = (
    *('{}', '/{}', './{}', '../{}', '{}/', '{}.jpg', '{}\n', '\0{}', '\x1b[31m{}', 'z/' * 600 + '{}', '*{}', '~/{}'),
    *('images\\{}', 'C:\\me\\{}', 'images/./x/../{}', '%2F{}', '/data/u/?d=x/{}'),
    *('http://h/x/{}', 'http://[{}', 'file://{}', 's3://b/{}?a=1#{}'),
)


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value in a json content, outermost first."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def damage(draw: st.DrawFn, content: Any) -> None:
    """Changes one value at any place in a json content, takes it away, doubles it, or puts another one there."""
    kinds: dict[tuple, list[tuple]] = {}
    for path in places(content):
        kinds.setdefault(tuple('' if isinstance(key, int) else key for key in path), []).append(path)
    if not kinds:
        return
    anywhere = st.sampled_from([*kinds.values()]).flatmap(st.sampled_from)
    path, parent = draw(anywhere), content
    for key in path[:-1]:
        parent = parent[key]
    kind, value = draw(st.sampled_from(('change', 'change', 'remove', 'wrap', 'twice', 'other'))), parent[path[-1]]
    if kind == 'remove':
        del parent[path[-1]]
    elif kind == 'wrap':
        parent[path[-1]] = [value]
    elif kind == 'twice' and isinstance(parent, list):
        parent.insert(path[-1], copy.deepcopy(value))
    elif kind == 'other':
        other = content
        for key in draw(anywhere):
            other = other[key]
        parent[path[-1]] = copy.deepcopy(other)
    elif isinstance(value, str) and draw(st.booleans()):
        parent[path[-1]] = draw(st.sampled_from(TEXTS)).replace('{}', draw(st.sampled_from((value, *FILES, *OTHERS))))
    else:
        parent[path[-1]] = copy.deepcopy(draw(VALUES))


TOKENS = ('', '-1', '1', '2', '3', '0.5', 'nan', 'inf', '1e999', 'x', '1,5', '-0.25', '2.0', '1_0', '٣', '\0')


def damage_line(draw: st.DrawFn, line: str) -> str:
    """Changes one number in a line of a label file, takes it away, or doubles it."""
    parts = line.split(' ')
    i = draw(st.integers(0, len(parts) - 1))
    parts[i : i + 1] = draw(st.sampled_from(([], [parts[i]] * 2, *([token] for token in TOKENS))))
    return ' '.join(parts)


def damage_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """Cuts a file off, changes a byte, or gives it another encoding."""
    i = draw(st.integers(0, len(raw) - 1))
    kinds = (raw[:i], raw[:i] + bytes([draw(st.integers(0, 255))]) + raw[i + 1 :], b'\xef\xbb\xbf' + raw, raw + raw[:i])
    return draw(st.sampled_from((*kinds, raw.decode().encode('utf-16'))))
