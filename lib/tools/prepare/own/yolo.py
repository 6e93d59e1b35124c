"""Reads Ultralytics' YOLO-pose: a data.yaml, and a text file for every image.

A row is: class, box centre x, y, width, height, then x, y and (with kpt_shape [K, 3]) visibility of every joint; all
but class and visibility are ratios of the image.
https://docs.ultralytics.com/datasets/pose/
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.tools.prepare.own.categories import chosen_categories
from lib.tools.prepare.own.export import Export, Instance, ListedImage, Repairs
from lib.tools.prepare.own.images import ImageFiles
from lib.tools.prepare.own.repairs import MAX_RATIO, MOST, without_place
from lib.tools.prepare.own.yolo_data import OTHERWISE, Data, class_names, image_files, joints_of, read_data

BOX = 5  # numbers of a row before the joints
# Keys that Supervisely alone writes.
SUPERVISELY = {'train_labels', 'val_labels', 'colors'}
LabelRow = tuple[int, str, np.ndarray]  # position of the image, where it is, its numbers


def is_yolo(path: Path) -> bool:
    """Whether a file of annotations is a data.yaml."""
    return path.suffix.lower() in ('.yaml', '.yml')


def read_yolo(path: Path, files: ImageFiles, chosen: Sequence[str], repairs: Repairs) -> dict[str, Export]:
    """Those of the splits train and val that a data.yaml names.

    files: of the images, where the yaml's own path leads nowhere
    """
    data = read_data(path, files)
    if not (data.content.get('train') or data.content.get('val')):
        raise data.error('train', 'name the folder of the images to train on')
    used: dict[Path, Path] = {}
    splits = [split for split in ('train', 'val') if data.content.get(split)]
    return {split: _export(data, split, chosen, used, repairs) for split in splits}


def _export(data: Data, split: str, chosen: Sequence[str], used: dict[Path, Path], repairs: Repairs) -> Export:
    """A split. Coordinates stay ratios of the images. used: as for _labelled_images"""
    images, rows = _labelled_images(data, split, used, repairs)
    _refuse_unclear(rows, data)
    names = class_names(data)
    classes = {number: names.get(number, str(number)) for number in sorted({int(row[0]) for _, _, row in rows})}
    ids = chosen_categories(chosen, {str(number): name for number, name in classes.items()}, data.path, repairs)
    selected = {number: name for number, name in classes.items() if str(number) in ids}
    joints = joints_of(data, selected, repairs)
    instances = []
    for image, where, row in rows:
        if int(row[0]) in selected:
            instances.append(_instance(row, image, where, data, len(joints.names)))
        else:
            repairs.tell(f'instances of {classes[int(row[0])]} left out', where)
    return Export(data.path, images, instances, joints, tuple(dict.fromkeys(selected.values())), is_ratios=True)


def _labelled_images(
    data: Data, split: str, used: dict[Path, Path], repairs: Repairs
) -> tuple[list[ListedImage], list[LabelRow]]:
    """The images of a split that have label files, and these files' rows with joints. Raises InputError if none has.

    used: label file -> its image, of all splits
    """
    files = [*image_files(data, split, repairs)]
    images: list[ListedImage] = []
    rows: list[LabelRow] = []
    for file, places in files:
        labels = next(filter(Path.is_file, (labels for place in places for labels in _label_files(place))), None)
        if labels is None:
            what = 'images without a label file left out' if file.is_file() else 'images that are not there, left out'
            repairs.tell(what, str(file))
            continue
        other = used.setdefault(labels, file)
        if other.parent != file.parent:
            raise InputError(f'{labels} would be the labels of {other} and of {file}: put each beside its image')
        rows += [(len(images), where, row) for where, row in _rows(labels, data, repairs)]
        images.append(ListedImage(_below(file, data.files.folder), str(labels)))
    if not rows:
        have = f'{len(files):,} images, {len(images):,} label files and no labelled joints'
        remedy = 'export the keypoints' if images else 'put labels/x.txt beside images/x.jpg'
        what = f'{data.path}: {split} = {shown(data.content[split])} has {have}'
        raise InputError(f'{what}: {remedy}{OTHERWISE[split]}')
    return images, rows


def _refuse_unclear(rows: list[LabelRow], data: Data) -> None:
    """Raises InputError for pixels, and for rows in which joints may have others' places."""
    if np.mean([row[1:BOX].max() > MAX_RATIO for _, _, row in rows]) > MOST:
        raise InputError(f'{rows[0][1]}: its numbers look like pixels, not ratios of the image: export them again')
    for _, where, row in rows if SUPERVISELY & data.content.keys() else ():
        # Supervisely leaves missing joints out, and fills the row's end with zeros.
        if not row[BOX:].reshape(data.count, data.values).any(axis=1).all():
            raise InputError(
                f'{where}: a joint is missing, and Supervisely, which seems to have written {data.path}, then shifts '
                'those after it: export it as COCO keypoints'
            )


def _below(file: Path, folder: Path) -> str:
    """A file's path below a folder; its whole path if it is not there."""
    whole = Path(os.path.abspath(file))
    return str(whole.relative_to(folder.absolute()) if whole.is_relative_to(folder.absolute()) else whole)


def _label_files(image: Path) -> Iterator[Path]:
    """Where an image's labels may be: by Ultralytics' rule the last folder `images` is `labels`; beside the image; in
    a folder `labels` beside the image's (X-AnyLabeling).
    """
    parts = image.parts
    for images, labels in (('images', 'labels'), ('Images', 'Labels'), ('Images', 'labels')):
        if images in parts[:-1]:
            i = len(parts) - 2 - parts[-2::-1].index(images)
            yield Path(*parts[:i], labels, *parts[i + 1 :]).with_suffix('.txt')
    yield image.with_suffix('.txt')
    yield image.parent.parent / 'labels' / f'{image.stem}.txt'


def _rows(labels: Path, data: Data, repairs: Repairs) -> Iterator[tuple[str, np.ndarray]]:
    """The rows with joints of a label file. Raises InputError for others than of numbers, or of another length."""
    length = BOX + data.count * data.values
    try:
        lines = labels.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise InputError(f'{labels} is no text in UTF-8: write it again') from None
    for number, line in enumerate(lines, start=1):
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


def _instance(row: np.ndarray, image: int, where: str, data: Data, joints: int) -> Instance:
    """joints: of its class; the rows of classes with fewer than others are filled up with zeros"""
    points = row[BOX:].reshape(data.count, data.values)
    if data.values == 2:  # a joint without a position is not labelled
        points = np.column_stack([points, np.where((points <= 0).all(axis=1), 0, 2)])
    if points[joints:].any():
        raise InputError(
            f'{where}: more joints than the {joints} that kpt_names in {data.path} has for its class: name all '
            f'{data.count} of kpt_shape'
        )
    points = points[:joints]
    x, y, width, height = row[1:BOX]
    box = np.array([x - width / 2, y - height / 2, width, height])
    counted = int(((points[:, 2] > 0) & ~without_place(points)).sum())  # the format has no num_keypoints to compare
    return Instance(image, points, False, box, np.nan, where, counted=counted)
