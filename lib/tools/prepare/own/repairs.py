"""What is repaired in joints, each kind counted; and what is not, because it could be meant in more than one way."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import MAX_NUMBER, shown
from lib.tools.check_data.labels import unit_joints
from lib.tools.prepare.own.export import Export, Instance, Repairs

# From this ratio of instances on, a file is taken to mean it so.
MOST = 0.5
# Larger numbers are no ratios of the image.
MAX_RATIO = 1.5
# Tolerance for factors between sizes, of images scaled to whole pixels.
SAME_FACTOR = 0.02


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

    is_ratios: they are, as the user says; reading: of the boxes, as for repair_boxes
    Raises InputError where most look otherwise, or where they seem to be pixels of images of another size.
    """
    points, labelled = export.keypoints[..., :2], export.keypoints[..., 2] > 0
    if not (is_ratios or export.is_ratios):
        like_ratios = unit_joints(points, labelled)
        refuse_most(export, like_ratios, 'joints that look like ratios of the image', 'add --normalised')
        _refuse_resized(export)
        return
    like_pixels = np.any(labelled & (points > MAX_RATIO).any(axis=2), axis=1)
    refuse_most(export, like_pixels, 'joints that look like pixels', 'leave out --normalised')
    if reading != 'joints':
        like_pixels = np.any(np.nan_to_num(export.boxes) > MAX_RATIO, axis=1)
        refuse_most(export, like_pixels, 'boxes that look like pixels, beside ratios', 'add --boxes joints')
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
                'if an EXIF orientation turns them and the joints are those of the stored pixels, remove it (exiftool '
                '-r -Orientation= DIR); if only width and height are exchanged, remove them'
            )
        raise InputError(
            f'{images[i].where}: {width:g} x {height:g} pixels, but {images[i].name!r} has {w:g} x {h:g}, like most: '
            f'{remedy}'
        )


def refuse_most(export: Export, mask: np.ndarray, what: str, remedy: str, among: np.ndarray | None = None) -> None:
    """Raises InputError if a mask (n,) holds for most instances, or most of those in the mask `among`."""
    among = np.ones(len(mask), bool) if among is None else among
    if (mask & among).sum() > MOST * among.sum():
        first = export.instances[int((mask & among).argmax())]
        raise InputError(f'{first.where}, and {(mask & among).sum() - 1:,} more: {what}: {remedy}')
