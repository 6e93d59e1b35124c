"""Where predict looks for people: in the whole image, in boxes from a file, or in a detector's.

Each is a function: readable frames -> the people in each.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch
import torchvision

from cvpack import checkpoint
from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.checks import Rows, refuse, shown
from lib.datasets.coco_json import PERSON, boxes_of, listed_images, with_size
from lib.deploy.predictor import whole_image
from lib.models.weights import load_state
from lib.tools.predict.media import Frame

DETECTOR_SCORE = 0.5
# A detector takes far more memory per image than the pose network per crop.
DETECTOR_BATCH = 4


@dataclass
class People:
    """The boxes of one frame.

    boxes:    (n, 4) float64: x, y, width, height in image pixels
    scores:   (n,) float64
    image_id: of the image, if the file of boxes gives it
    category: of the boxes
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    image_id: int | None = None
    category: int = PERSON


FindPeople = Callable[[Sequence[Frame]], list[People]]


def whole_images(frames: Sequence[Frame]) -> list[People]:
    """One person per frame."""
    return [People(whole_image(frame.image), np.ones(1)) for frame in frames]


# ---------------------------------------------------------------------------------------------------- a file


class Names:
    """Finds the input's image files by what a file of boxes calls them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.by_base = _unique((PurePosixPath(name).name, name) for name in names)
        numbered = ((re.search(r'\d+\Z', PurePosixPath(name).stem), name) for name in names)
        self.by_number = _unique((int(match[0]), name) for match, name in numbered if match)

    def find(self, file_name: str) -> str | None:
        """The file with this path, or the only one with this base name if one path ends in the other."""
        if file_name in self.names:
            return file_name
        name = self.by_base.get(PurePosixPath(file_name).name)
        if name and (f'/{name}'.endswith(f'/{file_name}') or f'/{file_name}'.endswith(f'/{name}')):
            return name
        return None


def _unique(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, str]:
    """Key -> value, without repeated keys."""
    values = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return {key: own[0] for key, own in values.items() if len(own) == 1}


class BoxFile:
    """Boxes from a json file: detections in COCO's results format, or COCO annotations.

    A box names its image by `file_name` or by `image_id`, which refers to the file's `images` or else is the number at
    the end of the image's name, as in COCO; a video's frame by `frame`, from 0. With one image as the input it need not
    name it. `category_id` and `score` are optional.

    names:    the input's image files; None: frames of a video
    category: of the boxes to take, by number or name; None: people
    Raises InputError for an invalid file, and for one without any box of the input.
    """

    def __init__(self, path: Path, names: Sequence[str] | None, min_score: float, category: str | None = None) -> None:
        content = read_json(path, 'name a json file of boxes')
        rows = Rows(content.get('annotations') if isinstance(content, dict) else content, 'box', path, refuse)
        categories = _category_names(content, path)
        self.category = PERSON if category is None else _category_id(category, categories, path)
        rows, left_out = _of_category(rows, self.category, categories)
        boxes, scores, image_ids = boxes_of(rows), rows.numeric('score', default=1.0), rows.column('image_id')
        key, places = _places(rows, names, content, path)
        indices = defaultdict(list)
        for i, place in enumerate(places):
            indices[place].append(i)
        unmatched = len(indices.pop(None, ()))
        which = 'people' if self.category == PERSON else f'category {self.category}'
        if not indices:
            if not len(rows):
                raise InputError(f'{path} has no boxes of {which} ({left_out or "none at all"}): see --category')
            example = f' (the first: {key} {shown(rows.rows[0].get(key))})'
            others = f' ({left_out})' if left_out else ''
            raise InputError(f'{path}: none of its {len(rows)} boxes of {which} is of the input{example}{others}')
        if unmatched:
            print(f'{path}: {unmatched} boxes left out: their image is not in the input, or its name is ambiguous')
        if left_out:
            print(f'{path}: {len(rows)} boxes of {which}; {left_out}')
        self.people = {}
        for place, own in indices.items():
            kept = [i for i in own if scores[i] >= min_score]
            self.people[place] = People(boxes[kept], scores[kept], image_ids[own[0]], self.category)

    def __call__(self, frames: Sequence[Frame]) -> list[People]:
        return [self.people.get(frame.name if frame.number is None else frame.number, People()) for frame in frames]


def _category_names(content: Any, path: Path) -> dict[int, str]:
    """The categories that an annotation file names: id -> name."""
    categories = content.get('categories') if isinstance(content, dict) else None
    rows = Rows(categories or [], 'category', path, lambda *_: None)
    named = ((row.get('id'), row.get('name')) for row in rows.rows)
    return {number: name for number, name in named if isinstance(number, int) and isinstance(name, str)}


def _category_id(category: str, names: dict[int, str], path: Path) -> int:
    """The id for --category. Raises InputError for a name that the file does not give, or gives twice."""
    if re.fullmatch(r'\d+', category):
        return int(category)
    numbers = [number for number, name in names.items() if name == category]
    if len(numbers) != 1:
        known = ', '.join(f'{shown(name)} ({number})' for number, name in names.items()) or 'none: give a number'
        raise InputError(f'--category {category}: the categories that {path} names are {known}')
    return numbers[0]


def _of_category(rows: Rows, category: int, names: dict[int, str]) -> tuple[Rows, str]:
    """The boxes of this category, without crowds and empty boxes; and how many were left out, in words."""
    single = rows.integer('iscrowd', default=0) == 0
    ids = rows.integer('category_id', default=category)
    others, crowds = Counter(ids[single & (ids != category)].tolist()), int((~single).sum())
    parts = [f'{n} of category {i}{f" ({shown(names[i])})" if i in names else ""}' for i, n in others.most_common(5)]
    parts += [f'those of {len(others) - 5} more (see --category)'] if len(others) > 5 else []
    parts += [f'{crowds} crowds'] if crowds else []
    kept, sizeless = with_size(rows.only(single & (ids == category)))
    parts += [f'{sizeless} empty or not finite'] if sizeless else []
    return kept, f'left out: {", ".join(parts)}' if parts else ''


def _places(
    rows: Rows, names: Sequence[str] | None, content: Any, path: Path
) -> tuple[str, Sequence[str | int | None]]:
    """The field by which boxes name their image or frame, and the input's file or frame of each box, None if none."""
    if names is None:
        return 'frame', rows.integer('frame').tolist()
    files, only = Names(names), names[0] if len(names) == 1 else None
    if any('file_name' in row for row in rows.rows):
        return 'file_name', [files.find(name) for name in rows.names('file_name')]
    if only and all(value is None for value in rows.column('image_id')):
        return 'image_id', [only] * len(rows)
    ids = rows.integer('image_id').tolist()
    if isinstance(content, dict) and (content.get('images') or not only):
        listed = listed_images(content, path)
        return 'image_id', [files.find(listed.get(image_id, {}).get('file_name', '')) for image_id in ids]
    if only and not files.by_number and len(set(ids)) == 1:
        return 'image_id', [only] * len(rows)  # nothing says that it is another image
    return 'image_id', [files.by_number.get(image_id) for image_id in ids]


