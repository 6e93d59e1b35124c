"""What is repaired in instances, each kind counted; and what is not, because it could be meant in more than one way."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import MAX_NUMBER, shown
from lib.tools.check_data.labels import corners, unit_boxes, unit_joints
from lib.tools.prepare.own.export import Export, Instance, Repairs, Size

BOXES = ('xywh', 'xyxy', 'joints')
MARGIN = 0.15  # of a box from the joints, on every side, over its longer side
# A person's area over that of the box, on average in COCO; and what it can be at most and at least.
AREA_RATIO = 0.53
AREA_RANGE = 0.001, 1.1
# From this ratio of instances on, a file is taken to mean it so.
MOST = 0.5
# Larger numbers are no ratios of the image.
MAX_RATIO = 1.5
# Tolerance for factors between sizes, of images scaled to whole pixels.
SAME_FACTOR = 0.02
# Boxes that are the joints' extent: tolerance in pixels, for tools that round.
ROUNDING = 1


def numbers(values: Sequence[Any], field: str, where: str) -> np.ndarray:
    """(n,) float64; null is NaN. Raises InputError for anything else that is not a number."""
    for i, value in enumerate(values):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f'{where}: {field}[{i}] = {shown(value)} should be a number: correct or remove it')
    return np.array([math.nan if value is None else min(max(value, -1e300), 1e300) for value in values], np.float64)


def repair_joints(export: Export, repairs: Repairs) -> None:
    """Makes visibilities 0, 1 or 2, zeroes joints that are not labelled, and drops instances without any."""
    visibilities = export.keypoints[..., 2]
    binary = bool((visibilities == 1).any() and not (visibilities == 2).any())
    kept = []
    for instance in export.instances:
        _repair_visibility(instance, binary, repairs)
        _zero_unlabelled(instance, repairs)
        if instance.labelled.any():
            _count(instance, repairs)
            kept.append(instance)
        else:
            repairs.tell('instances without a labelled joint left out', instance.where)
    export.instances = kept


def without_place(points: np.ndarray) -> np.ndarray:
    """(K,) bool of joints (K, 3): at null or NaN, or at -1, -1 or 0, 0, where tools put joints that are not there."""
    places = points[:, :2]
    return np.isnan(places).any(axis=1) | (places == -1).all(axis=1) | (places == 0).all(axis=1)


def _repair_visibility(instance: Instance, binary: bool, repairs: Repairs) -> None:
    """binary: the file knows only labelled (1) and not labelled (0)"""
    points, v = instance.keypoints, instance.keypoints[:, 2]
    for mask, value, what in (
        (v == -1, 0, 'joints of visibility -1: not labelled'),
        (np.isnan(v) & without_place(points), 0, 'joints without visibility and coordinates: not labelled'),
        ((v > 0) & (v < 1), 2, 'joints with a confidence as visibility: visible'),
        (binary & (v == 1), 2, 'joints of visibility 1 in a file without 2: visible'),
    ):
        if mask.any():
            repairs.tell(what, instance.where, int(mask.sum()))
            v[mask] = value
    for joint in np.flatnonzero(~np.isin(v, (0, 1, 2)))[:1]:
        given = 'null' if np.isnan(v[joint]) else f'{v[joint]:g}'
        raise InputError(
            f'{instance.where}: joint {joint} has visibility {given}: write 0 (not labelled), 1 (occluded) or '
            '2 (visible)'
        )


def _zero_unlabelled(instance: Instance, repairs: Repairs) -> None:
    """Raises InputError for a labelled joint at an absurd place."""
    points = instance.keypoints
    labelled, nowhere = instance.labelled, without_place(points)
    for mask, what in (
        (labelled & nowhere, 'joints marked as labelled, but at null, NaN, -1, -1 or 0, 0: not labelled'),
        (~labelled & (points[:, :2] != 0).any(axis=1), 'joints that are not labelled: coordinates set to 0'),
    ):
        if mask.any():
            repairs.tell(what, instance.where, int(mask.sum()))
    points[~labelled | nowhere] = 0
    for joint in np.flatnonzero((np.abs(points) >= MAX_NUMBER).any(axis=1))[:1]:
        place = shown(points[joint, :2].tolist())
        raise InputError(f'{instance.where}: joint {joint} is at {place}: correct or remove it')


def _count(instance: Instance, repairs: Repairs) -> None:
    if instance.counted is None:
        repairs.tell('instances without num_keypoints: counted', instance.where)
    elif instance.counted != int(instance.labelled.sum()):
        repairs.tell('instances whose num_keypoints is not the number of labelled joints: counted', instance.where)


def place_in_pixels(export: Export, is_ratios: bool, reading: str | None) -> None:
    """Coordinates that are ratios of the image become pixels.

    is_ratios: they are, as the user says; reading: of the boxes, one of BOXES or None
    Raises InputError where most look otherwise, or where they seem to be pixels of images of another size.
    """
    points, labelled = export.keypoints[..., :2], export.keypoints[..., 2] > 0
    if not (is_ratios or export.is_ratios):
        like_ratios = unit_joints(points, labelled)
        _refuse_most(export, like_ratios, 'joints that look like ratios of the image', 'add --normalised')
        _refuse_resized(export)
        return
    like_pixels = np.any(labelled & (points > MAX_RATIO).any(axis=2), axis=1)
    _refuse_most(export, like_pixels, 'joints that look like pixels', 'leave out --normalised')
    if reading != 'joints':
        like_pixels = np.any(np.nan_to_num(export.boxes) > MAX_RATIO, axis=1)
        _refuse_most(export, like_pixels, 'boxes that look like pixels, beside ratios', 'add --boxes joints')
    for instance in export.instances:
        size = export.images[instance.image].size
        instance.keypoints[:, :2] *= size
        instance.box *= [*size, *size]
        instance.area, instance.integer = math.nan, False


def _refuse_resized(export: Export) -> None:
    """Raises InputError if most images are of another size than the file says."""
    images = [export.images[instance.image] for instance in export.instances]
    told = np.array([image.told or image.size for image in images], float).reshape(-1, 2)
    sizes = np.array([image.size for image in images], float).reshape(-1, 2)
    resized = (np.abs(told / sizes - 1) > SAME_FACTOR).any(axis=1)
    if resized.sum() > MOST * len(resized):
        i = int(resized.argmax())
        (width, height), (w, h) = told[i], sizes[i]
        remedy = 'give the images that were labelled; if only width and height are wrong, remove them'
        if (told[resized] == sizes[resized][:, ::-1]).all():
            remedy = (
                'their EXIF orientation turns them. If the joints are those of the stored pixels, remove it (exiftool '
                '-Orientation= DIR); if of the upright ones, remove width and height'
            )
        raise InputError(
            f'{images[i].where}: {width:g} x {height:g} pixels, but {images[i].name!r} has {w:g} x {h:g}, like most: '
            f'{remedy}'
        )


def repair_boxes(export: Export, reading: str | None, repairs: Repairs) -> None:
    """Boxes as x, y, width, height, and areas; from the joints or the box where they are missing.

    reading: one of BOXES; None: xywh, refused where most look like xyxy
    """
    if reading == 'xyxy':
        inverted = (export.boxes[:, 2:] <= export.boxes[:, :2]).any(axis=1) & (export.boxes != 0).any(axis=1)
        _refuse_most(export, inverted, 'boxes that cannot be x1, y1, x2, y2', 'leave out --boxes xyxy')
        for instance in export.instances:
            instance.box[2:] -= instance.box[:2]
    if not reading:
        _refuse_unclear_boxes(export)
    kept = []
    for instance in export.instances:
        problem = _problem(instance, repairs)
        if problem or reading == 'joints':
            _box_from_joints(instance, export.images[instance.image].size, problem, repairs)
        if not (instance.box[2:] > 0).all():
            repairs.tell(
                'instances without a box whose joints lie in one point left out: give them a box', instance.where
            )
            continue
        _repair_area(instance, repairs)
        kept.append(instance)
    export.instances = kept


def _repair_area(instance: Instance, repairs: Repairs) -> None:
    """An area that is missing, or that cannot be one in the box, comes from the box."""
    box, (least, most) = float(instance.box[2:].prod()), AREA_RANGE
    if least * box <= instance.area <= most * box:
        return
    wrong = np.isfinite(instance.area) and instance.area != 0
    why = 'where they were larger than the box, or next to nothing' if wrong else 'where there was none'
    repairs.tell(f'areas from the box (times {AREA_RATIO}), on which OKS and AP by size depend, {why}', instance.where)
    instance.area = AREA_RATIO * box


def _box_from_joints(instance: Instance, size: Size, problem: str, repairs: Repairs) -> None:
    """problem: of the box; '': it is only asked for, and stays where the joints lie in one point"""
    box = box_of_joints(instance.keypoints[instance.labelled, :2], np.array(size))
    if not problem and not (box[2:] > 0).all():
        repairs.tell('boxes kept, since the joints lie in one point', instance.where)
        return
    if np.isclose(instance.area, instance.box[2:].prod(), atol=1):
        instance.area = math.nan  # it was that of the box
    instance.box = box
    why = problem or 'as asked for'
    repairs.tell(f'boxes from the joints, {why}; margin: {MARGIN:.0%} of the longer side', instance.where)


def _problem(instance: Instance, repairs: Repairs) -> str:
    """Why a box cannot be taken as it is; '': it can."""
    box, points = instance.box, instance.keypoints[instance.labelled, :2]
    if not np.isfinite(box).all() or (np.abs(box) >= MAX_NUMBER).any() or not (box[2:] > 0).all():
        return 'where there was none, or one without a size'
    low, high = points.min(axis=0), points.max(axis=0)
    touches_high = np.abs(box[:2] + box[2:] - high).max() <= ROUNDING
    if touches_high and np.isin(box[:2], (0, -1)).all() and low.max() > ROUNDING and not instance.labelled.all():
        return 'where it reached to 0, 0 or -1, -1, as if joints that are not labelled were there'
    if touches_high and np.abs(box[:2] - low).max() <= ROUNDING:
        repairs.tell('boxes that end at the outer joints, kept: --boxes joints adds a margin', instance.where)
    return ''


def box_of_joints(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(4,) x, y, width, height around points (n, 2), with a margin, inside an image of size (width, height).

    Points outside the image stay inside the box. Without an extent the box is empty.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * (high - low).max()
    low, high = np.minimum(low, np.maximum(low - margin, 0)), np.maximum(high, np.minimum(high + margin, size))
    return np.concatenate([low, high - low])


def _refuse_unclear_boxes(export: Export) -> None:
    boxes, points, labelled = export.boxes, export.keypoints[..., :2], export.keypoints[..., 2] > 0
    sizes = np.array([export.images[instance.image].size for instance in export.instances]).reshape(-1, 2)
    given = np.isfinite(boxes).all(axis=1) & (boxes != 0).any(axis=1)
    is_ratio, is_corners = unit_boxes(boxes), corners(np.nan_to_num(boxes), points, labelled, sizes)
    _refuse_most(export, is_ratio, 'boxes that look like ratios of the image', 'add --boxes joints', given)
    remedy = 'add --boxes xyxy if they are, --boxes xywh if not'
    _refuse_most(export, is_corners, 'boxes that look like x1, y1, x2, y2', remedy, given)


def _refuse_most(export: Export, mask: np.ndarray, what: str, remedy: str, among: np.ndarray | None = None) -> None:
    """Raises InputError if a mask (n,) holds for most instances, or most of those in the mask `among`."""
    among = np.ones(len(mask), bool) if among is None else among
    if (mask & among).sum() > MOST * among.sum():
        first = export.instances[int((mask & among).argmax())]
        raise InputError(f'{first.where}, and {(mask & among).sum() - 1:,} more: {what}: {remedy}')
