"""check_data's comparison of boxes, joints and images with one another."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from lib.datasets.checks import Issue, Report, shown
from lib.datasets.exif import UPRIGHT
from lib.tools.check_data.images import Picture
from lib.tools.check_data.records import Group, Listing

# Boxes are taken for corners if, read as x, y, width, height, they leave the image by REACH of its size, or if read as
# corners their IoU with the joints is better by BETTER_FIT. This holds for 0.2 % of COCO's boxes (2 % if enlarged by
# half) and for over 60 % of real corners; at least CORNER_RATIO of a file's boxes have to look like that.
REACH, BETTER_FIT, CORNER_RATIO = 0.05, 0.2, 0.1
# Distance outside the box, over its longer side, from which one joint, or most joints, are reported. COCO: 0.5 and 0.2.
FAR_ONE, FAR_MOST = 0.75, 0.35
# Tolerance for what should lie inside an image or a box, over its size.
IMAGE_SLACK, BOX_SLACK = 0.02, 0.1


def compare_with_images(listing: Listing, found: dict[Path, Picture | Issue], report: Report) -> None:
    """Reports labels that do not fit the images or one another. found: file -> image, or its issue"""
    pictures = {name: picture for name in listing.sizes if isinstance(picture := found[listing.folder / name], Picture)}
    joints = defaultdict(list)  # of images that are trained or tested on
    for group in listing.groups:
        indices = np.array([i for i, name in enumerate(group.names) if name in pictures], int)
        if len(indices):
            _compare_group(group, indices, [pictures[group.names[i]] for i in indices], report)
        for name, keypoints in zip(group.names, group.keypoints):
            joints[name].append(keypoints[keypoints[:, 2] > 0, :2])
    for name, picture in pictures.items():
        told, (width, height), sizes = listing.sizes[name], picture.size, [picture.size]
        if picture.orientation != UPRIGHT and name in joints:
            _report_orientation(name, picture, told, np.concatenate(joints[name]), report)
            sizes.append(picture.stored_size)
        if told is not None and told not in sizes:
            text = f'{width} x {height} pixels, its record says {shown(told[0])} x {shown(told[1])}'
            report(Issue.SIZE, f'image {name}: {text}')


def _report_orientation(name: str, picture: Picture, told: tuple | None, joints: np.ndarray, report: Report) -> None:
    """Reports an image with an EXIF orientation, and whether its labels seem to be for the stored pixels.

    told: its size by its record; joints: (n, 2)
    """
    size, stored = picture.size, picture.stored_size
    text = f'image {name}: EXIF orientation {picture.orientation}, {size[0]} x {size[1]} pixels upright'
    inside, inside_stored = (
        ((joints >= 0) & (joints <= np.array(shape) * (1 + IMAGE_SLACK))).all(axis=1) for shape in (size, stored)
    )
    if told == stored != size:
        report(Issue.STORED, f'{text}, its record says {stored[0]} x {stored[1]}')
    elif inside_stored.all() and not inside.all():
        x, y = joints[~inside][0]
        report(Issue.STORED, f'{text}, {stored[0]} x {stored[1]} stored: it has a joint at ({x:g}, {y:g})')
    else:
        report(Issue.EXIF, text)


def _compare_group(group: Group, indices: np.ndarray, pictures: list[Picture], report: Report) -> None:
    """Reports boxes and joints of the people at `indices`, who are in these pictures."""
    sizes, stored = (np.array([getattr(picture, name) for picture in pictures]) for name in ('size', 'stored_size'))
    boxes, positions = group.boxes[indices], group.keypoints[indices, :, :2]
    labelled = group.keypoints[indices, :, 2] > 0

    def tell(issue: Issue, mask: np.ndarray) -> None:
        """mask: (n,) of boxes or (n, K) of joints, the first of which is named"""
        for i in np.flatnonzero(mask.any(axis=1) if mask.ndim == 2 else mask):
            what = f'box {boxes[i].round(1 if boxes[i].max() > 1 else 3).tolist()}'
            if mask.ndim == 2:
                joint = mask[i].argmax()
                what = f'joint {joint} at ({positions[i, joint, 0]:g}, {positions[i, joint, 1]:g}), {what},'
            width, height = sizes[i]
            report(issue, f'{group.rows.label(indices[i])}: {what} in an image of {width} x {height} pixels')

    unit_box, all_unit = unit_boxes(boxes), unit_joints(positions, labelled)
    tell(Issue.RATIOS, unit_box)
    tell(Issue.RATIOS, labelled & (all_unit & ~unit_box)[:, None])
    in_pixels = ~(unit_box | all_unit)
    labelled &= in_pixels[:, None]
    if 'bbox' in group.rows.rows[0]:  # MPII's boxes come from a centre and a scale
        # The labels may be for the upright or the stored pixels.
        tell(Issue.CORNERS, in_pixels & corners(boxes, positions, labelled, np.maximum(sizes, stored)))
    missed = ((boxes[:, :2] + boxes[:, 2:] <= 0) | (boxes[:, :2] >= sizes)).any(axis=1)
    at_zero = labelled & (positions == 0).all(axis=2)
    tell(Issue.BOX_OUTSIDE, missed)
    tell(Issue.AT_ZERO, at_zero)
    tell(Issue.OUTSIDE, labelled & ((positions < 0) | (positions >= sizes[:, None])).any(axis=2))
    tell(Issue.FAR, _far(boxes, positions, labelled & ~at_zero & ~missed[:, None]))


def unit_boxes(boxes: np.ndarray) -> np.ndarray:
    """(n,) bool: boxes within 0 to 1 that are not integers."""
    return (np.abs(boxes) <= 1).all(axis=1) & (boxes % 1 != 0).any(axis=1)


def unit_joints(positions: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(n,) bool: people whose labelled joints are all within 0 to 1 (MPII: -1 to 0) and not all integers."""
    within = (np.abs(positions) <= 1).all(axis=2)
    fractional = (positions % 1 != 0).any(axis=2)
    return (within | ~labelled).all(axis=1) & (fractional & labelled).any(axis=1)


