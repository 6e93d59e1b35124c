"""What lib.tools.check_data finds where boxes, joints and images are held against one another."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.datasets.checks import Issue, Report, shown
from lib.datasets.exif import UPRIGHT
from lib.tools.check_data.images import Picture
from lib.tools.check_data.records import Group, Listing

# Boxes are taken for corners where as x, y, width, height they reach so far out of the image, in its sides, or where
# as corners they fit the joints so much better (intersection over union). 0.2 % of COCO's boxes look so, and 2 % if
# they are made larger by half; of corners 60 % and more do. So many have to: few may be an accident.
REACH, BETTER_FIT, CORNER_RATIO = 0.05, 0.2, 0.1
# In longer sides of the box, how far outside it one labelled joint may be, and most of them. COCO: 0.5 and 0.2.
FAR_ONE, FAR_MOST = 0.75, 0.35
# Slack, in the sides of an image and of a box, for what should lie within it.
IMAGE_SLACK, BOX_SLACK = 0.02, 0.1


def compare_with_images(listing: Listing, found: dict[Path, Picture | Issue], report: Report) -> None:
    """Reports labels that do not fit the images, or one another. found: file -> image, or what is wrong with it."""
    everything = {name: found[listing.folder / name] for name in listing.sizes}
    pictures = {name: picture for name, picture in everything.items() if isinstance(picture, Picture)}
    for group in listing.groups:
        there = np.array([i for i, name in enumerate(group.names) if name in pictures], int)
        if len(there):
            _compare_group(group, there, [pictures[group.names[i]] for i in there], report)
    joints = _joints_by_image(listing)
    for name, picture in pictures.items():
        told, size = listing.sizes[name], picture.size
        if picture.orientation != UPRIGHT and name in joints:
            _report_orientation(name, picture, told, joints[name], report)
            fits = told in (size, picture.stored_size)
        else:
            fits = told == size
        if told is not None and not fits:
            text = f'{size[0]} x {size[1]} pixels, its record says {shown(told[0])} x {shown(told[1])}'
            report(Issue.SIZE, f'image {name}: {text}')


def _joints_by_image(listing: Listing) -> dict[str, np.ndarray]:
    """The labelled joints (n, 2) of every image that is trained or tested on; none for a detector's boxes."""
    rows = defaultdict(list)
    for group in listing.groups:
        for name, keypoints in zip(group.names, group.keypoints):
            rows[name].append(keypoints[keypoints[:, 2] > 0, :2])
    return {name: np.concatenate(joints) for name, joints in rows.items()}


