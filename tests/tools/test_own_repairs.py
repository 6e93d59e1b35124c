"""prepare own: every repair alone, with what is told of it; and what is not guessed."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cvpack.files import read_json
from lib.datasets.checks import Issue
from lib.tools.check_data.__main__ import Findings
from lib.tools.prepare.own import command
from tests.support.annotations import write_json
from tests.support.commands import names_all
from tests.support.damage import WAYS, boxless, joint_box, people, told
from tests.support.outcome import Outcome, outcome, untouched
from tests.support.small_exports import FILES, coco_export, write_images

AREA_RATIO = 0.53  # of the box, where no area is given
# What is told of a way of damage: words of the kind, and how many of the changed records it counts.
TOLD: dict[str, tuple[tuple[str, Callable[[int], int]], ...]] = {
    'lose_counts': (('without num_keypoints', lambda n: -(-n // 3)), ('whose num_keypoints', lambda n: n - -(-n // 3))),
    'lose_boxes': (('boxes from the joints', int),),
    'lose_areas': (('areas from the box', int),),
    'displace_unlabelled': (('coordinates set to 0', int),),
    'visibility_as_floats': (('as floats', int),),
    'lose_crowd_flags': (('without iscrowd', int),),
    'change_category': (('instances of category 7', int),),
    'add_boxes_alone': (('boxes without joints left out', int),),
    'add_crowds': (('crowds left out', int),),
    'list_images_twice': (('images listed several times', int),),
    'move_images': (('images found by the end of their names', int),),
}


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('small') / 'images')


def clean() -> dict:
    return coco_export(count=len(FILES), joints=5, seed=1)


def prepared(content: dict, images: Path, folder: Path, *options: str) -> Outcome:
    return outcome(write_json(folder / 'in.json', content), images, folder / 'out', *options)


def written(folder: Path) -> dict[str, list[dict]]:
    """The images and annotations of both splits, by what they are called in the export."""
    both = [read_json(folder / f'out/data/person_keypoints_{split}.json') for split in ('train', 'val')]
    return {part: [row for content in both for row in content[part]] for part in ('images', 'annotations')}


@pytest.fixture(scope='module')
def undamaged(images, tmp_path_factory) -> Outcome:
    """Of the clean export, of which nothing is told."""
    found = prepared(clean(), images, tmp_path_factory.mktemp('clean'))
    assert {*found.people} == untouched(clean(), clean()) and not told(found.printed)
    assert len(found.people) == len(clean()['annotations']) > len(FILES)
    return found


@pytest.mark.parametrize('name', WAYS)
def test_a_repair(name, undamaged, images, tmp_path):
    content = clean()
    hit = WAYS[name](content)
    found = prepared(content, images, tmp_path)
    assert found.people == undamaged.people and hit
    kinds = told(found.printed)
    for words, count in TOLD.get(name, ()):
        ((counted, _, example),) = [one for one in kinds if words in one[1]]
        assert counted == count(len(hit))
        assert str(tmp_path / 'in.json') in example and any(f'(id {key!r})' in example for key in hit)


def test_boxes_and_areas_that_are_lost(images, tmp_path):
    content, damaged = clean(), clean()
    lost = {row['id']: row for row in boxless(content)}
    WAYS['lose_boxes'](damaged)
    areas = WAYS['lose_areas'](damaged)
    prepared(damaged, images, tmp_path)
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    meant = {row['id']: row for row in content['annotations']}
    found = {row.get('original_id', row['id']): row for row in written(tmp_path)['annotations']}
    assert found.keys() == meant.keys() and {*lost} & {*areas} and {*lost} - {*areas} and {*areas} - {*lost}
    for key, row in found.items():
        box = joint_box(meant[key], sizes[meant[key]['image_id']]) if key in lost else meant[key]['bbox']
        np.testing.assert_allclose(row['bbox'], box)
        area = AREA_RATIO * box[2] * box[3] if key in areas else meant[key]['area']
        assert row['area'] == pytest.approx(area)


@pytest.mark.parametrize('area', [lambda box: 1.5 * box, lambda box: 0.0001 * box, lambda box: -box])
def test_areas_that_cannot_be_in_their_box(area, images, tmp_path):
    """As where the missing joints are taken to be at 0, 0 (Supervisely), or ratios of the image."""
    content = clean()
    row = people(content)[1]
    row['area'] = area(math.prod(row['bbox'][2:]))
    found = prepared(content, images, tmp_path)
    ((count, _, example),) = [one for one in told(found.printed) if 'areas from the box' in one[1]]
    assert count == 1 and f'(id {row["id"]})' in example
    meant = {own['id']: own['area'] for own in clean()['annotations']}
    meant[row['id']] = AREA_RATIO * math.prod(row['bbox'][2:])
    areas = {own.get('original_id', own['id']): own['area'] for own in written(tmp_path)['annotations']}
    assert areas == pytest.approx(meant)


@pytest.mark.parametrize('given', ['no box', 'a box of the joints', '--boxes joints'])
def test_areas_of_masks_are_kept(given, images, tmp_path):
    """Larger than a box around the joints, and true: the joints are in a part of the body."""
    content = clean()
    sizes = {image['id']: [image['width'], image['height']] for image in content['images']}
    for row in content['annotations']:
        points = np.reshape(row['keypoints'], (-1, 3))
        low, high = (getattr(points[points[:, 2] > 0, :2], end)(axis=0) for end in ('min', 'max'))
        tight = [*low.tolist(), *(high - low).tolist()]
        whole = [0, 0, *sizes[row['image_id']]]
        row['bbox'] = {'no box': None, 'a box of the joints': tight, '--boxes joints': whole}[given]
        row['area'] = 0.9 * math.prod(whole[2:])
    prepared(content, images, tmp_path, *(given.split() if given.startswith('--') else ()))
    meant = {row['id']: row['area'] for row in content['annotations']}
    found = {row.get('original_id', row['id']): row['area'] for row in written(tmp_path)['annotations']}
    assert found == pytest.approx(meant)


def test_sizes_and_areas_written_as_text(undamaged, images, tmp_path):
    """They count as numbers do: an image of another size is told."""
    content = clean()
    for row in content['annotations']:
        row |= {key: str(row[key]) for key in ('area', 'num_keypoints')}
    nothing = clean()
    nothing['annotations'][0]['area'] = math.nan
    assert not any('as text' in kind for _, kind, _ in told(prepared(nothing, images, tmp_path / 'nan').printed))
    for row in content['images']:
        row |= {key: str(row[key]) for key in ('width', 'height')}
    found = prepared(content, images, tmp_path / 'text')
    assert found.people == undamaged.people and [kind for _, kind, _ in told(found.printed)] == [
        'instances with numbers written as text'
    ]
    prepared(clean(), images, tmp_path / 'numbers')
    assert written(tmp_path / 'text') == written(tmp_path / 'numbers')


@pytest.mark.parametrize(
    ('change', 'remedy'),
    [
        (lambda width, height: (2 * width, 2 * height), 'give the images that were labelled'),
        (lambda width, height: (width, 2 * height), 'give the images that were labelled'),
        (lambda width, height: (height, width), 'exiftool'),
    ],
)
def test_images_of_another_size_than_the_labelled_ones(change, remedy, undamaged, images, tmp_path):
    """Resized, stretched or padded, or turned by EXIF: the joints would be elsewhere."""
    content = clean()
    for row in content['images']:
        row['width'], row['height'] = change(row['width'], row['height'])
    names_all(prepared(content, images, tmp_path).error, tmp_path / 'in.json', remedy, 'remove', 'width and height')
    for row in content['images']:
        del row['width'], row['height']
    assert prepared(content, images, tmp_path / 'told').people == undamaged.people


def test_more_people_in_an_image_than_ap_counts(images, tmp_path):
    content = clean()
    for image in content['images']:
        first = next(row for row in people(content) if row['image_id'] == image['id'])
        for number in range(21):
            moved = [value + number / 64 * (i % 3 == 0 and value > 0) for i, value in enumerate(first['keypoints'])]
            ids = {'id': 100 * image['id'] + number, 'keypoints': moved}
            content['annotations'].append(first | ids)
    ((count, _, example),) = [one for one in told(prepared(content, images, tmp_path).printed) if 'AP' in one[1]]
    assert count == 1 and 'image ' in example


def test_ids_of_any_type_are_kept_aside(images, tmp_path):
    content = clean()
    for image in content['images']:
        image['id'] = f'IMG-{image["id"]}'
    for row in content['annotations']:
        row |= {'id': {'uuid': row['id']}, 'image_id': f'IMG-{row["image_id"]}'}
    prepared(content, images, tmp_path)
    rows = written(tmp_path)
    for part in ('images', 'annotations'):
        assert sorted(str(row['original_id']) for row in rows[part]) == sorted(str(row['id']) for row in content[part])
    names = {row['original_id']: row['file_name'] for row in rows['images']}
    assert names == {image['id']: image['file_name'] for image in content['images']}


@pytest.mark.parametrize(('values', 'words'), [((0, 1, 1), 'without 2'), ((0, 0.7, 0.9), 'confidence')])
def test_visibilities_that_say_only_labelled_or_not(values, words, images, tmp_path):
    meant, content = clean(), clean()
    changed = 0
    for row, own in zip(meant['annotations'], content['annotations']):
        given = own['keypoints'][2::3]
        own['keypoints'][2::3] = [values[v] for v in given]
        row['keypoints'][2::3] = [2 * (v > 0) for v in given]
        changed += sum(v > 0 for v in given)
    found = prepared(content, images, tmp_path)
    assert found.people == prepared(meant, images, tmp_path / 'meant').people
    ((count, _, example),) = [one for one in told(found.printed) if words in one[1]]
    assert count == changed
    names_all(example, tmp_path / 'in.json', '(id 1)')


@pytest.mark.parametrize('place', [None, math.nan, -1, 0])
def test_labelled_joints_without_a_place(place, images, tmp_path):
    content = clean()
    row = people(content)[0]
    joint = row['keypoints'][2::3].index(2)
    row['keypoints'][3 * joint : 3 * joint + 2] = [place, place]
    found = prepared(content, images, tmp_path)
    (told_of,) = [one for one in told(found.printed) if 'marked as labelled' in one[1]]
    assert told_of[0] == 1 and '(id 1)' in told_of[2]
    content['annotations'][0]['keypoints'][3 * joint : 3 * joint + 3] = 0, 0, 0
    assert found.people == prepared(content, images, tmp_path / 'meant').people


def unlabelled(row: dict) -> None:
    row['keypoints'][2::3] = [0] * (len(row['keypoints']) // 3)


def unlisted(row: dict) -> None:
    row['image_id'] = 99


def single(row: dict) -> None:
    row |= {'keypoints': [9, 9, 2] + [0] * (len(row['keypoints']) - 3), 'bbox': None}


def crowd(row: dict) -> None:
    row['iscrowd'] = True


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (unlabelled, 'without a labelled joint'),
        (unlisted, 'image is not listed'),
        (single, 'lie in one point'),
        (crowd, 'crowds'),
    ],
)
def test_people_that_are_left_out(change, words, images, tmp_path):
    content = clean()
    change(content['annotations'][2])
    found = prepared(content, images, tmp_path)
    assert {*found.people} == untouched(clean(), content)
    ((count, _, example),) = [one for one in told(found.printed) if words in one[1] and 'left out' in one[1]]
    assert count == 1
    names_all(example, tmp_path / 'in.json', '(id 3)')


def test_what_is_found_at_the_end_leaves_nothing(images, tmp_path, monkeypatch):
    """But what was there before."""
    mine = tmp_path / 'out/data/mine.txt'
    mine.parent.mkdir(parents=True)
    mine.touch()

    def fatal(*_: object) -> Findings:
        findings = Findings()
        findings(Issue.BOX, 'a box')
        return findings

    monkeypatch.setattr(command, 'check', fatal)
    with pytest.raises(AssertionError, match=r'mine\.txt|out/data'):
        prepared(clean(), images, tmp_path)
    assert [path for path in (tmp_path / 'out').rglob('*') if not path.is_dir()] == [mine]


def corners(content: dict) -> None:
    for row in content['annotations']:
        x, y, width, height = row['bbox']
        row['bbox'] = [x, y, x + width, y + height]


def ratios(content: dict) -> None:
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    for row in content['annotations']:
        width, height = sizes[row['image_id']]
        row['bbox'] = [value / side for value, side in zip(row['bbox'], (width, height) * 2)]
        for axis, side in enumerate((width, height)):
            row['keypoints'][axis::3] = [value / side for value in row['keypoints'][axis::3]]


@pytest.mark.parametrize(('change', 'option'), [(corners, '--boxes xyxy'), (ratios, '--normalised')])
def test_what_is_not_guessed(change, option, undamaged, images, tmp_path):
    content = clean()
    change(content)
    refused = prepared(content, images, tmp_path)
    names_all(refused.error, tmp_path / 'in.json', option)
    found = prepared(content, images, tmp_path / 'told', *option.split())
    assert found.people == undamaged.people
    meant = {row['id']: row['bbox'] for row in clean()['annotations']}
    for row in written(tmp_path / 'told')['annotations']:
        np.testing.assert_allclose(row['bbox'], meant[row.get('original_id', row['id'])])


def test_a_name_that_can_be_two_files(images, tmp_path):
    content = clean()
    content['images'][0]['file_name'] = 'somewhere/twice.png'
    names_all(prepared(content, images, tmp_path).error, 'somewhere/twice.png', 'x/twice.png', 'y/twice.png')
    content['images'][0]['file_name'] = 'C:\\export\\y\\twice.png'
    assert json.dumps('y/twice.png') in json.dumps([name for name, _ in prepared(content, images, tmp_path).people])
