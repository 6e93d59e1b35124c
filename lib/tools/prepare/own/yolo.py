"""Reads Ultralytics' YOLO-pose: a data.yaml, and a text file beside every image.

A row is: class, box centre x, y, width, height, then x, y and (with kpt_shape [K, 3]) visibility of every joint; all
but class and visibility are ratios of the image.
https://docs.ultralytics.com/datasets/pose/
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.image_files import is_image
from lib.tools.prepare.own.export import Export, Instance, Joints, Picture, Repairs
from lib.utils import optional

SPLITS = ('train', 'val', 'test')


def is_yolo(path: Path) -> bool:
    """Whether a file of annotations is a data.yaml."""
    return path.suffix.lower() in ('.yaml', '.yml')


def read_yolo(path: Path, folder: Path, chosen: Sequence[str], repairs: Repairs) -> dict[str, Export]:
    """The splits train and val that a data.yaml names; train alone if it names no val.

    folder: of the images, where the yaml's own path leads nowhere
    """
    content = _content(path)
    count, numbers = _shape(content, path)
    joints, names = _joints(content, count, path), _names(content, path)
    if unknown := [name for name in chosen if name not in names.values()]:
        raise InputError(f'--category {unknown[0]}: {path} has {", ".join(names.values())}: name one of these')
    exports = {}
    for split in ('train', 'val'):
        if content.get(split):
            images = [*_images(content, split, path, folder)]
            exports[split] = _export(images, path, joints, numbers, names, chosen, repairs)
    if 'train' not in exports:
        raise InputError(f'{path} names no train: add the folder of the images to train on')
    return exports


def _content(path: Path) -> dict:
    yaml = optional.load('yaml', 'own')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): name a data.yaml or a json file') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f'{path} is not valid yaml ({" ".join(str(error).split())}): export it again') from None
    if not isinstance(content, dict) or 'kpt_shape' not in content:
        raise InputError(
            f'{path} has no kpt_shape, so it is not of YOLO-pose: export the keypoints, not only the boxes'
        )
    return content


def _shape(content: dict, path: Path) -> tuple[int, int]:
    shape = content['kpt_shape']
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3) or not isinstance(shape[0], int):
        raise InputError(f'{path}: kpt_shape = {shown(shape)} should be [K, 2] or [K, 3]')
    return shape[0], shape[1]


def _names(content: dict, path: Path) -> dict[int, str]:
    names = content.get('names', {})
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict):
        raise InputError(f'{path}: names = {shown(names)} should be a list or a mapping of class numbers to names')
    return {int(key): str(name) for key, name in listed.items()}


def _joints(content: dict, count: int, path: Path) -> Joints:
    """Joint names (kpt_names of the first class, else numbers) and pairs (flip_idx)."""
    named = content.get('kpt_names')
    named = next(iter(named.values()), None) if isinstance(named, dict) else named
    if isinstance(named, list) and len(named) == count:
        names = tuple(map(str, named))
    else:
        names = tuple(f'j{i}' for i in range(count))
    flip = content.get('flip_idx')
    if flip is None:
        return Joints(names)
    valid = isinstance(flip, list) and sorted(map(str, flip)) == sorted(map(str, range(count)))
    if not valid or any(flip[flip[i]] != i for i in range(count)):
        raise InputError(f'{path}: flip_idx = {shown(flip)} should name the mirror joint of each of {count} joints')
    return Joints(names, flip_pairs=tuple((i, j) for i, j in enumerate(flip) if i < j))


def _images(content: dict, split: str, path: Path, folder: Path) -> Iterator[Path]:
    """The image files of a split: of folders, of lists in text files, or listed."""
    entries = content[split] if isinstance(content[split], list) else [content[split]]
    roots = [path.parent / str(content.get('path') or ''), path.parent, folder]
    for entry in map(str, entries):
        # Roboflow writes ../train/images for a folder beside data.yaml.
        tries = [root / end for end in (entry, entry.removeprefix('../')) for root in roots]
        place = next((found for found in tries if found.exists()), None)
        if place is None:
            raise InputError(
                f'{path}: {split} = {entry!r} is neither below {path.parent} nor below {folder}: correct it'
            )
        if place.is_dir():
            yield from sorted(file for file in place.rglob('*') if file.is_file() and is_image(file))
        else:
            for line in place.read_text(encoding='utf-8').splitlines():
                if line.strip():
                    yield (place.parent / line.strip()).resolve()


def _export(
    files: list[Path],
    path: Path,
    joints: Joints,
    numbers: int,
    names: dict[int, str],
    chosen: Sequence[str],
    repairs: Repairs,
) -> Export:
    """A split. Coordinates stay ratios of the images."""
    export = Export(path, [], [], joints, (), normalised=True)
    found: dict[str, None] = {}
    for file in files:
        labels = _label_file(file)
        if not labels.is_file():
            repairs.tell('images without a label file left out', str(file))
            continue
        export.images.append(Picture(str(file), str(labels)))
        for number, line in enumerate(labels.read_text(encoding='utf-8').splitlines(), start=1):
            if not line.strip():
                continue
            where = f'{labels}: line {number}'
            row = _row(line, where)
            name = names.get(int(row[0]), str(int(row[0])))
            if chosen and name not in chosen:
                repairs.tell(f'instances of {name} left out', where)
            elif len(row) == 5:
                repairs.tell('boxes without joints left out', where)
            else:
                found[name] = None
                export.instances.append(_instance(row, len(export.images) - 1, len(joints.names), numbers, where))
    export.categories = tuple(found)
    return export


def _label_file(image: Path) -> Path:
    """By Ultralytics' rule: the last folder `images` is `labels`; without one, beside the image."""
    parts = [*image.parts]
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')


def _row(line: str, where: str) -> np.ndarray:
    try:
        return np.array([float(part) for part in line.split()])
    except ValueError:
        raise InputError(f'{where}: {shown(line)} should be numbers: correct or remove it') from None


def _instance(row: np.ndarray, image: int, joints: int, numbers: int, where: str) -> Instance:
    if len(row) != 5 + joints * numbers:
        raise InputError(
            f'{where}: {len(row)} numbers, but kpt_shape = [{joints}, {numbers}] asks for {5 + joints * numbers}: '
            'correct one of them'
        )
    points = row[5:].reshape(joints, numbers)
    if numbers == 2:  # a joint without a position is not labelled
        points = np.column_stack([points, np.where((points <= 0).all(axis=1), 0, 2)])
    x, y, width, height = row[1:5]
    return Instance(
        image=image,
        keypoints=np.array(points, np.float64),
        integer=False,
        box=np.array([x - width / 2, y - height / 2, width, height]),
        area=np.nan,
        where=where,
        counted=int((points[:, 2] > 0).sum()),
    )
