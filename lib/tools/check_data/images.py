"""check_data's view of the image files: unreadable ones, JPEGs with damaged data, images that two splits share."""

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cvpack.files import sha256
from lib.datasets.checks import Issue, Report
from lib.datasets.exif import FIRST_TURNED, orientation
from lib.datasets.image_files import load_image
from lib.tools.check_data.records import Listing

BATCH = 64  # files per thread
# libjpeg's warnings about pixels that are not what was saved. They do not name the file, and decoding goes on.
DAMAGED_JPEG = re.compile(r'Corrupt JPEG data(?!: bad ICC).*|Premature end of JPEG.*|Inconsistent progression.*')


@dataclass(frozen=True)
class Picture:
    """A readable image.

    size:        width and height in pixels, upright
    orientation: EXIF orientation of the stored pixels; 1: upright
    """

    size: tuple[int, int]
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the stored pixels."""
        return self.size[::-1] if self.orientation >= FIRST_TURNED else self.size


def read_images(listings: list[Listing], workers: int, report: Report) -> dict[Path, Picture | Issue]:
    """Reads all listed images and reports those that are unusable or damaged; file -> image, or its issue."""
    files = sorted({listing.folder / name for listing in listings for name in listing.sizes})
    used = {listing.folder / name for listing in listings for group in listing.groups for name in group.names}
    found: dict[Path, Picture | Issue] = {}
    # Threads are enough: OpenCV decodes without the GIL.
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(files, 'images', unit=' images', smoothing=0, disable=None) as progress,
    ):
        for start in range(0, len(files), BATCH * workers):
            batch = files[start : start + BATCH * workers]
            pictures, warnings = _read(batch, pool)
            found.update(zip(batch, pictures))
            if DAMAGED_JPEG.search(warnings):  # read one at a time to learn which file it is
                for file in (file for file in batch if file in used and isinstance(found[file], Picture)):
                    if damage := DAMAGED_JPEG.search(_read([file], pool)[1]):
                        text = f'{damage[0].strip()}: get it again, or remove it and the people in it'
                        report(Issue.HOLE, f'image {file}: {text}')
            progress.update(len(batch))
    for file, issue in found.items():
        if isinstance(issue, Issue):
            report(issue if file in used else Issue.UNUSED_IMAGE, f'image {file}: {issue.description}')
    return found


def _read(files: list[Path], pool: ThreadPoolExecutor) -> tuple[list[Picture | Issue], str]:
    """The images, or their issues, and what was written to stderr: libjpeg reports its warnings nowhere else."""
    with tempfile.TemporaryFile() as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            pictures = list(pool.map(_picture, files))
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        captured.seek(0)
        return pictures, captured.read().decode(errors='replace')


def _picture(file: Path) -> Picture | Issue:
    image = load_image(file)
    if isinstance(image, Issue):
        return image
    height, width = image.shape[:2]
    return Picture((width, height), orientation(file.read_bytes()))


def report_shared_images(listings: dict[str, Listing], workers: int, report: Report) -> None:
    """Reports images of val or test that are in train too, by path or by content. listings: by split."""
    used = {split: _used_files(listing) for split, listing in listings.items()}
    trained = used.pop('train', {})
    # Only files of equal size can have equal content.
    sizes = {size for files in used.values() for file, size in files.items() if file not in trained}
    sizes &= set(trained.values())
    candidates = {file for files in (trained, *used.values()) for file, size in files.items() if size in sizes}
    with ThreadPoolExecutor(workers) as pool:
        digests = dict(zip(candidates, pool.map(sha256, candidates)))
    twins = {digests[file]: file for file in sorted(candidates & trained.keys(), reverse=True)}
    for split, files in used.items():
        for file in files:
            if file in trained:
                report(Issue.SHARED, f'image {file}: in train and in {split}')
            elif twin := twins.get(digests.get(file, '')):
                report(Issue.SHARED, f'image {file}: in {split}, the same as {twin} in train')


def _used_files(listing: Listing) -> dict[Path, int]:
    """Existing image files of a split's people, or of its boxes if it lists no people -> bytes."""
    group = next((group for group in listing.groups if group.names), None)
    files = sorted({listing.folder / name for name in group.names}) if group else []
    return {file: file.stat().st_size for file in files if file.is_file()}
