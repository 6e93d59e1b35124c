"""What the tests of bad input share: running an entry that refuses, and files with something wrong in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call, tiny_settings
from prepare_command import write_json

from cvpack.files import read_json
from lib.datasets.description import COCO
from lib.datasets.image_names import image_path

MISSING = object()
Change = Callable[[Any], Any]


def refused(capsys: pytest.CaptureFixture, entry: Callable, *arguments, code: int = 2) -> str:
    """The one line on stderr with which a command line ends, and without a traceback."""
    with pytest.raises(SystemExit) as stop:
        entry([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == code
    assert error.startswith('error: ') and error.count('\n') == 1 and len(error) < 1000, error
    return error


def experiment(entry: Callable, monkeypatch: pytest.MonkeyPatch, name: str = 'mspn.2xstg.coco') -> Callable:
    """The engine's `train` or `test` as a function of a command line, in this process."""

    return lambda arguments: call(monkeypatch, entry, *arguments, name=name)


def small(root: Path, output: Path) -> list[str]:
    """--set values of a run of seconds, should it not be refused, without worker processes."""
    return [*tiny_settings(root, output), 'SOLVER.MAX_ITER=1', 'DATALOADER.NUM_WORKERS=0']


def keypoints(count: int) -> dict[str, object]:
    """Settings that describe a data set of so many joints."""
    values = {
        'NUM': count,
        'NAMES': [f'joint_{i}' for i in range(count)],
        'FLIP_PAIRS': [],
        'UPPER_BODY_IDS': [],
        'SKELETON': [],
        'SIGMAS': [0.1] * count,
    }
    return {f'DATASET.KEYPOINT.{key}': value for key, value in values.items()}


def names_all(error: str, *pieces: object) -> None:
    """Asserts that the line holds every piece: file, field, value, remedy."""
    for piece in pieces:
        assert str(piece) in error, f'{piece} is not in: {error}'


def change(part: str | None = None, index: int = 1, **fields: Any) -> Change:
    """Gives a record of a json file (a list, or its list called `part`) other fields, or takes some away."""

    def apply(content: Any) -> Any:
        record = (content[part] if part else content)[index]
        for name, value in fields.items():
            if value is MISSING:
                del record[name]
            else:
                record[name] = value
        return content

    return apply


def change_all(part: str, **fields: Any) -> Change:
    """The same for every record."""

    def apply(content: Any) -> Any:
        for index in range(len(content[part])):
            change(part, index, **fields)(content)
        return content

    return apply


def replace(**parts: Any) -> Change:
    """Gives the file other lists, or takes some away."""
    return lambda content: {name: value for name, value in {**content, **parts}.items() if value is not MISSING}


def instead(content: Any) -> Change:
    """Another content altogether."""
    return lambda _: content


def with_joint(joint: int, *values: Any) -> Change:
    """Gives annotation 1 another joint: x, y, visibility."""

    def apply(content: Any) -> Any:
        content['annotations'][1]['keypoints'][3 * joint : 3 * joint + 3] = values
        return content

    return apply


def coco_with(synthetic_coco: Path, root: Path, changes: dict[str, Change]) -> Path:
    """The drawn people again, with some of their json files changed; images are shared."""
    for name in (COCO.train_json, COCO.val_json, COCO.val_boxes):
        write_json(root / name, changes.get(name, lambda content: content)(read_json(synthetic_coco / name)))
    (root / 'images').symlink_to(synthetic_coco / 'images')
    return root


def one_image(synthetic_coco: Path, root: Path, file_name: str = '') -> Path:
    """A training set of one image and its people, whose path it returns; the image itself is not there yet."""
    content = read_json(synthetic_coco / COCO.train_json)
    image = content['images'][0]
    people = [person for person in content['annotations'] if person['image_id'] == image['id']]
    image['file_name'] = file_name or image['file_name']
    write_json(root / COCO.train_json, {**content, 'images': [image], 'annotations': people})
    path = root / 'images' / image_path(image['file_name'])
    path.parent.mkdir(parents=True)
    return path


def mpii_people(count: int = 3) -> list[dict]:
    """Records in MPII's json form, of images that are not there."""
    rng = np.random.default_rng(0)
    return [
        {
            'image': f'{i}.jpg',
            'center': [100.0, 80.0],
            'scale': 1.5,
            'joints': rng.uniform(10, 90, (16, 2)).round(1).tolist(),
            'joints_vis': [1] * 16,
        }
        for i in range(count)
    ]
