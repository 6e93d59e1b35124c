"""Where lib.tools.predict looks for people: in the whole image, in boxes from a file, in boxes from a detector.

Each is a function: frames with images -> their people.
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
# Images that a detector sees at once: it takes far more memory than the crops of people.
DETECTOR_BATCH = 4


@dataclass
class People:
    """The boxes of a frame.

    boxes: (n, 4) float64: x, y, width, height in image pixels; scores: (n,) float64
    image_id: of the image, where the boxes' file gives it; category: of the boxes
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    image_id: int | None = None
    category: int = PERSON


FindPeople = Callable[[Sequence[Frame]], list[People]]


def whole_images(frames: Sequence[Frame]) -> list[People]:
    """One person in each."""
    return [People(whole_image(frame.image), np.ones(1)) for frame in frames]


# ---------------------------------------------------------------------------------------------------- a file


class Names:
    """The image files of the input, found by what a file of boxes calls them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.by_base = _unique((PurePosixPath(name).name, name) for name in names)
        numbered = ((re.search(r'\d+\Z', PurePosixPath(name).stem), name) for name in names)
        self.by_number = _unique((int(match[0]), name) for match, name in numbered if match)

    def called(self, file_name: str) -> str | None:
        """The file of this path; or the only one of this base name, where one path is the end of the other."""
        if file_name in self.names:
            return file_name
        name = self.by_base.get(PurePosixPath(file_name).name)
        if name and (f'/{name}'.endswith(f'/{file_name}') or f'/{file_name}'.endswith(f'/{name}')):
            return name
        return None


def _unique(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, str]:
    """Keys -> values, without the keys that come more than once."""
    values = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return {key: own[0] for key, own in values.items() if len(own) == 1}


class BoxFile:
    """Boxes of people from a json file: detections in COCO's results format, or COCO annotations.

    They tell their image by `file_name`; or by `image_id`, which the file's `images` explain, or else is the number
    at the end of the image's name, as in COCO's own; a video's frame by `frame`, from 0. Where the input is one image
    they need not tell it. `category_id` and `score` may be missing.

    names: the input's image files; None: frames of a video; category: of the boxes to take, by number or name
    Raises InputError for an unfit file, or one without any box of the input.
    """

    def __init__(self, path: Path, names: Sequence[str] | None, min_score: float, category: str | None = None) -> None:
        content = read_json(path, 'name a json file of boxes')
        is_annotation = isinstance(content, dict)
        rows = Rows(content.get('annotations') if is_annotation else content, 'box', path, refuse)
        categories = _category_names(content)
        self.category = PERSON if category is None else _category_id(category, categories, path)
        people, left_out = _of_category(rows, self.category, categories)
        boxes, scores = boxes_of(people), people.numeric('score', default=1.0)
        key, values, places = _places(people, names, content, path)
        own = defaultdict(list)
        for i, place in enumerate(places):
            own[place].append(i)
        strangers = len(own.pop(None, ()))
        of_whom = 'people' if self.category == PERSON else f'category {self.category}'
        if not own:
            example = f' (the first: {key} {shown(values[0])})' if values else ''
            others = f' ({left_out})' if left_out else ''
            raise InputError(
                f'{path}: none of its {len(people)} boxes of {of_whom} is of the input{example}{others}: see --help'
            )
        if strangers:
            print(f'{path}: {strangers} boxes of images that are not in the input, or by name not one: left out')
        if left_out:
            print(f'{path}: {len(people)} boxes of {of_whom}; {left_out}')
        image_ids = people.column('image_id')
        self.people = {}
        for place, indices in own.items():
            kept = [i for i in indices if scores[i] >= min_score]
            self.people[place] = People(boxes[kept], scores[kept], image_ids[indices[0]], self.category)

    def __call__(self, frames: Sequence[Frame]) -> list[People]:
        return [self.people.get(frame.name if frame.number is None else frame.number, People()) for frame in frames]


def _category_names(content: Any) -> dict[int, str]:
    """The names that a file of annotations gives its categories."""
    categories = content.get('categories') if isinstance(content, dict) else None
    fits = (row for row in categories if isinstance(row, dict)) if isinstance(categories, list) else ()
    named = ((row.get('id'), row.get('name')) for row in fits)
    return {number: name for number, name in named if isinstance(number, int) and isinstance(name, str)}


def _category_id(category: str, names: dict[int, str], path: Path) -> int:
    """The number of the category that --category means. Raises InputError for a name that the file does not give."""
    if re.fullmatch(r'\d+', category):
        return int(category)
    numbers = [number for number, name in names.items() if name == category]
    if len(numbers) != 1:
        told = ', '.join(f'{shown(name)} ({number})' for number, name in names.items()) or 'none: give a number'
        raise InputError(f'--category {category}: the categories that {path} names are {told}')
    return numbers[0]


def _of_category(rows: Rows, category: int, names: dict[int, str]) -> tuple[Rows, str]:
    """The boxes of one person each of this category that have a size; and in words how many others there are, and why
    they are left out."""
    single = rows.integer('iscrowd', default=0) == 0
    ids = rows.integer('category_id', default=category)
    others, crowds = Counter(ids[single & (ids != category)].tolist()), int((~single).sum())
    told = [f'{n} of category {i}{f" ({shown(names[i])})" if i in names else ""}' for i, n in others.most_common(5)]
    told += [f'those of {len(others) - 5} more (see --category)'] if len(others) > 5 else []
    told += [f'{crowds} of crowds'] if crowds else []
    kept, sizeless = with_size(rows.only(single & (ids == category)))
    told += [f'{sizeless} of no size, or not finite'] if sizeless else []
    return kept, f'left out: {", ".join(told)}' if told else ''


def _places(
    people: Rows, names: Sequence[str] | None, content: Any, path: Path
) -> tuple[str, list[str | int], list[str | int | None]]:
    """By which field boxes tell their image or frame, what it says, and the input's files or frames that are meant;
    None where they mean none."""
    if names is None:
        frames = people.integer('frame').tolist()
        return 'frame', frames, frames
    files, is_one = Names(names), len(names) == 1
    if any('file_name' in row for row in people.rows):
        values = people.names('file_name')
        return 'file_name', values, [files.called(value) for value in values]
    values = people.column('image_id')
    if is_one and all(value is None for value in values):
        return 'image_id', values, [names[0]] * len(values)
    values = people.integer('image_id').tolist()
    if isinstance(content, dict) and (content.get('images') or not is_one):
        listed = listed_images(content, path)
        return 'image_id', values, [files.called(listed.get(value, {}).get('file_name', '')) for value in values]
    if is_one and not files.by_number and len(set(values)) == 1:
        return 'image_id', values, [names[0]] * len(values)  # nothing says that it is another
    return 'image_id', values, [files.by_number.get(value) for value in values]


# ---------------------------------------------------------------------------------------------------- a detector


class Detector:
    """A detection network of torchvision's.

    name: torchvision:NAME, of those that torchvision.models.detection has; weights: its state dict's file
    category: the number of the class to take
    Raises InputError for other names, and weights that are not of this network.
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
        """(3, H, W) float32, RGB, 0 to 1, as torchvision's detectors want it."""
        rgb = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).to(self.device)
        return rgb.permute(2, 0, 1).float() / 255

    def _people(self, output: dict[str, torch.Tensor]) -> People:
        """A detector's boxes are x and y of two corners."""
        boxes, scores = output['boxes'].double().cpu().numpy(), output['scores'].double().cpu().numpy()
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        is_wanted = output['labels'].cpu().numpy() == self.category
        kept = is_wanted & (scores >= self.min_score) & (boxes[:, 2:] > 0).all(axis=1)
        return People(boxes[kept], scores[kept], category=self.category)
