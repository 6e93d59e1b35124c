"""The crops on which an exported network is compared with the original."""

from itertools import islice
from pathlib import Path

import numpy as np
from easydict import EasyDict

from cvpack.errors import InputError
from lib.datasets.image_files import is_image, read_image
from lib.datasets.synthetic import draw_image
from lib.deploy.predictor import crop_boxes, whole_image
from lib.loader import reader_of, test_samples


def find_crops(cfg: EasyDict, folder: Path | None, count: int) -> tuple[np.ndarray, str]:
    """At most `count` crops (n, H, W, 3) uint8 BGR, made as in testing, and where they are from.

    folder: of pictures of one person each; None: the annotated boxes of the experiment's validation set if it is
            there, else synthetic people
    Raises InputError if the folder holds no picture, or one cannot be read.
    """
    if folder is not None:
        return _of_folder(cfg, folder, count)
    reader = reader_of(cfg)
    try:
        records = reader.test_set('val', gt_boxes=True).records
    except InputError as error:
        return _synthetic(cfg, count), f'synthetic people, as the validation set cannot be read ({error})'
    samples = test_samples(cfg, records)
    chosen = np.unique(np.linspace(0, max(len(samples) - 1, 0), count).round().astype(int))[: len(samples)].tolist()
    if not chosen:
        return _synthetic(cfg, count), f'synthetic people, as the validation set in {reader.dataset.root} is empty'
    return np.stack([samples[i]['image'] for i in chosen]), f'test crops of {reader.dataset.root}'


def _of_folder(cfg: EasyDict, folder: Path, count: int) -> tuple[np.ndarray, str]:
    if not folder.is_dir():
        raise InputError(f'--images {folder} is not a folder: name one of pictures')
    files = list(islice(filter(is_image, sorted(folder.rglob('*'))), count))
    if not files:
        raise InputError(f'--images {folder} holds no picture that OpenCV reads: name another folder')
    images = [read_image(path) for path in files]
    crops = [crop['image'] for image in images for crop in crop_boxes(cfg, image, whole_image(image))]
    return np.stack(crops), f'pictures of {folder}, each as one person'


def _synthetic(cfg: EasyDict, count: int) -> np.ndarray:
    rng, crops = np.random.default_rng(0), list[np.ndarray]()
    while len(crops) < count:
        image, people = draw_image(rng)
        boxes = np.array([person['bbox'] for person in people])
        crops += [crop['image'] for crop in crop_boxes(cfg, image, boxes)]
    return np.stack(crops[:count])
