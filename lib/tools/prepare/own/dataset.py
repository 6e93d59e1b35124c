"""From repaired exports to train and val, and to json in COCO's canonical form."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.coco_categories import PERSON, plain_name
from lib.tools.prepare.own.export import Export, Instance, Joints, Repairs
from lib.tools.prepare.own.split import split_names

SPLITS = ('train', 'val')


def merge(exports: Sequence[Export], repairs: Repairs) -> Export:
    """Several files as one. Raises InputError if their joints differ."""
    first = exports[0]
    merged = dataclasses.replace(first, images=[], instances=[])
    positions: dict[str, int] = {}
    for export in exports:
        if [*map(plain_name, export.joints.names)] != [*map(plain_name, first.joints.names)]:
            raise InputError(
                f'{export.path} has the joints {", ".join(export.joints.names)}, but {first.path} has '
                f'{", ".join(first.joints.names)}: prepare them one by one, under names of their own'
            )
        for picture in export.images:
            if picture.name in positions:
                repairs.tell('images that two files list, taken as one', picture.where)
            else:
                positions[picture.name] = len(merged.images)
                merged.images.append(picture)
        for instance in export.instances:
            instance.image = positions[export.images[instance.image].name]
            merged.instances.append(instance)
    merged.categories = tuple(dict.fromkeys(name for export in exports for name in export.categories))
    return merged


def split(train: Export, val: Export | None, ratio: float) -> tuple[dict[str, Export], str]:
    """train and val, and how they were chosen, in words. Raises InputError if the files have images in common.

    val:   of a file of its own; None: chosen from train
    ratio: of the images with instances, for val
    """
    if val is not None:
        common = {picture.name for picture in train.images} & {picture.name for picture in val.images}
        if common:
            raise InputError(
                f'{val.path} and {train.path} have {len(common):,} images in common, such as {min(common)}: '
                'take them out of one, or leave out --val and let --val-share choose'
            )
        return {'train': train, 'val': val}, f'val: {val.path}'
    names = [train.images[i].name for i in sorted({instance.image for instance in train.instances})]
    if len(names) < 2:
        raise InputError(
            f'{train.path} has {len(names)} image with labelled instances, which cannot be split: add --val'
        )
    chosen, how = split_names(names, ratio)
    return {'train': _part(train, chosen, False), 'val': _part(train, chosen, True)}, f'val: {how}'


def _part(export: Export, names: set[str], inside: bool) -> Export:
    """The images whose name is, or is not, among `names`, with their instances."""
    positions = {i: None for i, picture in enumerate(export.images) if (picture.name in names) == inside}
    places = {old: new for new, old in enumerate(positions)}
    instances = [
        dataclasses.replace(instance, image=places[instance.image])
        for instance in export.instances
        if instance.image in places
    ]
    return dataclasses.replace(export, images=[export.images[i] for i in places], instances=instances)


def to_json(export: Export, category: str) -> dict[str, Any]:
    """A split in COCO's format, ids counted from 1; the export's own ids are `original_id`."""
    images = [
        {'id': i, 'file_name': picture.name, 'width': picture.size[0], 'height': picture.size[1]}  # type: ignore[index]
        | ({} if picture.id in (None, i) else {'original_id': picture.id})
        for i, picture in enumerate(export.images, start=1)
    ]
    return {
        'images': images,
        'annotations': [_annotation(i, instance) for i, instance in enumerate(export.instances, start=1)],
        'categories': [_category(export.joints, category)],
    }


def _annotation(number: int, instance: Instance) -> dict[str, Any]:
    kind = int if instance.integer else float
    values = [value for x, y, v in instance.keypoints.tolist() for value in (kind(x), kind(y), int(v))]
    return {
        'id': number,
        'image_id': instance.image + 1,
        'category_id': PERSON,
        'iscrowd': 0,
        'bbox': instance.box.tolist(),
        'area': instance.area,
        'num_keypoints': int(instance.labelled.sum()),
        'keypoints': values,
    } | ({} if instance.id in (None, number) else {'original_id': instance.id})


def _category(joints: Joints, name: str) -> dict[str, Any]:
    limbs = [[a + 1, b + 1] for a, b in joints.skeleton]
    return {'id': PERSON, 'name': name, 'keypoints': list(joints.names), 'skeleton': limbs}


def arrays(export: Export) -> tuple[np.ndarray, np.ndarray]:
    """keypoints (n, K, 3) and boxes (n, 4) of all instances."""
    keypoints = np.array([instance.keypoints for instance in export.instances])
    return keypoints, np.array([instance.box for instance in export.instances])
