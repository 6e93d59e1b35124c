"""Reads a data.yaml of Ultralytics' YOLO-pose: its classes, joints and images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.datasets.description import Pairs
from lib.datasets.image_files import is_image
from lib.tools.prepare.own.categories import distinct, numbered, same_joints
from lib.tools.prepare.own.export import Joints, Repairs
from lib.tools.prepare.own.images import ImageFiles
from lib.tools.prepare.own.joints import pairs_by_name

# Keys of the splits; CVAT writes its subsets' names, in any case.
SPLIT_KEYS = {'train': ('train', 'training'), 'val': ('val', 'valid', 'validation')}
# What else to do about a split without images or labels.
OTHERWISE = {'train': '', 'val': ', or remove it: --val-share then chooses'}


@dataclass(frozen=True)
class Data:
    """A data.yaml.

    files:         of the images
    count, values: of joints, and of numbers that each has in a row
    """

    path: Path
    files: ImageFiles
    content: dict
    count: int
    values: int

    def error(self, key: str, should: str, otherwise: str = '') -> InputError:
        """For a key with a wrong value. otherwise: what else to do"""
        value = shown(self.content.get(key))
        return InputError(f'{self.path}: {key} = {value} should {should}: correct it{otherwise}')


def read_data(path: Path, files: ImageFiles) -> Data:
    """Raises InputError for a file that is no yaml, or not YOLO-pose's."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): name a data.yaml or a json file') from None
    except UnicodeDecodeError:
        raise InputError(f'{path} is no text in UTF-8: save it as that') from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f'{path} is not valid yaml ({" ".join(str(error).split())}): export it again') from None
    if not isinstance(content, dict) or 'kpt_shape' not in content:
        raise InputError(
            f'{path} has no kpt_shape, so it is no data.yaml of YOLO-pose: export the keypoints, not only boxes; or '
            'write one, with train, names and kpt_shape: [K, 3]'
        )
    for split, keys in SPLIT_KEYS.items():
        others = [content[key] for key in content if str(key).lower() in keys and isinstance(content[key], (str, list))]
        if not content.get(split) and others:
            content[split] = others[0]
    shape = content['kpt_shape']
    if not (isinstance(shape, list) and [*map(type, shape)] == [int, int] and shape[0] > 0 and shape[1] in (2, 3)):
        raise Data(path, files, content, 0, 0).error('kpt_shape', 'be [K, 2] or [K, 3]')
    return Data(path, files, content, *shape)


def _by_class(data: Data, key: str) -> dict[int, Any]:
    """A list or a mapping, by the classes' numbers."""
    value = data.content.get(key) or {}
    listed = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(listed, dict) or not all(str(number).isdecimal() for number in listed):
        raise data.error(key, 'be a list, or a mapping from the numbers of the classes')
    return {int(number): entry for number, entry in listed.items()}


def class_names(data: Data) -> dict[int, str]:
    """Number of a class -> its name, of those that have one. Raises InputError."""
    return {number: str(name) for number, name in _by_class(data, 'names').items()}


def joints_of(data: Data, classes: dict[int, str], repairs: Repairs) -> Joints:
    """The joints of these classes: kpt_names, or numbers, and flip_idx."""
    named = data.content.get('kpt_names')
    if isinstance(named, list) and all(isinstance(name, str) for name in named):  # the same for all classes
        listed = dict.fromkeys(classes, named)
    else:
        listed = _by_class(data, 'kpt_names')
    kinds = []
    for number in classes.keys() & listed.keys():
        own = listed[number]
        if not isinstance(own, list) or not 0 < len(own) <= data.count:
            raise data.error('kpt_names', f'have at most {data.count} names a class, as kpt_shape says')
        kinds.append((str(number), classes[number], distinct([*map(str, own)], data.path, repairs)))
    same_joints(kinds, data.path)
    names = kinds[0][2] if kinds else numbered(data.count, data.path, repairs)
    return Joints(names, flip_pairs=_flip_pairs(data, names, bool(kinds), repairs))