def corners(boxes: np.ndarray, positions: np.ndarray, labelled: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) bool: boxes that make sense only as corners; none if there are few of them."""
    low, corner, high = boxes[:, :2], boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]
    slack = IMAGE_SLACK * sizes
    in_image = ((corner > low) & (low >= -slack) & (corner <= sizes + slack)).all(axis=1)
    margin = BOX_SLACK * (corner - low).max(axis=1)[:, None, None]
    around = ((positions >= low[:, None] - margin) & (positions <= corner[:, None] + margin)).all(axis=2)
    extent = (
        np.where(labelled[..., None], positions, np.inf).min(axis=1, initial=np.inf),
        np.where(labelled[..., None], positions, -np.inf).max(axis=1, initial=-np.inf),
    )
    reaches = (high > sizes * (1 + REACH)).any(axis=1)
    fits_better = _iou(*extent, low, corner) - _iou(*extent, low, high) > BETTER_FIT
    mask = in_image & (around | ~labelled).all(axis=1) & (reaches | fits_better)
    return mask & (mask.sum() >= CORNER_RATIO * len(mask))


def _iou(low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray) -> np.ndarray:
    """(n,) IoU of boxes given by their corners, (n, 2) each."""
    common = np.clip(np.minimum(high, other_high) - np.maximum(low, other_low), 0, None).prod(axis=1)
    areas = [np.clip(b - a, 0, None).prod(axis=1) for a, b in ((low, high), (other_low, other_high))]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)


def _far(boxes: np.ndarray, positions: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(n, K) bool: joints far outside the box; less far is enough where most joints are outside."""
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    outside = np.maximum(np.maximum(low - positions, positions - high), 0).max(axis=2)
    distances = np.where(labelled, outside / boxes[:, 2:].max(axis=1, keepdims=True), 0)
    most = 2 * (distances > FAR_MOST).sum(axis=1, keepdims=True) > labelled.sum(axis=1, keepdims=True)
    return (distances > FAR_ONE) | (most & (distances > FAR_MOST))
