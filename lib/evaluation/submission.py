"""Checks of result files for the official servers.

What a server would reject is reported (lib/datasets/checks.py; `refuse` raises InputError at the first issue). What it
would accept but is probably a mistake is returned as warnings.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from cvpack.files import read_json
from lib.datasets.checks import MAX_NUMBER, Issue, Report, Rows, refuse
from lib.datasets.coco_categories import PERSON
from lib.datasets.coco_json import listed_images
from lib.datasets.mpii_json import INDICES
from lib.evaluation.ground_truth import MAX_DETECTIONS

AGAIN = 'run the test again'
POINT = ('id', 'x', 'y')


def check_coco(path: Path, listing: Path, joints: int, report: Report = refuse) -> list[str]:
    """Checks a results.json in COCO's format: people in listed images, with finite joints and scores.

    listing: the json file that lists the images (image_info_test-dev2017.json); joints: K
    """
    listed = listed_images(read_json(listing), listing, report)
    rows = Rows(read_json(path, AGAIN), 'person', path, report)
    if not len(rows):
        report(Issue.NOBODY, f'{path} has no people: {AGAIN}')
    image_ids, categories = rows.integer('image_id'), rows.integer('category_id')
    known = np.isin(image_ids, list(listed))
    rows.require(known, 'image_id', Issue.FIELD, lambda i: f'image_id is not listed in {listing}')
    are_people = categories == PERSON
    rows.require(
        are_people, 'category_id', Issue.CATEGORY, lambda i: f'category_id = {categories[i]} should be {PERSON}'
    )
    rows.numeric('keypoints', 3 * joints, length=Issue.JOINTS)
    rows.numeric('score')
    _, counts = np.unique(image_ids, return_counts=True)
    crowded, most = int((counts > MAX_DETECTIONS).sum()), counts.max(initial=0)
    if not crowded:
        return []
    return [f'{path}: {crowded} images have more than {MAX_DETECTIONS} people (at most {most}): only the best count']


def check_mpii(path: Path, joints: int, people: int | None = None, report: Report = refuse) -> list[str]:
    """Checks a pred_keypoints_mpii.mat as MpiiEvaluator.write describes it, with K structs `point` of id, x, y: the ids
    in order, the numbers finite.

    joints: K; people: how many are expected
    """
    try:
        persons = np.atleast_1d(scipy.io.loadmat(path, squeeze_me=True)['pred'])
        places = np.array([[int(person[name]) for name in INDICES] for person in persons]).reshape(-1, len(INDICES))
        named = [isinstance(person['image'], str) and len(person['image']) > 0 for person in persons]
        points = [_points(person['point'], joints) for person in persons]
    except Exception as error:  # scipy raises many types on damaged files, numpy on missing fields
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        report(Issue.FILE, f'{path} is not a submission for MPII ({reason}): {AGAIN}')
        return []
    if not len(persons) or (people is not None and len(persons) != people):
        report(Issue.NOBODY, f'{path} has {len(persons)} people, not {people or "any"}: {AGAIN}')
    for i, problem in enumerate(points):
        problem = problem if named[i] else 'image should be a file name'
        if problem:
            report(Issue.FIELD, f'{path}: pred {i + 1}: {problem}: {AGAIN}')
    unplaced = int((places < 1).any(axis=1).sum())
    if not unplaced:
        return []
    return [f'{path}: {unplaced} people have no {" and ".join(INDICES)}: the server cannot identify them']


def _points(points: Any, joints: int) -> str:
    """What is wrong with a person's joints, or ''."""
    points = np.atleast_1d(points)
    values = np.array([[float(point[name]) for name in POINT] for point in points]).reshape(-1, len(POINT))
    if not np.array_equal(values[:, 0], np.arange(joints)):
        return f'point should have ids 0 to {joints - 1}, in order'
    return '' if (np.abs(values) < MAX_NUMBER).all() else 'point has an x or y that is not finite'
