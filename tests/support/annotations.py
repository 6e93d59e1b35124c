"""Annotation files with something changed or wrong in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.files import read_json
from lib.datasets.description import COCO
from lib.datasets.image_names import image_path


def write_json(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


MISSING = object()
Change = Callable[[Any], Any]


def change(part: str | None = None, index: int = 1, **fields: Any) -> Change:
    """Gives a record of a json file (a list, or its list called `part`) other fields, or takes some away."""

    def apply(content: Any) -> Any:
        record = (content[part] if part else content)[index]
        for name, value in fields.items():
            if value is MISSING:
                del record[name]
            else:
                record[name] = value
        return content

    return apply


def change_all(part: str, **fields: Any) -> Change:
    """The same for every record."""

    def apply(content: Any) -> Any:
        for index in range(len(content[part])):
            change(part, index, **fields)(content)
        return content

    return apply


def replace(**parts: Any) -> Change:
    """Gives the file other lists, or takes some away."""
    return lambda content: {name: value for name, value in {**content, **parts}.items() if value is not MISSING}


def instead(content: Any) -> Change:
    """Another content altogether."""
    return lambda _: content


def with_joint(joint: int, *values: Any) -> Change:
    """Gives annotation 1 another joint: x, y, visibility."""

    def apply(content: Any) -> Any:
        content['annotations'][1]['keypoints'][3 * joint : 3 * joint + 3] = values
        return content

    return apply


def coco_with(synthetic_coco: Path, root: Path, changes: dict[str, Change]) -> Path:
    """The synthetic people again, with some of their json files changed; images are shared."""
    for name in (COCO.train_json, COCO.val_json, COCO.val_boxes):
        write_json(root / name, changes.get(name, lambda content: content)(read_json(synthetic_coco / name)))
    (root / 'images').symlink_to(synthetic_coco / 'images')
    return root


def one_image(synthetic_coco: Path, root: Path, file_name: str = '') -> Path:
    """A training set of one image and its people, whose path it returns; the image itself is not there yet."""
    content = read_json(synthetic_coco / COCO.train_json)
    image = content['images'][0]
    people = [person for person in content['annotations'] if person['image_id'] == image['id']]
    image['file_name'] = file_name or image['file_name']
    write_json(root / COCO.train_json, {**content, 'images': [image], 'annotations': people})
    path = root / 'images' / image_path(image['file_name'])
    path.parent.mkdir(parents=True)
    return path


def mpii_people(count: int = 3) -> list[dict]:
    """Records in MPII's json form, of images that are not there."""
    rng = np.random.default_rng(0)
    return [
        {
            'image': f'{i}.jpg',
            'center': [100.0, 80.0],
            'scale': 1.5,
            'joints': rng.uniform(10, 90, (16, 2)).round(1).tolist(),
            'joints_vis': [1] * 16,
        }
        for i in range(count)
    ]
