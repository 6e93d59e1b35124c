"""Finds the image files that an export means, under whatever names it lists them."""

import dataclasses
import os
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image

from cvpack.errors import InputError
from lib.datasets.exif import FIRST_TURNED
from lib.datasets.image_names import image_path, is_safe
from lib.tools.prepare.own.export import Export, Instance, Picture, Repairs

EXIF_ORIENTATION = 0x0112


class ImageFiles:
    """All files below a folder, by their names without case."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f'--images {folder} is not a folder: name the one with the images')
        self.folder = folder
        self.by_name: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            below = Path(parent).relative_to(folder).parts
            for name in sorted(names):
                self.by_name[name.casefold()].append((*below, name))

    def find(self, name: str, near: Path) -> str | None:
        """The path below the folder of the file whose path agrees with `name` in most of its end; None if none does.

        near: the folder of the annotations; of several files, that in it is meant
        Raises InputError if several files agree equally well.
        """
        readings = dict.fromkeys([*_parts(name), tuple(_split(name))])
        for parts in readings:
            if parts and (found := self._best(parts, near)):
                if len(found) > 1:
                    several = ' and '.join(map(repr, found[:3]))
                    raise InputError(
                        f'{name!r} can be {several} in {self.folder}: name a folder that holds one of them'
                    )
                return found[0]
        return None

    def _best(self, parts: tuple[str, ...], near: Path) -> list[str]:
        candidates = self.by_name.get(parts[-1].casefold(), [])
        scores = [(_agreement(parts, path), parts[-1] == path[-1]) for path in candidates]
        best = ['/'.join(path) for path, score in zip(candidates, scores) if score == max(scores)]
        beside = [path for path in best if (self.folder / path).parent.resolve() == near.resolve()]
        return beside if len(beside) == 1 else best


def _split(name: str) -> list[str]:
    return [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]


def _parts(name: str) -> list[tuple[str, ...]]:
    """The folders and the name that a path or a URL gives; of a URL, those in its query first."""
    url = urlsplit(name) if '://' in name or name.startswith('/data/') else None
    if url is None:
        return [tuple(_split(name))]
    queried = [value for values in parse_qs(url.query).values() for value in values]
    return [tuple(_split(text)) for text in (*queried, unquote(url.path))]


def _agreement(parts: tuple[str, ...], path: tuple[str, ...]) -> int:
    """How many of the last parts are the same, but for their case."""
    same = [a.casefold() == b.casefold() for a, b in zip(reversed(parts), reversed(path))]
    return same.index(False) if False in same else len(same)


def resolve_images(export: Export, files: ImageFiles, repairs: Repairs) -> None:
    """Gives each image its path below the folder and its upright size; files that are listed twice become one.

    Images that are not there or cannot be read are left out, with their instances. Raises InputError if that is all.
    """
    images: list[Picture] = []
    positions: dict[int, int] = {}  # in the export -> in `images`
    at: dict[str, int] = {}
    for number, picture in enumerate(export.images):
        path = files.find(picture.name, export.path.parent)
        if path is None:
            repairs.tell(f'images that are not in {files.folder}, left out', f'{picture.where}: {picture.name!r}')
            continue
        if path not in at:
            size = upright_size(files.folder / path)
            if size is None:
                repairs.tell('files that are no images, left out', str(files.folder / path))
                continue
            at[path] = len(images)
            images.append(dataclasses.replace(picture, name=stored_name(path), size=size))
            if path != picture.name:
                repairs.tell('images found by the end of their names', f'{picture.where}: {picture.name!r} is {path!r}')
        else:
            repairs.tell('images listed under several ids, taken as one', picture.where)
        positions[number] = at[path]
    if not images:
        raise InputError(
            f'none of the {len(export.images):,} images that {export.path} lists is in {files.folder}, such as '
            f'{export.images[0].name!r}: name their folder with --images'
        )
    kept = [instance for instance in export.instances if instance.image in positions]
    for instance in export.instances:
        if instance.image not in positions:
            repairs.tell('instances left out, since their image is', instance.where)
        else:
            instance.image = positions[instance.image]
    export.images, export.instances = images, _once(kept, repairs)


def _once(instances: list[Instance], repairs: Repairs) -> list[Instance]:
    """Without instances whose image, joints and box an earlier one has."""
    seen, kept = set(), []
    for instance in instances:
        key = instance.image, instance.keypoints.tobytes(), instance.box.tobytes()
        if key in seen:
            repairs.tell('instances annotated twice in the same way, kept once', instance.where)
        else:
            seen.add(key)
            kept.append(instance)
    return kept


def upright_size(file: Path) -> tuple[int, int] | None:
    """(width, height) of an image as OpenCV turns it by its EXIF orientation; None if it is no image."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= FIRST_TURNED
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, TypeError):
        return None


def stored_name(path: str) -> str:
    """The file_name of a path: COCO 2014's names would be looked for in a folder of their own (image_path)."""
    if not is_safe(path):
        raise InputError(f'{path!r} has characters that a file_name cannot have: rename the file')
    return path if image_path(path) == path else f'./{path}'
