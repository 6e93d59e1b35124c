"""What is repaired in instances, each kind counted; and what is not, because it could be meant in more than one way."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import MAX_NUMBER, shown
from lib.tools.check_data.labels import corners, unit_boxes, unit_joints
from lib.tools.prepare.own.export import Export, Instance, Repairs

MARGIN = 0.15  # of a box from the joints, on every side, over its longer side
# A person's area over that of the box, on average in COCO.
AREA_RATIO = 0.53
# From this ratio of instances on a file is taken to mean it so.
MOST = 0.5
BOXES = ('xywh', 'xyxy', 'joints')


def numbers(values: Sequence[Any], field: str, where: str) -> np.ndarray:
    """(n,) float64; null is NaN. Raises InputError for anything else that is not a number."""
    for i, value in enumerate(values):
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f'{where}: {field}[{i}] = {shown(value)} should be a number: correct or remove it')
    return np.array([math.nan if value is None else min(max(value, -1e300), 1e300) for value in values], np.float64)


def repair_joints(export: Export, repairs: Repairs) -> None:
    """Makes visibilities 0, 1 or 2, zeroes joints that are not labelled, and drops instances without any."""
    if not export.instances:
        return
    visible = np.array([instance.keypoints[:, 2] for instance in export.instances])
    binary = not (visible == 2).any() and (visible == 1).any()
    for instance in export.instances:
        _repair_visibility(instance, binary, repairs)
        _zero_unlabelled(instance, repairs)
    empty = [instance for instance in export.instances if not instance.labelled.any()]
    for instance in empty:
        repairs.tell('instances without a labelled joint left out', instance.where)
    export.instances = [instance for instance in export.instances if instance.labelled.any()]


def _repair_visibility(instance: Instance, binary: bool, repairs: Repairs) -> None:
    """binary: the file knows only labelled (1) and not labelled (0)"""
    points = instance.keypoints
    v = points[:, 2]
    if (v == -1).any():
        repairs.tell('joints of visibility -1: taken as not labelled', instance.where, int((v == -1).sum()))
        v[v == -1] = 0
    fractions = (v > 0) & (v < 1)
    if fractions.any():
        repairs.tell('joints with a confidence as visibility: taken as visible', instance.where, int(fractions.sum()))
        v[fractions] = 2
    if binary and (v == 1).any():
        repairs.tell(
            'joints of visibility 1 in a file without 2: taken as visible', instance.where, int((v == 1).sum())
        )
        v[v == 1] = 2
    nowhere = np.isnan(v) & (np.isnan(points[:, :2]).any(axis=1) | (points[:, :2] == 0).all(axis=1))
    v[nowhere] = 0
    for joint in np.flatnonzero(~np.isin(v, (0, 1, 2)))[:1]:
        value = 'null' if np.isnan(v[joint]) else f'{v[joint]:g}'
        raise InputError(
            f'{instance.where}: joint {joint} has visibility {value}: write 0 (not labelled), 1 (occluded) or '
            '2 (visible)'
        )


def _zero_unlabelled(instance: Instance, repairs: Repairs) -> None:
    points = instance.keypoints
    labelled = points[:, 2] > 0
    nowhere = np.isnan(points[:, :2]).any(axis=1) | (points[:, :2] == -1).all(axis=1)
    if count := int((labelled & nowhere).sum()):
        repairs.tell('joints marked as labelled that have no coordinates: not labelled', instance.where, count)
    if count := int((~labelled & ~(points[:, :2] == 0).all(axis=1)).sum()):
        repairs.tell('joints that are not labelled: their coordinates set to 0', instance.where, count)
    points[~labelled | nowhere] = 0
    if (far := np.abs(points) >= MAX_NUMBER).any():
        joint = int(far.any(axis=1).argmax())
        raise InputError(
            f'{instance.where}: joint {joint} is at {shown(points[joint, :2].tolist())}: correct or remove it'
        )
    labelled_now = int(instance.labelled.sum())
    if instance.counted is None:
        repairs.tell('instances without num_keypoints: counted', instance.where)
    elif instance.counted != labelled_now:
        repairs.tell('instances with another num_keypoints than labelled joints: counted', instance.where)


def to_pixels(export: Export, sizes: np.ndarray) -> None:
    """Coordinates that are ratios of the image become pixels. sizes: (images, 2) width, height"""
    for instance in export.instances:
        size = sizes[instance.image]
        instance.keypoints[:, :2] *= size
        instance.box *= [*size, *size]
        instance.area, instance.integer = np.nan, False


def repair_boxes(export: Export, sizes: np.ndarray, boxes: str | None, repairs: Repairs) -> None:
    """Boxes as x, y, width, height, and areas; from the joints or the box where they are missing.

    sizes: (images, 2) width, height
    boxes: one of BOXES; None: xywh, refused where the file seems to mean xyxy
    """
    for instance in export.instances:
        if boxes == 'xyxy':
            instance.box[2:] -= instance.box[:2]
    if not boxes:
        refuse_ambiguous(export, sizes)
    kept = []
    for instance in export.instances:
        usable = np.isfinite(instance.box).all() and (instance.box[2:] > 0).all()
        if boxes == 'joints' or not usable:
            instance.box = box_of_joints(instance.keypoints[instance.labelled, :2], sizes[instance.image])
            repairs.tell(f'boxes from the joints, with {MARGIN:.0%} of their longer side around them', instance.where)
            instance.area = np.nan
        if (instance.box[2:] <= 0).any():
            repairs.tell('instances without a box whose joints lie in one point left out', instance.where)
            continue
        if not (np.isfinite(instance.area) and instance.area > 0):
            instance.area = float(AREA_RATIO * instance.box[2:].prod())
            repairs.tell(f'areas from the box (times {AREA_RATIO}; AP by size depends on them)', instance.where)
        kept.append(instance)
    export.instances = kept


def box_of_joints(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(4,) x, y, width, height around points (n, 2), with a margin, inside an image of size (width, height).

    Points outside the image stay inside the box. Without an extent the box is empty.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * (high - low).max()
    low, high = np.minimum(low, np.maximum(low - margin, 0)), np.maximum(high, np.minimum(high + margin, size))
    return np.concatenate([low, high - low])


def refuse_ambiguous(export: Export, sizes: np.ndarray) -> None:
    """Raises InputError where most coordinates look like ratios, or boxes like corners."""
    if not export.instances:
        return
    points = np.array([instance.keypoints[:, :2] for instance in export.instances])
    labelled = np.array([instance.labelled for instance in export.instances])
    boxes = np.array([instance.box for instance in export.instances])
    of_image = sizes[[instance.image for instance in export.instances]]
    given = np.isfinite(boxes).all(axis=1)
    checks = (
        (unit_joints(points, labelled), 'joints that look like ratios of the image, not pixels', 'add --normalised'),
        (
            given & unit_boxes(boxes),
            'boxes that look like ratios of the image',
            '--boxes joints takes them from the joints',
        ),
        (
            given & corners(np.nan_to_num(boxes), points, labelled, of_image),
            'boxes that look like x1, y1, x2, y2',
            'add --boxes xyxy if they are, --boxes xywh if not',
        ),
    )
    for mask, what, remedy in checks:
        if mask.sum() > MOST * (given if 'box' in what else np.ones_like(given)).sum():
            first = export.instances[int(mask.argmax())]
            raise InputError(f'{first.where}, and {mask.sum() - 1:,} more: {what}: {remedy}')
