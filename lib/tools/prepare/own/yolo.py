"""Reads Ultralytics' YOLO-pose: a data.yaml, and a text file for every image.

A row is: class, box centre x, y, width, height, then x, y and (with kpt_shape [K, 3]) visibility of every joint; all
but class and visibility are ratios of the image.
https://docs.ultralytics.com/datasets/pose/
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.image_files import is_image
from lib.tools.prepare.own.categories import check_chosen, distinct, numbered, same_joints
from lib.tools.prepare.own.export import Export, Instance, Joints, ListedImage, Repairs

BOX = 5  # numbers of a row before the joints
# Keys that Supervisely alone writes.
SUPERVISELY = {'train_labels', 'val_labels', 'colors'}
LabelRow = tuple[int, str, np.ndarray]  # position of the image, where it is, its numbers


def is_yolo(path: Path) -> bool:
    """Whether a file of annotations is a data.yaml."""
    return path.suffix.lower() in ('.yaml', '.yml')


@dataclass(frozen=True)
class Data:
    """A data.yaml.

    folder:        of the images
    count, values: of joints, and of numbers that each has in a row
    """

    path: Path
    folder: Path
    content: dict
    count: int
    values: int

    def error(self, key: str, should: str) -> InputError:
        """For a key with a wrong value."""
        return InputError(f'{self.path}: {key} = {shown(self.content.get(key))} should {should}: correct it')


def read_yolo(path: Path, folder: Path, chosen: Sequence[str], repairs: Repairs) -> dict[str, Export]:
    """The splits train and val that a data.yaml names; train alone if it names no val.

    folder: of the images, where the yaml's own path leads nowhere
    """
    data = _read(path, folder)
    names = _class_names(data)
    exports = {}
    for split in ('train', 'val'):
        if data.content.get(split):
            exports[split] = _export(data, [*_images(data, split)], names, chosen, repairs)
    if 'train' not in exports:
        raise data.error('train', 'name the folder of the images to train on')
    return exports


def _read(path: Path, folder: Path) -> Data:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): name a data.yaml or a json file') from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f'{path} is not valid yaml ({" ".join(str(error).split())}): export it again') from None
    if not isinstance(content, dict) or 'kpt_shape' not in content:
        raise InputError(f'{path} has no kpt_shape, so it is not YOLO-pose: export the keypoints, not only the boxes')
    shape = content['kpt_shape']
    if not (isinstance(shape, list) and [*map(type, shape)] == [int, int] and shape[0] > 0 and shape[1] in (2, 3)):
        raise Data(path, folder, content, 0, 0).error('kpt_shape', 'be [K, 2] or [K, 3]')
    return Data(path, folder, content, *shape)


def _by_class(data: Data, key: str) -> dict[int, Any]:
    """A list or a mapping, by the classes' numbers."""
    value = data.content.get(key) or {}
    listed = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(listed, dict) or not all(str(number).isdecimal() for number in listed):
        raise data.error(key, 'be a list, or a mapping from the numbers of the classes')
    return {int(number): entry for number, entry in listed.items()}


def _class_names(data: Data) -> dict[int, str]:
    return {number: str(name) for number, name in _by_class(data, 'names').items()}


def _joints(data: Data, classes: dict[int, str], repairs: Repairs) -> Joints:
    """The joints of these classes: kpt_names, or numbers, and flip_idx."""
    named, kinds = data.content.get('kpt_names'), {}
    if isinstance(named, list) and all(isinstance(name, str) for name in named):  # the same for all classes
        listed = dict.fromkeys(classes, named)
    else:
        listed = _by_class(data, 'kpt_names')
    for number in listed.keys() & classes.keys():
        names = listed[number]
        if not isinstance(names, list) or len(names) > data.count:
            raise data.error('kpt_names', f'have at most {data.count} names a class, as kpt_shape says')
        # The rows of classes with fewer joints than others are filled up.
        kinds[classes[number]] = Joints(
            distinct([*map(str, names), *[''] * (data.count - len(names))], data.path, repairs)
        )
    same_joints(kinds, data.path)
    first = next(iter(kinds.values()), None)
    return Joints(first.names if first else numbered(data.count, data.path, repairs), flip_pairs=_flip_pairs(data))


def _flip_pairs(data: Data) -> tuple[tuple[int, int], ...]:
    flip, joints = data.content.get('flip_idx'), range(data.count)
    if flip is None:
        return ()
    is_permutation = isinstance(flip, list) and all(type(i) is int for i in flip) and sorted(flip) == [*joints]
    if not is_permutation or any(flip[flip[i]] != i for i in joints):
        raise data.error('flip_idx', f'name the mirror joint, from 0, of each of the {data.count}')
    return tuple((i, j) for i, j in enumerate(flip) if i < j)


