"""Which categories of an export are trained as one, and the joints that they have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.coco_categories import PERSON, plain_name
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
    selected = chosen_categories(chosen, names, path, repairs)
    for key, own in groups.items():
        if key not in selected:
            repairs.tell(f'instances of {names[key]} left out', own[0][0], len(own))
        elif key != str(PERSON):
            repairs.tell(f'instances of category {shown(key)[1:-1]}, now {PERSON}', own[0][0], len(own))
    kinds = {key: _joints(categories.get(key, {}), groups[key], path, repairs) for key in selected}
    same_joints([(key, names[key], joints.names) for key, joints in kinds.items()], path)
    return (
        tuple(dict.fromkeys(names[key] for key in selected)),
        next(iter(kinds.values())),
        [(where, row) for where, row in rows if as_key(row.get('category_id')) in selected],
    )


def chosen_categories(chosen: Sequence[str], names: dict[str, str], path: Path, repairs: Repairs) -> list[str]:
    """The ids of the categories that --category names, or has the id of; all if it is not given.

    names: id -> name of those that have labelled instances. Raises InputError if it names none of them.
    """
    unknown = [name for name in chosen if name not in names and name not in names.values()]
    if unknown and (len(unknown) == len(chosen) or not names):
        have = ', '.join(f'{shown(name)} (id {shown(key)[1:-1]})' for key, name in names.items())
        raise InputError(f'--category {unknown[0]}: {path} has labelled instances of {have}: name one of these')
    for name in unknown:  # another file may have it
        repairs.tell(f'files without labelled instances of --category {name}', str(path))
    return [key for key, name in names.items() if not chosen or name in chosen or key in chosen]


def same_joints(kinds: list[tuple[str, str, tuple[str, ...]]], path: Path) -> None:
    """Raises InputError if categories, which are to be trained as one, have different joints.

    kinds: id, name and joints of each
    """
    if len({tuple(map(plain_name, joints)) for _, _, joints in kinds}) > 1:
        have = ', '.join(f'{shown(name)} (id {key}, {len(joints)} joints)' for key, name, joints in kinds)
        raise InputError(
            f'{path} has categories with different joints: {have}: name those to train as one (or their ids) with '
            '--category'
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
    """Takes instances of a category that is not listed as of the one whose supercategory has the id, as SuperAnnotate
    writes it; or, if nothing else is there, as of the one that names joints.
    """
    named = [key for key, category in categories.items() if category.get('keypoints')]
    for id_ in [*others]:
        above = [key for key in named if str(categories[key].get('supercategory') or '') == id_]
        if len(above) == 1:
            others.remove(id_)
            categories[id_] = categories[above[0]]
            repairs.tell('instances whose category is a supercategory', groups[id_][0][0], len(groups[id_]))
    if not others:
        return
    if len(named) == len(groups) == 1:
        key = others.pop()
        categories[key] = categories[named[0]]
        what = f'instances of a category that is not listed, taken as {categories[key].get("name")}'
        repairs.tell(what, groups[key][0][0], len(groups[key]))


def _joints(category: dict, rows: list[Row], path: Path, repairs: Repairs) -> Joints:
    """The joints of a category, named by numbers where it does not name them."""
    listed = category.get('keypoints')
    if listed:
        entries = listed if isinstance(listed, list) else [None]
        entries = [entry.get('name') if isinstance(entry, dict) else entry for entry in entries]
        if not all(isinstance(entry, (str, int)) for entry in entries):
            raise InputError(
                f'{path}: the keypoints of a category are {shown(listed)}: they should be a list of joint names'
            )
        names = distinct(list(map(str, entries)), path, repairs)
    else:
        names = numbered(_count(rows), path, repairs)
    return Joints(names, _skeleton(category.get('skeleton'), len(names), path, repairs))


def _count(rows: list[Row]) -> int:
    """The number of joints of instances whose category does not name them. Raises InputError if it is unclear."""
    where, row = rows[0]
    values = row['keypoints']
    if all(isinstance(entry, list) for entry in values):  # a list a joint
        return len(values)
    # A number of entries that 6 divides can be pairs too. Their third values are no visibilities.
    thirds = [value for _, own in rows for value in own['keypoints'][2::3]]
    if len(values) % 3 or (len(values) % 2 == 0 and not all(value in (None, -1, 0, 1, 2) for value in thirds)):
        raise InputError(
            f'{where}: keypoints has {len(values)} entries, which are not clearly x, y and visibility of every joint, '
            'and the category does not name its joints: add their names to categories'
        )
    return len(values) // 3


def numbered(count: int, path: Path, repairs: Repairs) -> tuple[str, ...]:
    """Names for joints that have none."""
    repairs.tell('files that do not name their joints, which are called j0, j1, ...', str(path))
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
