"""Reads COCO's keypoints json as labelling tools and research sets write it."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.checks import shown
from lib.datasets.coco_categories import category_per_joint
from lib.tools.prepare.own.categories import Row, as_key, select_categories
from lib.tools.prepare.own.export import Export, Instance, ListedImage, Repairs, Size
from lib.tools.prepare.own.formats import NEEDED, check_format, no_joints
from lib.tools.prepare.own.label_studio import separate_people
from lib.tools.prepare.own.mpii import as_coco
from lib.tools.prepare.own.repairs import numbers

# What iscrowd is of an instance that is no crowd, as text in lower case.
NO_CROWD = {'none', '0', '0.0', 'false', ''}
# What holds numbers in an annotation.
NUMBERS = {'keypoints', 'bbox', 'area', 'num_keypoints'}
# COCO-WholeBody's joints beside `keypoints`.
WHOLE_BODY = {'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts'}


def read_coco(path: Path, chosen: Sequence[str], repairs: Repairs) -> Export:
    """The labelled instances of a json file, as it gives them; also of a list in MPII's style.

    chosen: names of the categories to read; empty: all that have joints
    Raises InputError for a file of another format, and for what can be read in more than one way.
    """
    content = read_json(path, NEEDED)
    if isinstance(content, list):
        content = as_coco(content, path)
    check_format(content, path)
    images, positions = _images(_rows(content, 'images', path), path, repairs)
    if explanation := category_per_joint(content, path):
        raise InputError(explanation)
    listed = _rows(content, 'annotations', path)
    separate_people(content, path, repairs)
    rows = [*_labelled(listed, repairs)]
    if not rows:
        raise no_joints(content, path)
    names, joints, rows = select_categories(content.get('categories'), rows, chosen, path, repairs)
    instances = []
    for where, row in rows:
        image = positions.get(as_key(row.get('image_id')))
        if image is None:
            repairs.tell('instances left out, since their image is not listed', where)
        else:
            instances.append(_instance(row, image, len(joints.names), where, repairs))
    return Export(path, images, instances, joints, names)


def _rows(content: dict, key: str, path: Path) -> list[Row]:
    """The records under a key, each with its name in messages."""
    records = content[key]
    if not isinstance(records, list):
        raise InputError(f'{path}: {key} = {shown(records)} should be a list: {NEEDED}')
    rows = []
    for number, record in enumerate(records):
        where = f'{path}: {key.removesuffix("s")} {number}'
        if not isinstance(record, dict):
            raise InputError(f'{where}: {shown(record)} should be an object with named fields: correct or remove it')
        rows.append((f'{where} (id {shown(record["id"])})' if 'id' in record else where, record))
    return rows


def _images(rows: list[Row], path: Path, repairs: Repairs) -> tuple[list[ListedImage], dict[str, int]]:
    """The images, and their positions by id. An image that is listed again under its id and name is one."""
    images: list[ListedImage] = []
    positions: dict[str, int] = {}
    for where, row in rows:
        name = _name(row)
        if name is None:
            raise InputError(
                f'{where}: file_name = {shown(row.get("file_name"))} should be a text: correct or remove it'
            )
        if row.get('id') is None:
            raise InputError(f'{where}: id is missing: correct or remove it')
        earlier = positions.setdefault(as_key(row['id']), len(images))
        if earlier == len(images):
            images.append(ListedImage(name, where, _size(row), row['id']))
        elif images[earlier].name == name:
            repairs.tell('images listed several times, taken as one', where)
        else:
            raise InputError(f'{where}: the id is also that of {images[earlier].name!r}: give each image its own')
    if not images:
        raise InputError(f'{path} lists no images: {NEEDED}')
    return images, positions


def _name(row: dict) -> str | None:
    """An image's name: `file_name`, or a longer path that ends with it, as COCO Annotator gives it beside."""
    keys = ('file_name', 'filename', 'path', 'coco_url')
    names = [row[key] for key in keys if isinstance(row.get(key), str) and row[key]]
    return max((name for name in names if name.endswith(names[0])), key=len, default=None)


