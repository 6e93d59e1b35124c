"""Where lib.tools.predict looks for people: in the whole image, in boxes from a file, in boxes from a detector.

Each is a function: frames with images -> their people.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
import torchvision

from cvpack import checkpoint
from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.checks import Rows, refuse, shown
from lib.datasets.coco_json import PERSON, boxes_of, listed_images
from lib.models.weights import load_state
from lib.predict import whole_image
from lib.tools.predict_media import Frame

DETECTOR_SCORE = 0.5
# Images that a detector sees at once: it takes far more memory than the crops of people.
DETECTOR_BATCH = 4


@dataclass
class People:
    """The boxes of a frame.

    boxes: (n, 4) float64: x, y, width, height in image pixels; scores: (n,) float64
    image_id: of the image, where the boxes' file gives it
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    image_id: int | None = None


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
    at the end of the image's name, as in COCO's own; a video's frame by `frame`, from 0. `category_id` and `score`
    may be missing.

    names: the input's image files; None: frames of a video
    Raises InputError for an unfit file, or one without any box of the input.
    """

    def __init__(self, path: Path, names: Sequence[str] | None, min_score: float) -> None:
        content = read_json(path, 'name a json file of boxes')
        is_annotation = isinstance(content, dict)
        listed = listed_images(content, path) if is_annotation else None
        rows = Rows(content.get('annotations') if is_annotation else content, 'box', path, refuse)
        single = rows.whole('iscrowd', default=0) == 0
        people = rows.only(single & (rows.whole('category_id', default=PERSON) == PERSON))
        boxes, scores = boxes_of(people), people.numeric('score', default=1.0)
        by_name = any('file_name' in row for row in people.rows)
        key = 'frame' if names is None else 'file_name' if by_name else 'image_id'
        values = people.names(key) if key == 'file_name' else people.whole(key).tolist()
        places = values if names is None else _places(values, Names(names), listed)
        own = defaultdict(list)
        for i, place in enumerate(places):
            own[place].append(i)
        strangers = len(own.pop(None, ()))
        if not own:
            example = f' (the first: {key} {shown(values[0])})' if values else ''
            raise InputError(f'{path}: none of its {len(people)} boxes of people is of the input{example}: see --help')
        if strangers:
            print(f'{path}: {strangers} boxes of images that are not in the input, or by name not one: left out')
        image_ids = people.column('image_id')
        self.people = {}
        for place, indices in own.items():
            kept = [i for i in indices if scores[i] >= min_score]
            self.people[place] = People(boxes[kept], scores[kept], image_ids[indices[0]])

    def __call__(self, frames: Sequence[Frame]) -> list[People]:
        return [self.people.get(frame.name if frame.number is None else frame.number, People()) for frame in frames]


def _places(values: Sequence[str | int], names: Names, listed: dict[int, dict] | None) -> list[str | None]:
    """The input's files that a box file's `file_name` or `image_id` mean; None where they mean none."""
    if listed is not None:
        values = [value if isinstance(value, str) else listed.get(value, {}).get('file_name', '') for value in values]
    return [names.called(value) if isinstance(value, str) else names.by_number.get(value) for value in values]


# ---------------------------------------------------------------------------------------------------- a detector


class Detector:
    """A detection network of torchvision's.

    name: torchvision:NAME, of those that torchvision.models.detection has; weights: its state dict's file
    Raises InputError for other names, and weights that are not of this network.
    """

    def __init__(self, name: str, weights: Path, min_score: float, device: torch.device) -> None:
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
        is_person = output['labels'].cpu().numpy() == PERSON
        kept = is_person & (scores >= self.min_score) & (boxes[:, 2:] > 0).all(axis=1)
        return People(boxes[kept], scores[kept])
