"""What becomes of an export that `prepare own` gets: a data set that can be trained on, or one line."""

import contextlib
import io
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.config import run_config
from lib.datasets.coco import CocoReader
from lib.datasets.description import Description
from lib.tools.prepare import __main__ as prepare
from tests.support.damage import told
from tests.support.small_exports import FILES, JOINTS, size_of

# What is told of people and joints that are not as they were.
LOSS = re.compile(
    r'(instances|boxes|crowds)\b.*(left out|kept once)'
    r'|joints (?!that are).*(visib|not labelled)|instances.*visib(?!.*floats)'
)
Labelled = tuple[tuple[str, float, float, float], ...]  # name, x, y, visibility
Person = tuple[str, Labelled]  # the image file, and the joints
NOBODY = ('',) * 100


def as_json(content: Any) -> bytes:
    """Whatever Python's json can write, with NaN and lone surrogates."""
    return json.dumps(content).encode()


@dataclass
class Outcome:
    """error: the line with which it ended; '' for a data set"""

    error: str
    printed: str
    people: list[Person]

    @property
    def losses(self) -> int:
        """How many people and joints it tells to have left out or changed."""
        return sum(count for count, kind, _ in told(self.printed) if LOSS.match(kind))


def outcome(annotations: Path, images: Path, folder: Path, *options: str) -> Outcome:
    """Runs the command into a folder that is not there yet. Warnings are errors.

    What is refused has to be one line that names a file, and leave nothing behind; what is not has to be taken by the
    reader that trains and tests.
    """
    out, err = io.StringIO(), io.StringIO()
    places = ['--target', str(folder / 'data'), '--experiments', str(folder / 'exps')]
    inputs = ['--annotations', str(annotations), '--images', str(images), '--name', 'it']
    error = ''
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        warnings.simplefilter('error')
        try:
            prepare.main(['own', *inputs, *places, *options])
        except SystemExit as stop:
            error = err.getvalue()
            assert stop.code == 2
    if error:
        lines = error.splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: ') and len(lines[0]) < 1000, error
        assert str(annotations.parent) in error or str(images) in error, error
        assert not [path for path in folder.rglob('*') if not path.is_dir()], error
        return Outcome(error, out.getvalue(), [])
    (experiment,) = (folder / 'exps').iterdir()
    dataset = Description.from_config(run_config(experiment).DATASET)
    return Outcome('', out.getvalue(), read_people(dataset, images))


def read_people(dataset: Description, images: Path) -> list[Person]:
    """The people of train and val by the reader of training and testing."""
    reader, people = CocoReader(dataset), []
    reader.check_validation()
    for records in (reader.train_records(1), reader.test_set('val', True).records):
        joints, visibility = records.labels
        assert np.isfinite(records.center).all() and (records.scale > 0).all()
        points = np.concatenate([joints, visibility[..., None]], axis=2).tolist()
        for i, own in enumerate(points):
            file = records.path(i).resolve().relative_to(images.resolve())
            assert (images / file).is_file()
            people.append((str(file), labelled(own, dataset.joint_names)))
    return people


def labelled(joints: Iterable[Sequence], names: Sequence[str]) -> Labelled:
    """Those that are labelled beyond doubt: x, y and visibility are finite, the last one 1 or 2. As float32."""
    found = []
    for name, joint in zip(names, joints):
        if all(type(value) in (int, float) and abs(value) < 1e9 for value in joint) and joint[2] in (1, 2):
            found.append((name, *np.float32(joint).tolist()))
    return tuple(found)


def untouched(clean: dict, damaged: Any) -> set[Person]:
    """The people of a COCO file whose annotation, image and category are still as they were."""
    parts = [damaged.get(key) if isinstance(damaged, dict) else None for key in ('images', 'annotations')]
    if damaged != {**clean, 'images': parts[0], 'annotations': parts[1]} or not all(isinstance(p, list) for p in parts):
        return set()
    names = {image['id']: image['file_name'] for image in clean['images'] if image in parts[0]}
    rows = [row for row in clean['annotations'] if row in parts[1] and row['image_id'] in names]
    return {(names[row['image_id']], labelled(in_threes(row['keypoints']), JOINTS)) for row in rows}


def untouched_lines(clean: dict[str, list[str]], damaged: dict[str, list[str]]) -> set[Person]:
    """The people of label files whose lines are still there."""
    kept = [(name, line) for name, own in clean.items() for line in own if line in damaged[name]]
    return {(name, labelled(in_pixels(line, name), JOINTS)) for name, line in kept}


def in_numbers(value: Any) -> Any:
    """A number that is written as text is the number."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) and math.isfinite(float(value)) else value
    return value


def in_threes(values: Sequence) -> list[tuple]:
    return [*zip(values[::3], values[1::3], values[2::3])]


def in_pixels(line: str, name: str) -> list[tuple]:
    """The joints of a line of a label file."""
    width, height = size_of(FILES.index(name))
    joints = in_threes([float(token) for token in line.split()][5:])
    return [(x * width, y * height, v) for x, y, v in joints]


def check_people(found: Outcome, content: Any) -> None:
    """Nobody of a data set is invented, and whoever is not there, or not with all joints as labelled, is told.

    content: of the COCO file, in whatever state
    """
    listed = content.get('annotations') if isinstance(content, dict) else None
    rows = []
    for row in listed if isinstance(listed, list) else []:
        values = row.get('keypoints') if isinstance(row, dict) else None
        if isinstance(values, list) and all(isinstance(value, list) for value in values):
            values = [number for joint in values for number in joint]
        rows.append(in_threes([*map(in_numbers, values)]) if isinstance(values, list) else [])
    _check(found, rows)


def check_lines(found: Outcome, lines: dict[str, list[str]]) -> None:
    """The same for label files."""
    rows = []
    for name, own in lines.items():
        for line in own:
            with contextlib.suppress(ValueError):
                rows.append(in_pixels(line, name))
    _check(found, rows)


def _check(found: Outcome, rows: list[list[tuple]]) -> None:
    """rows: the joints of everybody in the export. Names are not compared: they may be what is damaged."""
    meant = Counter(tuple(joint[1:] for joint in labelled(row, NOBODY)) for row in rows)
    people = Counter(tuple(joint[1:] for joint in joints) for _, joints in found.people)
    missing = meant - people
    del missing[()]
    assert missing.total() <= found.losses, (missing, found.printed[:1000])
    for person in people - meant:
        places = {joint[:2] for joint in person}
        known = any(places <= {joint[:2] for joint in row} for row in rows)
        assert known or found.losses, person
