"""Categories in COCO's json files: which annotations are people, and whether their joints match the configuration.

Only category 1 is trained and tested on. Annotations of other categories must not have keypoints.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.datasets.checks import Issue, Report, Rows, refuse, shown

PERSON = 1


def is_labelled_person(annotation: dict, min_keypoints: int = 1) -> bool:
    """Whether an annotation is one person (no crowd) with at least `min_keypoints` labelled joints."""
    return not annotation.get('iscrowd', 0) and annotation.get('num_keypoints', 0) >= min_keypoints


def check_joint_names(content: dict, path: Path, names: Sequence[str], report: Report = refuse) -> None:
    """Reports categories whose joints differ from `names`, or are in another order.

    Checks the category of people and all others that have labelled annotations.
    """
    if explanation := category_per_joint(content, path):
        report(Issue.CATEGORY, explanation)
        return
    used = {PERSON, *_joint_lengths(content)}
    if not isinstance(categories := content.get('categories', []), list):
        report(Issue.FILE, f'{path}: categories = {shown(categories)} should be a list: is it the right file?')
        return
    for category, told in _joint_names(content):
        if category not in used:
            continue
        which = 'its category' if category == PERSON else f'its category {category}'
        theirs, ours = list(map(plain_name, told)), list(map(plain_name, names))
        moved = (i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b and (a in ours or b in theirs))
        if len(told) != len(names):
            text = f'{which} has {len(told)} joints, but DATASET.KEYPOINT.NUM = {len(names)}'
            report(Issue.JOINTS, f'{path}: {text}: describe the data set as it is (docs/own_data.md)')
        elif (i := next(moved, None)) is not None:
            text = f'joint {i} is {shown(told[i])} in {which}, {shown(names[i])} in DATASET.KEYPOINT.NAMES'
            report(Issue.JOINTS, f'{path}: {text}: name them in the order of the file')
        elif other := next((name for name, plain in zip(told, theirs) if plain not in ours), None):
            report(Issue.NAMES, f'{path}: {which} has a joint {shown(other)}, which the configuration does not name')


def plain_name(name: str) -> str:
    """A joint's name without case and separators: Right Hip, right_hip and rightHip are the same."""
    return re.sub(r'[\W_]+', '', name).lower() or name


def _joint_names(content: dict) -> list[tuple[int, list[str]]]:
    """(id, joint names) of the categories that name their joints; a repeated id is repeated here."""
    categories = content.get('categories')
    named: list[tuple[int, list[str]]] = []
    for category in categories if isinstance(categories, list) else []:
        names = category.get('keypoints') if isinstance(category, dict) else None
        if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            continue
        if isinstance(category.get('id'), (int, float)):
            named.append((category['id'], names))
    return named


def has_joints(rows: Sequence[dict], min_keypoints: int = 1) -> np.ndarray:
    """(n,) bool: is_labelled_person for unchecked rows; without num_keypoints, having `keypoints` is enough."""
    return np.array([_has_joints(row, min_keypoints) for row in rows], bool)


def _has_joints(row: dict, min_keypoints: int) -> bool:
    if isinstance(row.get('num_keypoints'), (int, float)):
        return is_labelled_person(row, min_keypoints)
    return not row.get('iscrowd', 0) and bool(row.get('keypoints'))


def _joint_lengths(content: dict) -> dict[float, set[int]]:
    """Category of labelled annotations -> the lengths of their `keypoints`, 0 for one that is not a list."""
    rows = content.get('annotations')
    lengths: dict[float, set[int]] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and _has_joints(row, 1):
            category, joints = row.get('category_id', PERSON), row.get('keypoints')
            if isinstance(category, (int, float)):
                lengths.setdefault(category, set()).add(len(joints) if isinstance(joints, list) else 0)
    return lengths


def category_per_joint(content: dict, path: Path) -> str | None:
    """The message for a file in which every joint is a category of its own; None for other files."""
    lengths = _joint_lengths(content)
    if len(lengths) < 2 or any(own != {3} for own in lengths.values()):
        return None
    text = f'its annotations with keypoints are of {len(lengths)} categories and have one joint each'
    whose = 'as COCO Annotator exports joints that were labelled as categories'
    return f'{path}: {text}, {whose}: make each person one annotation of category {PERSON} with all joints in order'


def joint_count(content: dict, default: int) -> int:
    """The number of joints that the category of people names; `default` if it names none."""
    return next((len(names) for category, names in _joint_names(content) if category == PERSON), default)


def of_people(rows: Rows, content: dict, every: bool = False) -> Rows:
    """The rows of the category of people; labelled rows of other categories are reported.

    every: rows without joints must have a category too, as pycocotools needs it
    If no labelled row is of that category, the others are returned too, so that their further faults are found.
    """
    labelled = has_joints(rows.rows)
    categories = rows.integer('category_id', default=None if every else PERSON)
    is_person = (categories == PERSON) | rows.wrong('category_id')
    others = labelled & ~is_person
    if not others.any():
        return rows.only(is_person)
    explanation = category_per_joint(content, rows.path)
    if explanation:
        rows.report(Issue.CATEGORY, explanation)
        return rows.only(is_person)
    anybody = (labelled & is_person).any()
    text = f'should be {PERSON}{"" if anybody else ", also as id in `categories`"}: it has keypoints'
    rows.require(~others, 'category_id', Issue.CATEGORY, lambda i: f'category_id = {categories[i]} {text}')
    return rows.only(is_person if anybody else is_person | others)
