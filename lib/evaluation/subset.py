"""A part of the validation set: some of its images, evenly spaced, with all the people in them.

Whole images, since AP counts what was found in an image against all who are in it: on a choice of boxes everyone whose
box was left out would count as missed, and nobody's second box as a false alarm.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import scipy.io

from cvpack import dist
from cvpack.errors import InputError
from cvpack.files import atomic_write, read_json
from lib.datasets.coco import PREPARE
from lib.datasets.coco_json import listed_images
from lib.datasets.description import Description
from lib.datasets.joints import Records
from lib.datasets.mpii import GROUND_TRUTH
from lib.datasets.mpii_json import read_ground_truth

COCO_TRUTH = 'truth.json'


def evenly_spaced(count: int, choices: int) -> np.ndarray:
    """(min(count, choices),) int64: so many different indices below `choices`, rising, as evenly spaced as can be."""
    count = min(count, choices)
    return np.arange(count) * choices // max(count, 1)


def take(records: Records, chosen: np.ndarray) -> Records:
    """The records that a mask (n,) or indices choose."""
    arrays = {name: value[chosen] for name, value in vars(records).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(records, **arrays)


def part(dataset: Description, records: Records, images: int, folder: Path) -> tuple[Description, Records]:
    """So many images of the validation set: a data set to evaluate against, and the records to test.

    records: of the whole set
    folder:  where rank 0 writes the truth on these images, and whoever evaluates finds it

    Of COCO's images also those without people are chosen from: what is found in them are false alarms.
    Raises InputError where nobody is in the chosen ones, OSError.
    """
    chosen = (_coco_part if dataset.format == 'COCO' else _mpii_part)(dataset, records, images, folder)
    if not chosen.any():
        raise InputError(f'VALIDATION.IMAGES = {images}: nobody is in these images: choose more, or 0 for all')
    # Both evaluations find the truth by its place below the root, and nothing else there.
    return dataclasses.replace(dataset, root=folder, val_json=COCO_TRUTH), take(records, chosen)


def _coco_part(dataset: Description, records: Records, images: int, folder: Path) -> np.ndarray:
    """(n,) bool: the records in the chosen images."""
    path = dataset.annotations('val')
    content = read_json(path, PREPARE)
    ids = np.array(sorted(listed_images(content, path)))
    ids = ids[evenly_spaced(images, len(ids))]
    inside = set(ids.tolist())
    content['images'] = [image for image in content['images'] if image['id'] in inside]
    content['annotations'] = [person for person in content['annotations'] if person['image_id'] in inside]
    if dist.is_main():
        with atomic_write(folder / COCO_TRUTH) as file:
            file.write(json.dumps(content).encode())
    return np.isin(records.ids, ids) & bool(content['annotations'])


def _mpii_part(dataset: Description, records: Records, images: int, folder: Path) -> np.ndarray:
    """(n,) bool: the people in the chosen images."""
    paths = np.unique(records.paths)
    chosen = np.isin(records.paths, paths[evenly_spaced(images, len(paths))])
    if dist.is_main():
        ground_truth = read_ground_truth(dataset.root / GROUND_TRUTH, len(records))
        with atomic_write(folder / GROUND_TRUTH) as file:
            scipy.io.savemat(file, {name: field[..., chosen] for name, field in ground_truth.items()})
    return chosen