def _flip_pairs(data: Data, names: Sequence[str], is_named: bool, repairs: Repairs) -> Pairs | None:
    """Those of flip_idx; None without one. is_named: the names are the file's own"""
    flip, joints = data.content.get('flip_idx'), range(data.count)
    if flip is None or flip == []:  # Ultralytics: no mirror joints are known
        return None
    is_permutation = isinstance(flip, list) and all(type(i) is int for i in flip) and sorted(flip) == [*joints]
    if not is_permutation or any(flip[flip[i]] != i for i in joints):
        raise data.error('flip_idx', f'name the mirror joint, from 0, of each of the {data.count}')
    pairs = tuple((i, j) for i, j in enumerate(flip) if i < j < len(names))
    by_name, _ = pairs_by_name(names)
    for a, b in pairs:
        if is_named and (a, b) not in by_name:
            what = 'pairs of flip_idx that are not left and right by their names: correct it if it is wrong'
            repairs.tell(what, f'{data.path}: {names[a]} and {names[b]}')
    return pairs


def image_files(data: Data, split: str, repairs: Repairs) -> Iterator[tuple[Path, list[Path]]]:
    """The image files of a split, of folders or of lists in text files; and the places beside which the labels of each
    may be: those where a list means it to be, though it is elsewhere (CVAT exports without images), and its own.
    """
    value, above = data.content[split], data.path.parent
    # Ultralytics takes `path` from a folder of its settings; exports are usually moved as a whole.
    inside = str(data.content.get('path') or '')
    roots = [above / inside, above, above.parent, data.files.folder, data.files.folder / inside]
    for entry in map(str, value if isinstance(value, list) else [value]):
        # Roboflow writes ../train/images for a folder beside data.yaml. The last tries are for paths of other machines.
        ends = [entry.removeprefix('../'), entry, *_ends(entry)]
        tries = ((end, root / end) for end in ends for root in roots)
        end, place = next(((end, found) for end, found in tries if found.exists()), ('', None))
        if place is None:
            should = f'name a folder, or a list of images, below {above} or below {data.files.folder}'
            raise data.error(split, should, OTHERWISE[split])
        if end not in ends[:2]:
            repairs.tell('folders or lists found by the end of their path', f'{data.path}: {entry} is {place}')
        if place.is_dir():
            found = sorted(file for file in place.rglob('*') if _is_shown(file, place) and is_image(file))
            yield from ((file, [file]) for file in found)
        else:
            yield from _listed(place, roots, data, split)


def _ends(path: str) -> list[str]:
    """What a path can be below a folder: all of it, then ever less of its end."""
    parts = [part for part in path.replace('\\', '/').split('/') if part not in ('', '.', '..')]
    return ['/'.join(parts[i:]) for i in range(len(parts))]


def _is_shown(path: Path, folder: Path) -> bool:
    """Whether a file, not hidden below the folder as ._1.jpg is, which macOS adds to archives beside 1.jpg."""
    return not path.is_dir() and not any(part.startswith('.') for part in path.relative_to(folder).parts)


def _listed(place: Path, roots: list[Path], data: Data, split: str) -> Iterator[tuple[Path, list[Path]]]:
    """The images that a text file lists, from its own folder or the data set's, or found by the end of their names; and
    the places of their labels, as image_files has them.
    """
    try:
        lines = place.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError):
        raise data.error(split, 'name a folder of images, or a text file that lists them') from None
    above = data.path.parent
    export = above.resolve()
    for line in filter(None, map(str.strip, lines)):
        listed = line.replace('\\', '/')
        file = next((found for root in (place.parent, *roots) if (found := root / listed).is_file()), None)
        file = file or data.files.folder.joinpath(*(data.files.find(line, place) or [line]))
        if file.resolve().is_relative_to(export):
            yield file, [file]
        else:  # CVAT lists data/images/train/x.jpg, and writes labels/train/x.txt; a name alone says too little
            yield file, [*(root / end for end in _ends(line)[:-1] for root in (place.parent, above)), file]
