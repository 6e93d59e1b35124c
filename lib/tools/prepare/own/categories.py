"""Which categories of an export are trained as one, and the joints that they have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.coco_categories import plain_name
from lib.tools.prepare.own.export import Joints, Pairs, Repairs

Row = tuple[str, dict]


def select_categories(
    listed: Any, rows: list[Row], chosen: Sequence[str], path: Path, repairs: Repairs
) -> tuple[tuple[str, ...], Joints, list[Row]]:
    """The names of the categories that are read, their joints, and their rows, which are those with keypoints.

    listed: the file's `categories`; chosen: names; empty: all that have rows
    Raises InputError where several categories with different joints are meant.
    """
    categories = _by_key(listed, path)
    only = next(iter(categories)) if len(categories) == 1 else ''
    groups: dict[str, list[Row]] = {}
    for where, row in rows:
        key = str(row.get('category_id', only))
        groups.setdefault(key, []).append((where, row))
    kinds = {key: _joints(categories.get(key, {}), own, path, repairs) for key, own in groups.items()}
    names = {key: str(categories.get(key, {}).get('name', key or 'object')) for key in groups}
    have = ', '.join(
        f'{names[key]} ({len(kinds[key].names)} joints, {len(own):,} labelled)' for key, own in groups.items()
    )
    if not groups:
        raise InputError(f'{path} has no instance with labelled joints: export the keypoints, not only the boxes')
    if unknown := [name for name in chosen if name not in names.values()]:
        raise InputError(f'--category {unknown[0]}: {path} has {have}: name one of these')
    selected = [key for key in groups if not chosen or names[key] in chosen]
    plain = {tuple(map(plain_name, kinds[key].names)) for key in selected}
    if len(plain) > 1:
        raise InputError(
            f'{path} has categories with different joints: {have}: name those that are one with --category'
        )
    for key in set(groups) - set(selected):
        repairs.tell(f'instances of {names[key]} left out', groups[key][0][0], len(groups[key]))
    kept = set(selected)
    return (
        tuple(names[key] for key in selected),
        kinds[selected[0]],
        [(where, row) for where, row in rows if str(row.get('category_id', only)) in kept],
    )


def _by_key(listed: Any, path: Path) -> dict[str, dict]:
    """The categories by their id as text."""
    if listed is None:
        return {}
    if not isinstance(listed, list) or not all(isinstance(category, dict) for category in listed):
        raise InputError(f'{path}: categories = {shown(listed)} should be a list of objects: export it again')
    return {str(category.get('id')): category for category in listed}


def _joints(category: dict, rows: list[Row], path: Path, repairs: Repairs) -> Joints:
    """The joints of a category, named by numbers where it does not name them."""
    names = category.get('keypoints')
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return Joints(tuple(names), _skeleton(category.get('skeleton'), len(names), path, repairs))
    where, row = rows[0]
    flat = [value for entry in row['keypoints'] for value in (entry if isinstance(entry, list) else [entry])]
    if len(flat) % 3:
        raise InputError(
            f'{where}: keypoints has {len(flat)} entries, not x, y and visibility of every joint, and the category '
            'does not name its joints: add their names to categories'
        )
    count = len(flat) // 3
    repairs.tell('joints without names, called j0, j1, ...', str(path), count)
    return Joints(tuple(f'j{i}' for i in range(count)), _skeleton(category.get('skeleton'), count, path, repairs))


def _skeleton(limbs: Any, joints: int, path: Path, repairs: Repairs) -> Pairs:
    """Pairs of joints from 0; COCO counts them from 1, but some tools from 0, which shows where a 0 is."""
    pairs = (
        [tuple(limb) for limb in limbs if isinstance(limb, list) and len(limb) == 2] if isinstance(limbs, list) else []
    )
    pairs = [pair for pair in pairs if all(isinstance(joint, int) for joint in pair)]
    first = 0 if any(0 in pair for pair in pairs) else 1
    if pairs and not first:
        repairs.tell('limbs counted from joint 0, not 1', str(path), len(pairs))
    shifted = [(a - first, b - first) for a, b in pairs]
    good = tuple((a, b) for a, b in shifted if a != b and 0 <= a < joints and 0 <= b < joints)
    if dropped := len(limbs or ()) - len(good) if isinstance(limbs, list) else 0:
        repairs.tell('limbs of joints that there are not, left out', str(path), dropped)
    return tuple(dict.fromkeys(good))
