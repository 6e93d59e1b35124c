"""Which categories of an export are trained as one, and the joints that they have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.coco_categories import plain_name
from lib.datasets.description import Pairs
from lib.tools.prepare.own.export import Joints, Repairs

Row = tuple[str, dict]  # where it is, and what it says


def as_key(value: Any) -> str:
    """An id of any type for comparison: 5, 5.0 and '5' are the same."""
    return str(int(value)) if isinstance(value, float) and value % 1 == 0 else str(value)


def select_categories(
    listed: Any, rows: list[Row], chosen: Sequence[str], path: Path, repairs: Repairs
) -> tuple[tuple[str, ...], Joints, list[Row]]:
    """The names of the categories that are read, their joints, and their rows.

    listed: the file's `categories`; rows: those with keypoints; chosen: names; empty: all that have rows
    Raises InputError where several categories with different joints are meant.
    """
    categories = _by_key(listed, path)
    groups: dict[str, list[Row]] = {}
    for where, row in rows:
        groups.setdefault(as_key(row.get('category_id')), []).append((where, row))
    if others := groups.keys() - categories.keys():
        _adopt(categories, groups, others, repairs)
    names = {key: str(categories.get(key, {}).get('name', 'object')) for key in groups}
    check_chosen(chosen, {names[key]: f'{len(own):,} labelled' for key, own in groups.items()}, path)
    selected = {key: own for key, own in groups.items() if not chosen or names[key] in chosen}
    for key in groups.keys() - selected.keys():
        repairs.tell(f'instances of {names[key]} left out', groups[key][0][0], len(groups[key]))
    kinds = {key: _joints(categories.get(key, {}), own, path, repairs) for key, own in selected.items()}
    same_joints([(names[key], joints.names) for key, joints in kinds.items()], path)
    return (
        tuple(dict.fromkeys(names[key] for key in selected)),
        next(iter(kinds.values())),
        [(where, row) for where, row in rows if as_key(row.get('category_id')) in selected],
    )


def check_chosen(chosen: Sequence[str], have: dict[str, str], path: Path) -> None:
    """Raises InputError for a --category that the file does not have. have: name -> what there is of it"""
    if unknown := [name for name in chosen if name not in have]:
        listed = ', '.join(f'{name} ({what})' for name, what in have.items())
        raise InputError(f'--category {unknown[0]}: {path} has {listed}: name one of these')


def same_joints(kinds: list[tuple[str, tuple[str, ...]]], path: Path) -> None:
    """Raises InputError if categories, which are to be trained as one, have different joints.

    kinds: name and joints of each
    """
    if len({tuple(map(plain_name, joints)) for _, joints in kinds}) > 1:
        have = ', '.join(f'{name} ({len(joints)} joints)' for name, joints in kinds)
        raise InputError(
            f'{path} has categories with different joints: {have}: name those to train as one with --category'
        )


def _by_key(listed: Any, path: Path) -> dict[str, dict]:
    """The categories by their id."""
    if listed is None:
        return {}
    if not isinstance(listed, list) or not all(isinstance(category, dict) for category in listed):
        raise InputError(f'{path}: categories = {shown(listed)} should be a list of objects: export it again')
    categories: dict[str, dict] = {}
    for category in listed:
        other = categories.setdefault(as_key(category.get('id')), category)
        if other.get('keypoints') != category.get('keypoints'):
            raise InputError(f'{path}: two categories have the id {shown(category.get("id"))}: give each its own')
    return categories


def _adopt(categories: dict[str, dict], groups: dict[str, list[Row]], others: set[str], repairs: Repairs) -> None:
    """Takes instances of one category that is not listed as of the one that names joints, if nothing else is."""
    named = [key for key, category in categories.items() if category.get('keypoints')]
    if len(named) == len(groups) == 1:
        key = others.pop()
        categories[key] = categories[named[0]]
        what = f'instances of a category that is not listed, taken as {categories[key].get("name")}'
        repairs.tell(what, groups[key][0][0], len(groups[key]))


def _joints(category: dict, rows: list[Row], path: Path, repairs: Repairs) -> Joints:
    """The joints of a category, named by numbers where it does not name them."""
    names = category.get('keypoints')
    if isinstance(names, list) and names and all(isinstance(name, (str, int)) for name in names):
        names = distinct(list(map(str, names)), path, repairs)
    else:
        where, row = rows[0]
        flat = [value for entry in row['keypoints'] for value in (entry if isinstance(entry, list) else [entry])]
        if len(flat) % 3:
            raise InputError(
                f'{where}: keypoints has {len(flat)} entries, not x, y and visibility of every joint, and the '
                'category does not name its joints: add their names to categories'
            )
        names = numbered(len(flat) // 3, path, repairs)
    return Joints(names, _skeleton(category.get('skeleton'), len(names), path, repairs))


def numbered(count: int, path: Path, repairs: Repairs) -> tuple[str, ...]:
    """Names for joints that have none."""
    repairs.tell('joints without names, called j0, j1, ...', str(path), count)
    return tuple(f'j{i}' for i in range(count))


def distinct(names: list[str], path: Path, repairs: Repairs) -> tuple[str, ...]:
    """Names that are empty, or another joint's, get the joint's number."""
    new: list[str] = []
    for i, name in enumerate(names):
        unique = name
        while not unique.strip() or unique in new:
            unique = f'{unique.strip() or "j"}_{i}'
        if unique != name:
            repairs.tell('joints whose name is empty or that of another, renamed', f'{path}: {unique}')
        new.append(unique)
    return tuple(new)


def _skeleton(limbs: Any, joints: int, path: Path, repairs: Repairs) -> Pairs:
    """Pairs of joints from 0; COCO counts them from 1, but some tools from 0, which shows where a 0 is."""
    entries = limbs if isinstance(limbs, list) else []
    pairs = [
        (limb[0], limb[1])
        for limb in entries
        if isinstance(limb, list) and len(limb) == 2 and all(isinstance(joint, int) for joint in limb)
    ]
    first = 0 if any(0 in pair for pair in pairs) else 1
    if pairs and not first:
        repairs.tell('limbs counted from joint 0, not 1', str(path), len(pairs))
    shifted = [(a - first, b - first) for a, b in pairs]
    good = tuple((a, b) for a, b in shifted if a != b and 0 <= a < joints and 0 <= b < joints)
    if len(good) < len(entries):
        repairs.tell('limbs of joints that there are not, left out', str(path), len(entries) - len(good))
    return tuple(dict.fromkeys(good))
