"""YOLO-pose as Ultralytics documents it and as tools write it, of the animals of exports.

A row is: class, box centre x, y, width, height, then x, y and mostly visibility of every joint, as ratios of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.exports import HEIGHT, IMAGES, WIDTH, Animal, Options, draw, halves

NAMED = 'kpt_names:\n  0: [nose, left_hand, right_hand, left_foot, right_foot, tail]\n'
FLIP = 'flip_idx: [0, 2, 1, 4, 3, 5]\n'


@dataclass(frozen=True)
class Yolo:
    """A variant of the format.

    yaml:    the content of data.yaml
    place:   its path in the export
    images:  the folder of a split's images, '{}' stands for the split
    splits:  of the first four and of the other images
    line:    an image's line in the split's text file, '{}' stands for its path below the yaml's; '': there is none
    numbers: of each joint, 2 or 3
    number:  the format of class and visibility
    flip, named: whether the yaml tells the mirror joints and the names
    """

    yaml: str
    place: str = 'data.yaml'
    images: str = 'images/{}'
    splits: tuple[str, str] = ('train', 'val')
    line: str = ''
    numbers: int = 3
    number: str = '.0f'
    flip: bool = True
    named: bool = False


YOLO = {
    'ultralytics': Yolo(
        'path: farm # dataset root dir\ntrain: images/train # 4 images\nval: images/val\ntest:\nkpt_shape: [6, 3]\n'
        f'{FLIP}names:\n  0: animal\n{NAMED}download: |\n  import os\n  os.abort()\n',
        place='farm.yaml',
        images='farm/images/{}',
        named=True,
    ),
    'ultralytics, yaml in the folder': Yolo(
        f'path: ../datasets/farm\ntrain: images/train\nval: images/val\nkpt_shape: [6, 3]\n{FLIP}names: [animal]\n',
        place='farm/farm.yaml',
        images='farm/images/{}',
    ),
    'ultralytics, folder of another machine, no visibility': Yolo(
        'path: /home/user/datasets/farm\ntrain: images/train\nval: images/val\nkpt_shape: [6, 2]\nnames: {0: animal}\n',
        place='farm/farm.yaml',
        images='farm/images/{}',
        numbers=2,
        flip=False,
    ),
    'ultralytics, lists': Yolo(
        f'path: farm\ntrain: train.txt\nval: val.txt\nnc: 1\nkpt_shape: [6, 3]\n{FLIP}names: {{"0": animal}}\n',
        place='farm/farm.yaml',
        images='farm/images/{}',
        line='./{}',
        number='.6f',
    ),
    'ultralytics, lists of another machine': Yolo(
        f'train: /home/user/datasets/farm/train.txt\nval: /home/user/datasets/farm/val.txt\nkpt_shape: [6, 3]\n{FLIP}',
        line='/home/user/datasets/farm/{}',
    ),
    'ultralytics, images above': Yolo(
        f'path: images/farm\ntrain: images/train\nval: images/val\nkpt_shape: [6, 3]\n{FLIP}names: [animal]\n',
        images='images/farm/images/{}',
    ),
    'ultralytics, labels beside images': Yolo(
        f'train: photos/train\nval: photos/val\nkpt_shape: [6, 3]\n{FLIP}names: [animal]\n', images='photos/{}'
    ),
    'ultralytics, several folders': Yolo(
        f'path: .\ntrain: [images/train, images/more]\nkpt_shape: [6, 3]\n{FLIP}names: [animal]\n{NAMED}',
        splits=('train', 'more'),
        named=True,
    ),
    'roboflow': Yolo(
        f'train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nkpt_shape: [6, 3]\n{FLIP}\nnc: 1\n'
        "names: ['animal']\n\nroboflow:\n  workspace: farm\n  version: 1\n  license: CC BY 4.0\n",
        images='{}/images',
        splits=('train', 'valid'),
    ),
    'cvat': Yolo(
        'kpt_shape:\n- 6\n- 3\nnames:\n  0: animal\npath: ./\ntrain: train.txt\nval: val.txt\n',
        line='{}',
        flip=False,
    ),
    'supervisely': Yolo(
        'colors:\n- [15, 64, 138]\nflip_idx: [0, 1, 2, 3, 4, 5]\nkpt_shape: [6, 3]\nnames: [animal]\nnc: 1\n'
        'train: ../farm/images/train\ntrain_labels: ../farm/labels/train\n'
        'val: ../farm/images/val\nval_labels: ../farm/labels/val\n',
        place='farm/data_config.yaml',
        images='farm/images/{}',
        flip=False,
    ),
}


def yolo(folder: Path, everybody: Sequence[Animal], form: Yolo) -> Options:
    """Writes images, label files and data.yaml."""
    place = folder / form.place
    for split, own in zip(form.splits, halves(everybody)):
        images = draw(folder / form.images.format(split), [*dict.fromkeys(one.image for one in own)])
        for file in [*images.iterdir()]:
            label = '\n'.join(row(one, form) for one in own if one.image == file.name)
            write(Path('/labels/'.join(file.with_suffix('.txt').as_posix().rsplit('/images/', 1))), label)
        if form.line:
            names = (file.relative_to(place.parent).as_posix() for file in sorted(images.iterdir()))
            write(place.parent / f'{split}.txt', '\n'.join(form.line.format(name) for name in names))
    write(place, form.yaml)
    return ['--annotations', place, '--images', folder]


def row(one: Animal, form: Yolo) -> str:
    """An animal's line of a label file."""
    x, y, width, height = one.box
    box = np.array([x + width / 2, y + height / 2, width, height]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    values = [format(0, form.number), *(f'{value:.6f}' for value in box)]
    for x, y, v in one.keypoints.tolist():
        values += [f'{x / WIDTH:.6f}', f'{y / HEIGHT:.6f}', format(v, form.number)][: form.numbers]
    return ' '.join(values)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def one_folder(folder: Path, everybody: Sequence[Animal], yaml: str) -> Options:
    """All images in `images`, without a split, as Label Studio and X-AnyLabeling leave them."""
    draw(folder / 'images', IMAGES)
    for image in IMAGES:
        label = '\n'.join(row(one, Yolo('')) for one in everybody if one.image == image)
        write(folder / 'labels' / f'{image[:-4]}.txt', label)
    write(folder / 'data.yaml', yaml)
    return ['--annotations', folder / 'data.yaml', '--images', folder]
