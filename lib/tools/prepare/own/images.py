"""Finds the image files that an export means, under whatever names it lists them."""

import dataclasses
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from cvpack.errors import InputError
from lib.datasets.checks import Issue
from lib.datasets.image_names import image_path, is_safe
from lib.datasets.sides import words
from lib.tools.check_data.images import read_images
from lib.tools.check_data.records import Listing
from lib.tools.prepare.own.export import Export, ListedImage, Repairs

Parts = tuple[str, ...]  # of a path
# Words of folders and of files of annotations that tell nothing of which images are meant.
GENERIC = {'images', 'annotations', 'labels', 'keypoints', 'coco', 'data'}


class ImageFiles:
    """All files below a folder, by their names as `plain` has them."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f'--images {folder} is not a folder: name the one with the images')
        self.folder = folder
        self.by_name: dict[str, list[Parts]] = defaultdict(list)
        seen = set()
        for parent, folders, names in os.walk(folder, followlinks=True):
            if (real := os.path.realpath(parent)) in seen:  # a link to a folder above would never end
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            below = Path(parent).relative_to(folder).parts
            for name in sorted(names):
                self.by_name[plain(name)].append((*below, name))
        self.paths = {path for paths in self.by_name.values() for path in paths}

    def find(self, name: str, listing: Path) -> Parts | None:
        """The path below the folder of the file whose path agrees with `name` in most of its end; None if none does.

        listing: the file that lists the name; of several files, that nearest to it is meant
        Raises InputError if several files agree equally well.
        """
        for parts in readings(name):
            if found := self._best(parts, listing):
                if len(found) > 1:
                    several = ' and '.join(repr('/'.join(path)) for path in found[:3])
                    raise InputError(
                        f'{name!r} can be {several} in {self.folder}: write the folder too, or name one that holds '
                        'only the file that is meant'
                    )
                return found[0]
        return None

    def _best(self, parts: Parts, listing: Path) -> list[Parts]:
        if parts in self.paths:
            return [parts]
        candidates = self.by_name.get(plain(parts[-1]), [])
        best = _highest(candidates, lambda path: (_agreement(parts, path), parts[-1] == path[-1]))
        return _highest(best, lambda path: _nearness(self.folder, path, listing)) if len(best) > 1 else best


def _highest(paths: list[Parts], score: Callable[[Parts], tuple]) -> list[Parts]:
    """Those with the highest score."""
    scores = [score(path) for path in paths]
    highest = max(scores, default=None)
    return [path for path, own in zip(paths, scores) if own == highest]


def _nearness(images: Path, path: Parts, listing: Path) -> tuple[bool, int, bool]:
    """Higher for what is meant by a file of annotations: an image beside it, one with more of the folders above in
    common (data sets side by side), one in a folder that its name begins or ends with (train.json, CVAT's
    keypoints_Train.json).
    """
    folder, near = images.joinpath(*path[:-1]).resolve(), listing.parent.resolve()
    common = _agreement(folder.parts[::-1], near.parts[::-1])
    named = words(plain(listing.stem))
    parts = [words(plain(part)) for part in path[:-1]]
    telling = [own for own in parts if any(word not in GENERIC and not word.isdecimal() for word in own)]
    return folder == near, common, any(own in (named[: len(own)], named[-len(own) :]) for own in telling)


def plain(name: str) -> str:
    """A name for comparison: without case, and accents as one character with their letter, which macOS separates."""
    return unicodedata.normalize('NFC', name).casefold()


def readings(name: str) -> list[Parts]:
    """The folders and the name that a path or a URL can mean: as it stands, then with %20 as a space; of a URL, those
    in its query first.
    """
    texts = [name, unquote(name)]
    if '://' in name or '?' in name:
        try:
            url = urlsplit(name)
        except ValueError:  # brackets that are no address
            url = urlsplit('')
        queried = [value for values in parse_qs(url.query).values() for value in values]
        texts = [*queried, unquote(url.path), *texts]
    found = [tuple(part for part in text.replace('\\', '/').split('/') if part not in ('', '.')) for text in texts]
    return [parts for parts in dict.fromkeys(found) if parts]


def _agreement(parts: Parts, path: Parts) -> int:
    """How many of the last parts are the same, but for their case."""
    same = [plain(a) == plain(b) for a, b in zip(reversed(parts), reversed(path))]
    return same.index(False) if False in same else len(same)


def resolve_images(export: Export, files: ImageFiles, repairs: Repairs) -> None:
    """Gives each image its path below the folder and its upright size; files that are listed twice become one.

    Images that are not there or cannot be read are left out, with their instances. Raises InputError if that is all.
    """
    paths = [files.find(image.name, export.path) for image in export.images]
    _separate(export, paths)
    names = {'/'.join(path) for path in paths if path}
    found = read_images([Listing(files.folder, dict.fromkeys(names))], os.cpu_count() or 1, lambda issue, text: None)
    images: list[ListedImage] = []
    unreadable: list[str] = []
    at: dict[str, int] = {}  # path -> position in `images`
    positions: dict[int, int] = {}  # in the export -> in `images`
    for number, (image, parts) in enumerate(zip(export.images, paths)):
        if parts is None:
            repairs.tell(f'images that are not in {files.folder}, left out', f'{image.where}: {image.name!r}')
            continue
        path = '/'.join(parts)
        picture = found[files.folder / path]
        if isinstance(picture, Issue):
            unreadable.append(f'{files.folder / path}: {picture.description}')
            repairs.tell('images that cannot be read, left out', unreadable[-1])
            continue
        if path in at:
            repairs.tell('images listed several times, taken as one', image.where)
        else:
            at[path] = len(images)
            images.append(dataclasses.replace(image, name=stored_name(path), size=picture.size))
            if path != image.name:
                is_other = max(_agreement(told, parts) for told in readings(image.name)) < min(len(parts), 2)
                how = 'the name alone, in another folder' if is_other else 'the end of their names'
                repairs.tell(f'images found by {how}', f'{image.where}: {image.name!r} is {path!r}')
        positions[number] = at[path]
    if not images:
        listed = f'none of the {len(export.images):,} images that {export.path} lists'
        if unreadable:
            raise InputError(f'{listed} can be read, such as {unreadable[0]}: get them again, or convert them')
        raise InputError(
            f'{listed} is in {files.folder}, such as {export.images[0].name!r}: name their folder with --images'
        )
    kept = []
    for instance in export.instances:
        if instance.image in positions:
            instance.image = positions[instance.image]
            kept.append(instance)
        else:
            repairs.tell('instances left out, since their image is', instance.where)
    export.images, export.instances = images, kept


def _separate(export: Export, paths: list[Parts | None]) -> None:
    """Of names in different folders that lead to one file, keeps those that agree with its whole path.

    Raises InputError if these may mean different images.
    """
    sharing: dict[Parts, dict[int, Parts]] = defaultdict(dict)  # path -> number -> what its name says
    for number, path in enumerate(paths):
        if path is not None:
            scored = [(_agreement(parts, path), parts) for parts in readings(export.images[number].name)]
            sharing[path][number] = max(scored)[1]
    for path, names in sharing.items():
        if _one_image(names.values()):
            continue
        whole = {n: parts for n, parts in names.items() if _agreement(parts, path) == min(len(parts), len(path))}
        if not whole or not _one_image(whole.values()):
            first, second = sorted({'/'.join(parts) for parts in (whole or names).values()})[:2]
            raise InputError(
                f'{export.path}: {first!r} and {second!r} both lead to {"/".join(path)!r}: name a folder that has '
                'their folders with --images'
            )
        for number in names.keys() - whole.keys():
            paths[number] = None


def _one_image(names: Collection[Parts]) -> bool:
    """Whether all names are ends of the longest one."""
    longest = max(names, key=len)
    return all(_agreement(parts, longest) == len(parts) for parts in names)


def stored_name(path: str) -> str:
    """The file_name of a path: COCO 2014's names would be looked for in a folder of their own (image_path)."""
    if not is_safe(path):
        raise InputError(f'{path!r} has characters that a file_name cannot have: rename the file')
    return path if image_path(path) == path else f'./{path}'
