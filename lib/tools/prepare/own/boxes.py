"""What is repaired in boxes and areas, each kind counted; what could be meant in several ways is not."""

import math

import numpy as np

from lib.datasets.checks import MAX_NUMBER
from lib.tools.check_data.labels import corners, unit_boxes
from lib.tools.prepare.own.export import Export, Instance, Repairs, Size
from lib.tools.prepare.own.repairs import refuse_most

BOXES = ('xywh', 'xyxy', 'joints')
MARGIN = 0.15  # of a box from the joints, on every side, over its longer side
# A person's area over that of the box, on average in COCO; and what it can be at least and at most.
AREA_RATIO = 0.53
AREA_RANGE = 0.001, 1.1
# Boxes that are the joints' extent: tolerance in pixels, for tools that round; areas of such boxes: relative.
ROUNDING, SAME_AREA = 1, 0.02


def repair_boxes(export: Export, reading: str | None, repairs: Repairs) -> None:
    """Boxes as x, y, width, height, and areas; from the joints or the box where they are missing.

    reading: one of BOXES; None: xywh, refused where most look like xyxy
    """
    if reading == 'xyxy':
        inverted = (export.boxes[:, 2:] <= export.boxes[:, :2]).any(axis=1) & (export.boxes != 0).any(axis=1)
        refuse_most(export, inverted, 'boxes that cannot be x1, y1, x2, y2', 'leave out --boxes xyxy')
        for instance in export.instances:
            instance.box[2:] -= instance.box[:2]
    if not reading:
        _refuse_unclear_boxes(export)
    kept = []
    for instance in export.instances:
        size, before, problem = export.images[instance.image].size, instance.box, _problem(instance, repairs)
        of_area = _area_problem(instance, not problem, size)
        if problem or reading == 'joints':
            _box_from_joints(instance, size, problem, repairs)
            if instance.box is not before and np.isclose(instance.area, before[2:].prod(), atol=1):
                of_area = of_area or 'where they were those of the boxes before'
        if not (instance.box[2:] > 0).all():
            what = 'instances without a box whose joints lie in one point left out: give them a box'
            repairs.tell(what, instance.where)
            continue
        if of_area:
            instance.area = float(AREA_RATIO * instance.box[2:].prod())
            what = f'areas from the box (times {AREA_RATIO}), on which OKS and AP by size depend, {of_area}'
            repairs.tell(what, instance.where)
        kept.append(instance)
    export.instances = kept


def _area_problem(instance: Instance, is_box_good: bool, size: Size) -> str:
    """Why an area cannot be taken as it is; '': it can.

    is_box_good: whether the box is that of the whole instance as far as can be told; size: of the image
    """
    area, points = instance.area, instance.keypoints[instance.labelled, :2]
    if not 0 < area < MAX_NUMBER:
        return 'where there was none'
    low, high = points.min(axis=0), points.max(axis=0)
    least, most = AREA_RANGE
    if area < least * (high - low).prod():
        return 'where they were next to nothing'
    if is_box_good and area <= most * instance.box[2:].prod():
        return ''
    if not instance.labelled.all() and low.max() > ROUNDING and np.isclose(area, high.prod(), rtol=SAME_AREA):
        return 'where they reached to 0, 0, as if joints that are not labelled were there'
    # A mask may be larger than a box around the joints.
    is_whole = is_box_good and not _is_tight(instance)
    return 'where they were larger than the box or image' if is_whole or area > math.prod(size) else ''


def _box_from_joints(instance: Instance, size: Size, problem: str, repairs: Repairs) -> None:
    """problem: of the box; '': it is only asked for, and stays where the joints lie in one point"""
    box = box_of_joints(instance.keypoints[instance.labelled, :2], np.array(size))
    if not problem and not (box[2:] > 0).all():
        repairs.tell('boxes kept, since the joints lie in one point', instance.where)
        return
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
    if _is_tight(instance):
        repairs.tell('boxes that end at the outer joints, kept: --boxes joints adds a margin', instance.where)
    return ''


def _is_tight(instance: Instance) -> bool:
    """Whether a box ends at the outer joints."""
    box, points = instance.box, instance.keypoints[instance.labelled, :2]
    ends = np.concatenate([points.min(axis=0) - box[:2], points.max(axis=0) - box[:2] - box[2:]])
    return bool(np.abs(ends).max() <= ROUNDING)


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
    refuse_most(export, is_ratio, 'boxes that look like ratios of the image', 'add --boxes joints', given)
    remedy = 'add --boxes xyxy if they are, --boxes xywh if not'
    refuse_most(export, is_corners, 'boxes that look like x1, y1, x2, y2', remedy, given)
