"""COCO annotations damaged in the ways of labelling tools, each of which can be repaired without loss.

A way changes a file's content in place and returns the ids of the records that it changed, in the file's order. Ways
can follow one another in the order of WAYS; people whose boxes are lost are those of `boxless`.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

Way = Callable[[dict], list]
LOST_BOXES: tuple[Any, ...] = (None, [], [0, 0, 0, 0], 'missing')
NOWHERE: tuple[Any, ...] = (None, -1, math.nan)
PLACES = (
    'images\\{}',
    'C:\\Users\\me\\export\\{}',
    '/home/me/export/images/{}',
    'http://labels.example/files/{}',
    'task 7/images/{}',
    '/data/local-files/?d=export/{}',
)


def people(content: dict) -> list[dict]:
    """The annotations of single people with labelled joints."""
    rows = [row for row in content['annotations'] if row.get('keypoints') and not row.get('iscrowd')]
    return [row for row in rows if any(row['keypoints'][2::3])]


def boxless(content: dict) -> list[dict]:
    """Every fourth person of those whose joints have an extent, so that they tell the box."""
    wide = [row for row in people(content) if min(joint_box(row, (math.inf, math.inf), 0)[2:]) > 0]
    return wide[::4]


def joint_box(row: dict, size: tuple[float, float], margin: float = 0.15) -> list[float]:
    """x, y, width, height around a person's labelled joints: on every side a share of the longer side more, as far as
    the image (width, height) goes."""
    values = row['keypoints']
    found = []
    for axis, side in enumerate(size):
        own = [value for value, v in zip(values[axis::3], values[2::3]) if v > 0]
        found.append((min(own), max(own), side))
    more = margin * max(high - low for low, high, _ in found)
    ends = [(max(low - more, 0), min(high + more, side)) for low, high, side in found]
    return [low for low, _ in ends] + [high - low for low, high in ends]


def lose_counts(content: dict) -> list:
    """num_keypoints is gone, 0, or one too many."""
    hit = people(content)
    for i, row in enumerate(hit):
        if i % 3 == 0:
            del row['num_keypoints']
        else:
            row['num_keypoints'] = (0, row['num_keypoints'] + 1)[i % 3 - 1]
    return [row['id'] for row in hit]


def lose_boxes(content: dict) -> list:
    """Some boxes are null, empty, 0, 0, 0, 0 or missing."""
    hit = boxless(content)
    for i, row in enumerate(hit):
        row['bbox'] = LOST_BOXES[i % len(LOST_BOXES)]
        if row['bbox'] == 'missing':
            del row['bbox']
    return [row['id'] for row in hit]


def lose_areas(content: dict) -> list:
    """Every third area is 0 or missing."""
    hit = people(content)[::3]
    for i, row in enumerate(hit):
        row['area'] = 0
        if i % 2:
            del row['area']
    return [row['id'] for row in hit]


def lose_crowd_flags(content: dict) -> list:
    """iscrowd is missing, except at crowds."""
    hit = [row for row in content['annotations'] if not row['iscrowd']]
    for row in hit:
        del row['iscrowd']
    return [row['id'] for row in hit]


def displace_unlabelled(content: dict) -> list:
    """Joints that are not labelled lie at null, -1 or NaN, or keep a place."""
    hit = []
    for row in people(content):
        places = [*NOWHERE, 12.5]
        for joint, v in enumerate(row['keypoints'][2::3]):
            if v == 0:
                row['keypoints'][3 * joint : 3 * joint + 2] = [places[(len(hit) + joint) % len(places)]] * 2
                hit.append(row['id'])
    return hit


def visibility_as_floats(content: dict) -> list:
    """2.0 instead of 2."""
    hit = people(content)[::2]
    for row in hit:
        row['keypoints'][2::3] = [float(v) for v in row['keypoints'][2::3]]
    return [row['id'] for row in hit]


def add_boxes_alone(content: dict) -> list:
    """A row of a box without joints for each image: no keypoints, null, or an empty list."""
    hit = []
    for i, image in enumerate(content['images']):
        row = {'id': 70_000_000 + i, 'image_id': image['id'], 'category_id': 1, 'iscrowd': 0}
        row |= {'bbox': [1, 2, 30, 40], 'area': 1200} | ({}, {'keypoints': None}, {'keypoints': []})[i % 3]
        content['annotations'].insert(2 * i, row)
        hit.append(row['id'])
    return hit


def add_crowds(content: dict) -> list:
    """Crowds as in COCO: RLE, and all joints 0."""
    hit = []
    for i, image in enumerate(content['images'][::2]):
        row = {'id': 80_000_000 + i, 'image_id': image['id'], 'category_id': 1, 'iscrowd': 1, 'num_keypoints': 0}
        row |= {'segmentation': {'counts': [20, 50, 30], 'size': [10, 10]}, 'bbox': [1, 2, 30, 40], 'area': 50}
        content['annotations'].insert(i, row | {'keypoints': [0] * 51})
        hit.append(row['id'])
    return hit


def list_images_twice(content: dict) -> list:
    """Half of the images are listed again: the same record, or under another id, to which the last person in it refers,
    and another name."""
    hit = []
    last = {row['image_id']: row for row in people(content)}
    for i, image in enumerate(content['images'][::2]):
        again = dict(image)
        if i % 2:
            again['id'] += 90_000_000_000
            again['file_name'] = again['file_name'].replace('\\', '/')
            if image['id'] in last:
                last[image['id']]['image_id'] = again['id']
        content['images'].append(again)
        hit.append(again['id'])
    return hit


def move_images(content: dict) -> list:
    """file_name with backslashes, folders, URLs, absolute paths."""
    for i, image in enumerate(content['images']):
        image['file_name'] = PLACES[i % len(PLACES)].format(image['file_name'])
    return [image['id'] for image in content['images']]


def change_category(content: dict) -> list:
    """Category 7 beside an empty category 0, as Roboflow writes it."""
    for row in content['annotations']:
        row['category_id'] = 7
    content['categories'] = [{'id': 0, 'name': 'export'}, content['categories'][0] | {'id': 7}]
    return [row['id'] for row in content['annotations']]


def renumber(content: dict) -> list:
    """Ids from 0: of images as text, of annotations as numbers."""
    keys: dict[Any, str] = {}
    for image in content['images']:
        image['id'] = keys.setdefault(image['id'], str(len(keys)))
    for i, row in enumerate(content['annotations']):
        row |= {'id': i, 'image_id': keys[row['image_id']]}
    return [row['id'] for row in content['annotations']]


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        lose_counts,
        lose_boxes,
        lose_areas,
        displace_unlabelled,
        visibility_as_floats,
        add_boxes_alone,
        add_crowds,
        lose_crowd_flags,
        move_images,
        list_images_twice,
        change_category,
        renumber,
    )
}


def told(printed: str) -> list[tuple[int, str, str]]:
    """Count, kind and example of what `prepare own` reports to have repaired or left out; not that ids are new, which
    they are in any split."""
    lines = printed.splitlines()
    found = []
    for line, example in itertools.pairwise(lines):
        count, _, kind = line.strip().partition('  ')
        if example.lstrip().startswith('such as ') and count.replace(',', '').isdecimal():
            found.append((int(count.replace(',', '')), kind.strip(), example.strip().removeprefix('such as ')))
    return [one for one in found if 'original_id' not in one[1]]
