"""What lib.tools.check_data finds in the image files: what cannot be read, and what looks as if it could."""

import functools
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from cvpack.files import sha256
from lib.datasets.checks import Issue, Report
from lib.datasets.exif import FIRST_TURNED, orientation
from lib.datasets.image_files import load_image
from lib.tools.check_data.records import Listing

T = TypeVar('T')

FILES_AT_A_TIME = 64  # a thread
# libjpeg's warnings of pictures that are not what was saved. It names no file, and goes on with what it has.
DAMAGED_JPEG = re.compile(r'Corrupt JPEG data(?!: bad ICC).*|Premature end of JPEG.*|Inconsistent progression.*')


@dataclass(frozen=True)
class Picture:
    """An image as it was read.

    size:        width and height in pixels, upright
    orientation: by EXIF, of the stored picture; 1: upright
    """

    size: tuple[int, int]
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the picture in the file."""
        return self.size[::-1] if self.orientation >= FIRST_TURNED else self.size


def _picture(path: Path) -> Picture | Issue:
    """An image, or what is wrong with it."""
    image = load_image(path)
    return image if isinstance(image, Issue) else Picture(image.shape[1::-1], orientation(path.read_bytes()))


def _pictures(pool: ThreadPoolExecutor, files: list[Path]) -> list[Picture | Issue]:
    return list(pool.map(_picture, files))


def _with_stderr(work: Callable[[], T]) -> tuple[T, str]:
    """The result of `work`, and what the whole process wrote to stderr meanwhile: libjpeg knows no other way."""
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            result = work()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        return result, file.read().decode(errors='replace')


def read_images(listings: list[Listing], workers: int, report: Report) -> dict[Path, Picture | Issue]:
    """Reads every listed image and reports those that are unusable or have holes; file -> image, or what is wrong."""
    files = sorted({listing.folder / name for listing in listings for name in listing.sizes})
    used = {listing.folder / name for listing in listings for group in listing.groups for name in group.names}
    found: dict[Path, Picture | Issue] = {}
    # Threads do: OpenCV decodes without Python's lock.
    with ThreadPoolExecutor(workers) as pool, tqdm(files, 'images', unit=' images', smoothing=0) as progress:
        for start in range(0, len(files), FILES_AT_A_TIME * workers):
            some = files[start : start + FILES_AT_A_TIME * workers]
            pictures, warnings = _with_stderr(functools.partial(_pictures, pool, some))
            found.update(zip(some, pictures))
            if DAMAGED_JPEG.search(warnings):  # one of them: read one by one, they tell which
                _report_holes([file for file in some if file in used and isinstance(found[file], Picture)], report)
            progress.update(len(some))
    for file, kind in found.items():
        if isinstance(kind, Issue):
            report(kind if file in used else Issue.UNUSED_IMAGE, f'image {file}: {kind.description}')
    return found


def _report_holes(files: list[Path], report: Report) -> None:
    for file in files:
        _, warnings = _with_stderr(functools.partial(load_image, file))
        damage = DAMAGED_JPEG.search(warnings)
        if damage:
            report(Issue.HOLE, f'image {file}: {damage[0].strip()}: get it again, or remove it and the people in it')


def report_shared_images(listings: dict[str, Listing], workers: int, report: Report) -> None:
    """Reports images that are trained on and tested on, by their paths or their content. listings: of the splits."""
    if 'train' not in listings:
        return
    trained = _used_files(listings['train'])
    by_size = defaultdict(list)
    for file, size in trained.items():
        by_size[size].append(file)
    for split, listing in listings.items():
        tested = _used_files(listing) if split != 'train' else {}
        again = [file for file, size in tested.items() if file not in trained and by_size.get(size)]
        suspects = {*again, *(file for size in {tested[file] for file in again} for file in by_size[size])}
        with ThreadPoolExecutor(workers) as pool:
            digests = dict(zip(suspects, pool.map(sha256, suspects)))
        twins = {digests[file]: file for file in sorted(suspects & trained.keys(), reverse=True)}
        for file in tested:
            if file in trained:
                report(Issue.SHARED, f'image {file}: in train and in {split}')
            elif file in suspects and digests[file] in twins:
                report(Issue.SHARED, f'image {file}: in {split}, the same as {twins[digests[file]]} in train')


def _used_files(listing: Listing) -> dict[Path, int]:
    """The images of a split's people, or of its boxes where it has no people -> bytes; no file, no entry."""
    group = next((group for group in listing.groups if group.names), None)
    files = sorted({listing.folder / name for name in group.names}) if group else []
    return {file: file.stat().st_size for file in files if file.is_file()}
