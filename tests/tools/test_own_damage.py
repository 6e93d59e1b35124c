"""prepare own: whatever is wrong in an export, a data set that can be trained on comes of it, or one line.

No labelled joint is lost or changed without being told, and a fault of one record changes no other.
"""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.outcome import as_json, check_lines, check_people, outcome, untouched, untouched_lines
from tests.support.small_exports import (
    coco_export,
    coco_exports,
    damage,
    damage_bytes,
    damage_line,
    fresh,
    write_images,
    yolo_exports,
)

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
OPTIONS = st.sampled_from(((), (), ('--boxes', 'xywh'), ('--val-share', '0.5')))
TIMES = st.integers(1, 3)


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('small') / 'images')


@FEW
@given(st.data())
def test_a_json_with_damage_anywhere(images, data):
    clean = data.draw(coco_exports())
    damaged = json.loads(as_json(clean))
    for _ in range(data.draw(TIMES)):
        damage(data.draw, damaged)
    with fresh(images) as folder:
        file = folder / 'in.json'
        file.write_bytes(as_json(damaged))
        found = outcome(file, images, folder / 'out', *data.draw(OPTIONS))
    if not found.error:
        check_people(found, damaged)
        assert untouched(clean, damaged) <= {*found.people}


@FEW
@given(st.data())
def test_a_fault_in_one_person_changes_no_other(images, data):
    clean = data.draw(coco_exports())
    damaged = json.loads(as_json(clean))
    person = data.draw(st.sampled_from(damaged['annotations']))
    for _ in range(data.draw(TIMES)):
        damage(data.draw, person)
    with fresh(images) as folder:
        file = folder / 'in.json'
        file.write_bytes(as_json(damaged))
        found = outcome(file, images, folder / 'out')
    if not found.error:
        check_people(found, damaged)
        assert untouched(clean, damaged) <= {*found.people}


@FEW
@given(st.data())
def test_damage_in_one_of_two_files(images, data):
    joints = data.draw(st.integers(1, 5))
    clean, other = coco_export(3, joints, 1), coco_export(3, joints, 2, first=3)
    damaged = json.loads(as_json(clean))
    for _ in range(data.draw(TIMES)):
        damage(data.draw, damaged)
    with fresh(images) as folder:
        files = folder / 'in.json', folder / 'other.json'
        for file, content in zip(files, (damaged, other)):
            file.write_bytes(as_json(content))
        first, second = data.draw(st.permutations(files))
        options = data.draw(st.sampled_from((('--val', second), ('--annotations', first, second))))
        found = outcome(first, images, folder / 'out', *map(str, options))
    if not found.error:
        assert untouched(clean, damaged) | untouched(other, other) <= {*found.people}


@FEW
@given(st.data())
def test_a_file_that_is_cut_off_or_garbled(images, data):
    clean, (described, lines) = data.draw(coco_exports()), data.draw(yolo_exports())
    with fresh(images) as folder:
        file, labels = write_yolo(folder, described, lines, images)
        if data.draw(st.booleans()):
            file = wrong = folder / 'in.json'
            file.write_bytes(as_json(clean))
        else:
            wrong = data.draw(st.sampled_from([file, *labels]))
        wrong.write_bytes(damage_bytes(data.draw, wrong.read_bytes()))
        found = outcome(file, images if file == wrong else folder / 'images', folder / 'out')
    assert len(found.people) <= max(len(clean['annotations']), 2 * sum(map(len, lines.values())))


def write_yolo(folder: Path, described: dict, lines: dict[str, list[str]], images: Path) -> tuple[Path, list[Path]]:
    """Writes data.yaml, the label files, and the images that have one."""
    files = []
    for name, own in lines.items():
        image, label = folder / 'images' / name, (folder / 'labels' / name).with_suffix('.txt')
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        os.link(images / name, image)
        label.write_text('\n'.join(own), encoding='utf-8')
        files.append(label)
    (folder / 'data.yaml').write_text(yaml.safe_dump(described), encoding='utf-8')
    return folder / 'data.yaml', files


@FEW
@given(st.data())
def test_a_data_yaml_with_damage_anywhere(images, data):
    described, lines = data.draw(yolo_exports())
    for _ in range(data.draw(TIMES)):
        damage(data.draw, described)
    with fresh(images) as folder:
        file, _ = write_yolo(folder, described, lines, images)
        found = outcome(file, folder / 'images', folder / 'out', *data.draw(OPTIONS))
    assert len(found.people) <= 2 * sum(map(len, lines.values()))


@FEW
@given(st.data())
def test_label_files_with_damage_anywhere(images, data):
    described, lines = data.draw(yolo_exports())
    damaged = {name: [*own] for name, own in lines.items()}
    for _ in range(data.draw(TIMES)):
        own = damaged[data.draw(st.sampled_from([*damaged]))]
        if own:
            i = data.draw(st.integers(0, len(own) - 1))
            own[i : i + 1] = data.draw(st.sampled_from(([], own[i : i + 1] * 2, [damage_line(data.draw, own[i])])))
    with fresh(images) as folder:
        file, _ = write_yolo(folder, described, damaged, images)
        found = outcome(file, folder / 'images', folder / 'out', *data.draw(OPTIONS))
    if not found.error:
        check_lines(found, damaged)
        assert untouched_lines(lines, damaged) <= {*found.people}