def _images(data: Data, split: str) -> Iterator[Path]:
    """The image files of a split: of folders, or of lists in text files."""
    value, above = data.content[split], data.path.parent
    # Ultralytics takes `path` from a folder of its settings; exports are usually moved as a whole.
    roots = [above / str(data.content.get('path') or ''), above, above.parent, data.folder]
    for entry in map(str, value if isinstance(value, list) else [value]):
        # Roboflow writes ../train/images for a folder beside data.yaml.
        tries = [root / end for end in (entry, entry.removeprefix('../')) for root in roots]
        place = next((found for found in tries if found.exists()), None)
        if place is None:
            raise data.error(split, f'name a folder, or a list of images, below {above} or below {data.folder}')
        if place.is_dir():
            yield from sorted(file for file in place.rglob('*') if file.is_file() and is_image(file))
        else:
            yield from _listed(place, roots)


def _listed(place: Path, roots: list[Path]) -> Iterator[Path]:
    """The images that a text file lists, from its own folder or from the data set's."""
    try:
        lines = place.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{place} is no text file with a list of images ({error}): correct data.yaml') from None
    for line in filter(None, map(str.strip, lines)):
        tries = [root / line for root in (place.parent, *roots)]
        yield next((file for file in tries if file.exists()), tries[0])


def _export(data: Data, files: list[Path], names: dict[int, str], chosen: Sequence[str], repairs: Repairs) -> Export:
    """A split. Coordinates stay ratios of the images."""
    images: list[ListedImage] = []
    rows: list[LabelRow] = []
    for file in files:
        labels = _label_file(file)
        if labels is None:
            repairs.tell('images without a label file left out', str(file))
            continue
        rows += [(len(images), where, row) for where, row in _rows(labels, data, repairs)]
        images.append(ListedImage(_below(file, data.folder), str(labels)))
    if not rows:
        raise InputError(
            f'{data.path}: {len(files):,} images, {len(images):,} label files, no labelled joints: export the '
            'keypoints; labels/x.txt belongs to images/x.jpg'
        )
    if SUPERVISELY & data.content.keys():
        _refuse_shifted(rows, data)
    found = sorted({int(row[0]) for _, _, row in rows})
    classes = {number: names.get(number, str(number)) for number in found}
    check_chosen(chosen, dict.fromkeys(classes.values(), 'labelled'), data.path)
    selected = {number: name for number, name in classes.items() if not chosen or name in chosen}
    instances = []
    for image, where, row in rows:
        if int(row[0]) in selected:
            instances.append(_instance(row, image, where, data))
        else:
            repairs.tell(f'instances of {classes[int(row[0])]} left out', where)
    joints = _joints(data, selected, repairs)
    return Export(data.path, images, instances, joints, tuple(dict.fromkeys(selected.values())), is_ratios=True)


def _refuse_shifted(rows: list[LabelRow], data: Data) -> None:
    """Supervisely leaves missing joints out, and fills the row's end with zeros."""
    for _, where, row in rows:
        if not row[BOX:].reshape(data.count, data.values).any(axis=1).all():
            raise InputError(
                f'{where}: a joint is missing, and Supervisely, which seems to have written {data.path}, then shifts '
                'those after it: export it as COCO keypoints'
            )


def _below(file: Path, folder: Path) -> str:
    """A file's path below a folder; its whole path if it is not there."""
    whole = Path(os.path.abspath(file))
    return str(whole.relative_to(folder.absolute()) if whole.is_relative_to(folder.absolute()) else whole)


def _label_file(image: Path) -> Path | None:
    """By Ultralytics' rule: the last folder `images` is `labels`; or beside the image. None if there is none."""
    parts = [*image.parts]
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    return next((file for path in (Path(*parts), image) if (file := path.with_suffix('.txt')).is_file()), None)


def _rows(labels: Path, data: Data, repairs: Repairs) -> Iterator[tuple[str, np.ndarray]]:
    """The rows with joints of a label file. Raises InputError for others than of numbers, or of another length."""
    length = BOX + data.count * data.values
    for number, line in enumerate(labels.read_text(encoding='utf-8-sig', errors='replace').splitlines(), start=1):
        where = f'{labels}: line {number}'
        try:
            row = np.array([float(part) for part in line.split()])
        except ValueError:
            row = np.array([np.nan])
        if row.size and not (np.isfinite(row).all() and 0 <= row[0] < 1e6 and row[0] % 1 == 0):
            raise InputError(f'{where}: {shown(line)} should be a class and numbers: correct or remove it')
        if len(row) == BOX:
            repairs.tell('boxes without joints left out', where)
        elif row.size and len(row) != length:
            raise InputError(
                f'{where}: {len(row)} numbers, but kpt_shape = [{data.count}, {data.values}] of {data.path} asks for '
                f'{length}: correct one of them'
            )
        elif row.size:
            yield where, row


def _instance(row: np.ndarray, image: int, where: str, data: Data) -> Instance:
    points = row[BOX:].reshape(data.count, data.values)
    if data.values == 2:  # a joint without a position is not labelled
        points = np.column_stack([points, np.where((points <= 0).all(axis=1), 0, 2)])
    x, y, width, height = row[1:BOX]
    box = np.array([x - width / 2, y - height / 2, width, height])
    return Instance(image, points, False, box, np.nan, where, counted=int((points[:, 2] > 0).sum()))