def _size(row: dict) -> Size | None:
    width, height = _as_numbers([row.get('width'), row.get('height')])
    if all(isinstance(side, (int, float)) and 1 < side < 1e9 for side in (width, height)):
        return int(width), int(height)
    return None


def _labelled(rows: list[Row], repairs: Repairs) -> Iterator[Row]:
    """The rows of single instances with joints."""
    for where, row in rows:
        if row.get('iscrowd') is None:
            repairs.tell('instances without iscrowd: no crowds', where)
        if str(row.get('iscrowd')).lower() not in NO_CROWD:
            repairs.tell('crowds left out', where)
        elif not isinstance(row.get('keypoints'), (list, type(None))):
            raise InputError(f'{where}: keypoints = {shown(row["keypoints"])} should be a list: correct or remove it')
        elif not any(_flat(row.get('keypoints') or [])):  # or all 0, as a box has them beside people
            repairs.tell('boxes without joints left out', where)
        else:
            if WHOLE_BODY & row.keys():
                repairs.tell('instances whose joints of feet, face and hands are not read: only keypoints is', where)
            read = {key: _as_numbers(row[key]) for key in NUMBERS & row.keys()}
            if any([read[key]] != [row[key]] for key in read):  # in lists, in which NaN is itself
                repairs.tell('instances with numbers written as text', where)
            yield where, row | read


def _flat(values: list) -> list:
    """Without the lists that some files have for each joint."""
    return [value for entry in values for value in (entry if isinstance(entry, list) else [entry])]


def _as_numbers(value: Any) -> Any:
    """A number written as text is the number, also in lists; anything else stays."""
    if isinstance(value, list):
        return [*map(_as_numbers, value)]
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if number % 1 == 0 and '.' not in value else number


def _instance(row: dict, image: int, joints: int, where: str, repairs: Repairs) -> Instance:
    """An annotation as it stands, in numbers; NaN where it has none."""
    values = [*row['keypoints']]
    if all(isinstance(entry, list) for entry in values):  # a list a joint
        values = _flat(values)
    if len(values) == 2 * joints:
        repairs.tell('instances whose joints have no visibility: visible, but for those at 0, 0', where)
        pairs = [*zip(values[::2], values[1::2])]
        values = [value for x, y in pairs for value in (x, y, 0 if (x, y) in ((0, 0), (None, None)) else 2)]
    if len(values) != 3 * joints:
        raise InputError(
            f'{where}: keypoints has {len(values)} entries, should have {3 * joints} (x, y, visibility of {joints} '
            'joints): correct or remove it'
        )
    if any(isinstance(v, float) for v in values[2::3]):
        repairs.tell('instances whose visibility is given as floats', where)
    if any(isinstance(v, bool) for v in values[2::3]):
        repairs.tell('instances whose visibility is true or false: 1 or 0', where)
        values[2::3] = [int(v) if isinstance(v, bool) else v for v in values[2::3]]
    keypoints = numbers(values, 'keypoints', where).reshape(joints, 3)
    labelled = [place for i in range(joints) if keypoints[i, 2] > 0 for place in values[3 * i : 3 * i + 2]]
    box, area = row.get('bbox'), row.get('area')
    if box and (not isinstance(box, list) or len(box) != 4):
        raise InputError(f'{where}: bbox = {shown(box)} should have 4 numbers: correct or remove it')
    return Instance(
        image=image,
        keypoints=keypoints,
        integer=all(isinstance(place, int) for place in labelled if place is not None and place == place),
        box=numbers(box, 'bbox', where) if box else np.full(4, np.nan),
        area=float(area) if isinstance(area, (int, float)) and abs(area) < 1e300 else np.nan,
        where=where,
        id=row.get('id'),
        counted=row.get('num_keypoints'),
    )