# ---------------------------------------------------------------------------------------------------- a detector


class Detector:
    """A torchvision detection network.

    name:     torchvision:NAME, one of torchvision.models.detection
    weights:  file of its state dict
    category: number of the class to take; None: people
    Raises InputError for an unknown name, and for weights of another network.
    """

    def __init__(
        self, name: str, weights: Path, min_score: float, device: torch.device, category: str | None = None
    ) -> None:
        self.category = PERSON if category is None else _category_id(category, {}, weights)
        family, _, model = name.partition(':')
        known = torchvision.models.list_models(module=torchvision.models.detection)
        if family != 'torchvision' or model not in known:
            raise InputError(f'--detector {name}: write it as torchvision:NAME, NAME one of {", ".join(known)}')
        network = torchvision.models.get_model(model, weights=None, weights_backbone=None)
        load_state(network, checkpoint.load(weights), weights)
        self.network, self.min_score, self.device = network.eval().to(device), min_score, device

    @torch.inference_mode()
    def __call__(self, frames: Sequence[Frame]) -> list[People]:
        found = []
        for start in range(0, len(frames), DETECTOR_BATCH):
            images = [self._input(frame.image) for frame in frames[start : start + DETECTOR_BATCH]]
            found += [self._people(output) for output in self.network(images)]
        return found

    def _input(self, image: np.ndarray) -> torch.Tensor:
        """(3, H, W) float32, RGB, 0 to 1."""
        rgb = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).to(self.device)
        return rgb.permute(2, 0, 1).float() / 255

    def _people(self, output: dict[str, torch.Tensor]) -> People:
        """output: boxes (n, 4) x1, y1, x2, y2; scores (n,); labels (n,)"""
        boxes = torchvision.ops.box_convert(output['boxes'].double(), 'xyxy', 'xywh')
        scores = output['scores'].double()
        kept = (output['labels'] == self.category) & (scores >= self.min_score) & (boxes[:, 2:] > 0).all(dim=1)
        return People(boxes[kept].cpu().numpy(), scores[kept].cpu().numpy(), category=self.category)