def _report_orientation(name: str, picture: Picture, told: tuple | None, joints: np.ndarray, report: Report) -> None:
    """Reports an image that EXIF turns, and whether its labels seem to be of the picture before that.

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
    """indices: of the people whose images were read; pictures: those."""
    sizes, stored = (np.array([getattr(picture, name) for picture in pictures]) for name in ('size', 'stored_size'))
    boxes, positions = group.boxes[indices], group.keypoints[indices, :, :2]
    labelled = group.keypoints[indices, :, 2] > 0

    def tell(kind: Issue, mask: np.ndarray, what: Callable[[int], str], relation: str = 'in an image') -> None:
        for i in np.flatnonzero(mask).tolist():
            size = f'{sizes[i][0]} x {sizes[i][1]} pixels'
            report(kind, f'{group.rows.label(int(indices[i]))}: {what(i)} {relation} of {size}')

    def box(i: int) -> str:
        return f'box {boxes[i].round(1 if boxes[i].max() > 1 else 3).tolist()}'

    def tell_joints(kind: Issue, mask: np.ndarray, more: Callable[[int], str] = lambda i: '') -> None:
        def joint(i: int) -> str:
            first = mask[i].argmax()
            return f'joint {first} at ({positions[i, first, 0]:g}, {positions[i, first, 1]:g}){more(i)}'

        tell(kind, np.any(mask, axis=1), joint)

    unit_box, unit_joints = _unit_boxes(boxes), _unit_joints(positions, labelled)
    tell(Issue.RATIOS, unit_box, box)
    tell_joints(Issue.RATIOS, labelled & (unit_joints & ~unit_box)[:, None])
    labelled &= ~(unit_box | unit_joints)[:, None]
    if 'bbox' in group.rows.rows[0]:  # MPII's boxes are made of a centre and a scale
        corners = _corners(boxes, positions, labelled, np.maximum(sizes, stored))  # whichever picture they are of
        tell(Issue.CORNERS, corners & ~unit_box & ~unit_joints, box)
    missed = ((boxes[:, :2] + boxes[:, 2:] <= 0) | (boxes[:, :2] >= sizes)).any(axis=1)
    tell(Issue.BOX_OUTSIDE, missed, box, 'misses its image')
    at_zero = labelled & (positions == 0).all(axis=2)
    tell_joints(Issue.AT_ZERO, at_zero)
    tell_joints(Issue.OUTSIDE, labelled & ((positions < 0) | (positions >= sizes[:, None])).any(axis=2))
    tell_joints(Issue.FAR, _far(boxes, positions, labelled & ~at_zero & ~missed[:, None]), lambda i: f' for {box(i)}')


def _unit_boxes(boxes: np.ndarray) -> np.ndarray:
    """(n,) bool: boxes that lie within 0 to 1, in fractions."""
    return (np.abs(boxes) <= 1).all(axis=1) & (boxes % 1 != 0).any(axis=1)


def _unit_joints(positions: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(n,) bool: people all of whose labelled joints lie within 0 to 1, in fractions. (MPII's within -1 to 0.)"""
    within = (np.abs(positions) <= 1).all(axis=2)
    fractional = (positions % 1 != 0).any(axis=2)
    return (within | ~labelled).all(axis=1) & (fractional & labelled).any(axis=1)


def _corners(boxes: np.ndarray, positions: np.ndarray, labelled: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) bool: boxes that make sense as corners alone, where there are enough of these."""
    low, corner, high = boxes[:, :2], boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]
    slack = IMAGE_SLACK * sizes
    in_image = ((corner > low) & (low >= -slack) & (corner <= sizes + slack)).all(axis=1)
    margin = BOX_SLACK * (corner - low).max(axis=1)[:, None, None]
    around = ((positions >= low[:, None] - margin) & (positions <= corner[:, None] + margin)).all(axis=2)
    there = labelled[..., None]
    extent = (
        np.where(there, positions, np.inf).min(axis=1, initial=np.inf),
        np.where(there, positions, -np.inf).max(axis=1, initial=-np.inf),
    )
    reaches = (high > sizes * (1 + REACH)).any(axis=1)
    fits_better = _overlap(*extent, low, corner) - _overlap(*extent, low, high) > BETTER_FIT
    mask = in_image & (around | ~labelled).all(axis=1) & (reaches | fits_better)
    return mask & (mask.mean() >= CORNER_RATIO)


def _overlap(low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of boxes by their corners, (n, 2) each."""
    common = np.clip(np.minimum(high, other_high) - np.maximum(low, other_low), 0, None).prod(axis=1)
    areas = [np.clip(b - a, 0, None).prod(axis=1) for a, b in ((low, high), (other_low, other_high))]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)


def _far(boxes: np.ndarray, positions: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(n, K) bool: joints far outside the box; those of people with most joints outside need not be as far."""
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    outside = np.maximum(np.maximum(low - positions, positions - high), 0).max(axis=2)
    distances = np.where(labelled, outside / boxes[:, 2:].max(axis=1, keepdims=True), 0)
    most = 2 * (distances > FAR_MOST).sum(axis=1, keepdims=True) > labelled.sum(axis=1, keepdims=True)
    return (distances > FAR_ONE) | (most & (distances > FAR_MOST))
