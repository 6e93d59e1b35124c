"""From repaired exports to train and val, and to json in COCO's canonical form."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.coco_categories import PERSON, plain_name
from lib.evaluation.ground_truth import MAX_DETECTIONS
from lib.tools.prepare.own.export import Export, Instance, Joints, ListedImage, Repairs
from lib.tools.prepare.own.images import ImageFiles
from lib.tools.prepare.own.split import choose_val

SPLITS = ('train', 'val')
JSON = {'train': 'person_keypoints_train.json', 'val': 'person_keypoints_val.json'}
# Joints that are never labelled are left out from this ratio on.
MANY_UNUSED = 0.5


def merge(exports: Sequence[Export], repairs: Repairs) -> Export:
    """Several files as one. Raises InputError if their joints differ."""
    first = exports[0]
    merged = dataclasses.replace(first, images=[], instances=[])
    positions: dict[str, int] = {}
    for export in exports:
        _refuse_other_joints(first, export)
        for image in export.images:
            if image.name in positions:
                repairs.tell('images that two files list, taken as one', image.where)
            else:
                positions[image.name] = len(merged.images)
                merged.images.append(image)
        for instance in export.instances:
            instance.image = positions[export.images[instance.image].name]
            merged.instances.append(instance)
    merged.instances = _once(merged.instances, repairs)
    merged.categories = tuple(dict.fromkeys(name for export in exports for name in export.categories))
    return merged


def _refuse_other_joints(first: Export, second: Export) -> None:
    if [*map(plain_name, first.joints.names)] != [*map(plain_name, second.joints.names)]:
        raise InputError(
            f'{second.path} has the joints {", ".join(second.joints.names)}, but {first.path} has '
            f'{", ".join(first.joints.names)}: prepare them one by one, under names of their own'
        )


def _once(instances: list[Instance], repairs: Repairs) -> list[Instance]:
    """Without instances whose image, joints and box an earlier one has."""
    seen, kept = set(), []
    for instance in instances:
        key = instance.image, instance.keypoints.tobytes(), instance.box.tobytes()
        if key in seen:
            repairs.tell('instances annotated twice in the same way, kept once', instance.where)
        else:
            seen.add(key)
            kept.append(instance)
    return kept


def split(train: Export, val: Export | None, ratio: float, files: ImageFiles) -> tuple[dict[str, Export], str]:
    """train and val, and how they were chosen, in words. Raises InputError if the files have images in common.

    val:   of a file of its own; None: chosen from train
    ratio: of the images with instances, for val
    """
    if val is not None:
        _refuse_other_joints(train, val)
        common = {image.name for image in train.images} & {image.name for image in val.images}
        if common:
            both = f'{val.path} and {train.path}' if val.path != train.path else f'train and val of {val.path}'
            raise InputError(
                f'{both} have {len(common):,} images in common, such as {min(common)}: take them out of one, or give '
                'no val and let --val-share choose'
            )
        return {'train': train, 'val': val}, f'val: {val.path}'
    names = [train.images[i].name for i in sorted({instance.image for instance in train.instances})]
    if len(names) < 2:
        raise InputError(f'{train.path} has 1 image with labelled instances, which cannot be split: add --val')
    chosen, how = choose_val(names, ratio, files.folder)
    return {key: _part(train, chosen, key == 'val') for key in SPLITS}, f'val: {how}'


def _part(export: Export, names: set[str], inside: bool) -> Export:
    """The images whose name is, or is not, among `names`, with their instances."""
    kept = [i for i, image in enumerate(export.images) if (image.name in names) == inside]
    positions = {old: new for new, old in enumerate(kept)}
    instances = [
        dataclasses.replace(instance, image=positions[instance.image])
        for instance in export.instances
        if instance.image in positions
    ]
    return dataclasses.replace(export, images=[export.images[i] for i in kept], instances=instances)


def drop_unused_joints(splits: dict[str, Export], repairs: Repairs) -> None:
    """Leaves out joints that no instance is labelled with if they are most: those of other categories."""
    used = np.any([(export.keypoints[..., 2] > 0).any(axis=0) for export in splits.values()], axis=0)
    joints, unused = splits['train'].joints, int((~used).sum())
    if not unused:
        return
    drop = unused > MANY_UNUSED * len(used)
    repairs.tell(
        f'joints that are never labelled, {"left out" if drop else "kept"}', joints.names[used.argmin()], unused
    )
    if not drop:
        return
    new = np.cumsum(used) - 1
    skeleton, flip_pairs = (
        tuple((int(new[a]), int(new[b])) for a, b in pairs if used[a] and used[b])
        for pairs in (joints.skeleton, joints.flip_pairs or ())
    )
    names = tuple(name for name, is_used in zip(joints.names, used) if is_used)
    for export in splits.values():
        export.joints = Joints(names, skeleton, None if joints.flip_pairs is None else flip_pairs)
        for instance in export.instances:
            instance.keypoints = instance.keypoints[used]


def tell_ids_and_crowds(splits: dict[str, Export], repairs: Repairs) -> None:
    """Images and instances get new ids: tells those of other types, and 0, which the evaluation takes for none. Tells
    images of val with more instances than AP counts.
    """
    for export in splits.values():
        _tell_new_ids(export.images, repairs, 'images')
        _tell_new_ids(export.instances, repairs, 'instances')
    val = splits['val']
    counts = np.bincount([instance.image for instance in val.instances])
    for number in np.flatnonzero(counts > MAX_DETECTIONS):
        what = (
            f'images of val with more than {MAX_DETECTIONS} instances: AP counts {MAX_DETECTIONS} detections an image'
        )
        repairs.tell(what, val.images[number].where)


def _tell_new_ids(rows: Sequence[ListedImage | Instance], repairs: Repairs, what: str) -> None:
    for row in rows:
        if row.id is not None and (type(row.id) is not int or row.id < 1):
            repairs.tell(f'{what} whose ids are not counted from 1: renumbered, and kept as original_id', row.where)


def to_json(export: Export, category: str) -> dict[str, Any]:
    """A split in COCO's format, ids counted from 1; the export's own ids are `original_id`."""
    return {
        'images': [_image(i, image) for i, image in enumerate(export.images, start=1)],
        'annotations': [_annotation(i, instance) for i, instance in enumerate(export.instances, start=1)],
        'categories': [_category(export.joints, category)],
    }


def _image(number: int, image: ListedImage) -> dict[str, Any]:
    width, height = image.told or image.size
    row = {'id': number, 'file_name': image.name, 'width': width, 'height': height}
    return row | ({} if image.id in (None, number) else {'original_id': image.id})


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
