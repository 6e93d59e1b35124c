"""Reads COCO's keypoints json as labelling tools and research sets write it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.checks import shown
from lib.datasets.coco_categories import category_per_joint
from lib.tools.prepare.own.categories import select_categories
from lib.tools.prepare.own.export import Export, Instance, Picture, Repairs
from lib.tools.prepare.own.repairs import numbers

# Keys that other formats have at the top -> whose they are.
OTHER_FORMATS = {
    'shapes': "labelme's",
    'items': "Datumaro's own",
    '_via_img_metadata': "the VGG Image Annotator's",
    'item': "Darwin's",
}
NEEDED = 'export it as COCO keypoints: an object with images, annotations and categories'
NAME_KEYS = ('file_name', 'filename', 'path', 'coco_url')


def read_coco(path: Path, chosen: Sequence[str], repairs: Repairs) -> Export:
    """The labelled instances of a json file, as it gives them.

    chosen: names of the categories to read; empty: all that have joints
    Raises InputError for a file of another format, and for what can be read in more than one way.
    """
    content = read_json(path, NEEDED)
    images, positions = _images(_rows(content, 'images', path), path, repairs)
    if explanation := category_per_joint(content, path):
        raise InputError(explanation)
    rows = [*_labelled(_rows(content, 'annotations', path), path, repairs)]
    names, joints, rows = select_categories(content.get('categories'), rows, chosen, path, repairs)
    instances = []
    for where, row in rows:
        image = positions.get(_key(row.get('image_id')))
        if image is None:
            repairs.tell('instances left out, since their image is not listed', where)
        else:
            instances.append(_instance(row, image, len(joints.names), where, repairs))
    return Export(path, images, instances, joints, names)


def _rows(content: Any, key: str, path: Path) -> list[tuple[str, dict]]:
    """The records under a key, each with its name in messages."""
    records = content.get(key) if isinstance(content, dict) else None
    if not isinstance(records, list):
        others = [whose for other, whose in OTHER_FORMATS.items() if isinstance(content, dict) and other in content]
        whose = f'is in {others[0]} format' if others else f'has no list of {key}'
        raise InputError(f'{path} {whose}: {NEEDED}')
    rows = []
    for number, record in enumerate(records):
        where = f'{path}: {key.removesuffix("s")} {number}'
        if not isinstance(record, dict):
            raise InputError(f'{where}: {shown(record)} should be an object with named fields: correct or remove it')
        rows.append((f'{where} (id {shown(record["id"])})' if 'id' in record else where, record))
    return rows


def _key(value: Any) -> str:
    """An id of any type for comparison: 5, 5.0 and '5' are the same."""
    return str(int(value)) if isinstance(value, float) and value % 1 == 0 else str(value)


def _images(rows: list[tuple[str, dict]], path: Path, repairs: Repairs) -> tuple[list[Picture], dict[str, int]]:
    """The images, and their positions by id. An image that is listed again under its id and name is one."""
    images: list[Picture] = []
    positions: dict[str, int] = {}
    for where, row in rows:
        name = next((row[key] for key in NAME_KEYS if isinstance(row.get(key), str) and row[key]), None)
        if name is None or 'id' not in row:
            missing = 'id' if name else 'file_name'
            raise InputError(f'{where}: {missing} is missing: correct or remove it')
        size = row.get('width'), row.get('height')
        known = all(isinstance(side, (int, float)) and side > 0 for side in size)
        picture = Picture(name, where, (int(size[0]), int(size[1])) if known else None, row['id'])  # type: ignore
        earlier = positions.setdefault(_key(row['id']), len(images))
        if earlier == len(images):
            images.append(picture)
        elif images[earlier].name == name:
            repairs.tell('images listed twice, kept once', where)
        else:
            raise InputError(f'{where}: the id is also that of {images[earlier].name!r}: give each image its own')
    if not images:
        raise InputError(f'{path} lists no images: {NEEDED}')
    return images, positions


def _labelled(rows: list[tuple[str, dict]], path: Path, repairs: Repairs) -> Iterator[tuple[str, dict]]:
    """The rows of single instances with joints."""
    for where, row in rows:
        if row.get('iscrowd') not in (None, 0, False, '0'):
            repairs.tell('crowds left out', where)
        elif not isinstance(row.get('keypoints'), (list, type(None))):
            raise InputError(f'{where}: keypoints = {shown(row["keypoints"])} should be a list: correct or remove it')
        elif not row.get('keypoints'):
            repairs.tell('boxes without joints left out', where)
        else:
            yield where, row


def _instance(row: dict, image: int, joints: int, where: str, repairs: Repairs) -> Instance:
    """An annotation as it stands, in numbers; NaN where it has none."""
    values = row['keypoints']
    if all(isinstance(entry, list) for entry in values):  # a list a joint
        values = [value for entry in values for value in entry]
    if len(values) == 2 * joints and len(values) % 3:
        repairs.tell('instances whose joints have no visibility: taken as visible', where)
        values = [value for x, y in zip(values[::2], values[1::2]) for value in (x, y, None if x is None else 2)]
    if len(values) != 3 * joints:
        raise InputError(
            f'{where}: keypoints has {len(values)} entries, should have {3 * joints} (x, y, visibility of {joints} '
            'joints): correct or remove it'
        )
    keypoints = numbers(values, 'keypoints', where).reshape(joints, 3)
    box, area = row.get('bbox'), row.get('area')
    if box and (not isinstance(box, list) or len(box) != 4):
        raise InputError(f'{where}: bbox = {shown(box)} should have 4 numbers: correct or remove it')
    return Instance(
        image=image,
        keypoints=keypoints,
        integer=all(isinstance(value, int) or value is None for i, value in enumerate(values) if i % 3 < 2),
        box=numbers(box, 'bbox', where) if box else np.full(4, np.nan),
        area=float(area) if isinstance(area, (int, float)) else np.nan,
        where=where,
        id=row.get('id'),
        counted=row.get('num_keypoints'),
    )
