"""Pictures and videos for lib.tools.predict: read one by one, written under the names that they came with."""

import contextlib
import glob
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cvpack.errors import InputError
from cvpack.files import atomic_write
from lib.datasets.image_files import is_image, load_image

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
FOURCC = 'mp4v'
FFMPEG_QUIET = '-8'  # what is wrong with a video is told in our own words
# Frames a second of a video that does not say, and the most that one is believed to have.
USUAL_FPS, MAX_FPS = 25.0, 1000
RESULTS = 'results.json'
# So many damaged frames in a row are taken for the end of a video.
MAX_LOST = 250
DAMAGED = 'damaged'


@dataclass
class Frame:
    """One image of the input.

    name:   the file's path in the input folder, or the video's name
    number: of a video's frame, from 0
    image:  (H, W, 3) uint8 BGR
    """

    name: str
    number: int | None
    image: np.ndarray


@dataclass
class Unreadable:
    """An image of the input that cannot be read, named as a Frame is; reason: why."""

    name: str
    number: int | None
    reason: str

    def __str__(self) -> str:
        place = repr(self.name) if self.number is None else f'frame {self.number} of {self.name!r}'
        return f'{place}: {self.reason}'


Save = Callable[[Frame], None]


class ImageFiles:
    """Image files, and those in folders and their subfolders but for the ones in the output folder.

    names:       of the images, relative to `folder`, which holds all that was named
    passed_over: how many other files there are, by suffix
    """

    unit = 'image'

    def __init__(self, sources: Sequence[Path], output: Path) -> None:
        sources = [Path(os.path.abspath(source)) for source in sources]
        self.folder = Path(os.path.commonpath([_folder(source) for source in sources]))
        own = output.resolve()
        self.names: list[str] = []
        self.passed_over: Counter[str] = Counter()
        for file in dict.fromkeys(file for source in sources for file in _files(source, own)):
            if is_image(file):
                self.names.append(file.relative_to(self.folder).as_posix())
            else:
                self.passed_over[file.suffix.lower()] += 1
        inputs = {(self.folder / name).resolve() for name in self.names}
        if not inputs.isdisjoint(own / name for name in self.names):
            raise InputError(f'--output {output} holds the input, which would be overwritten: name another folder')

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        for name in self.names:
            image = load_image(self.folder / name)
            if isinstance(image, np.ndarray):
                yield Frame(name, None, image)
            else:
                yield Unreadable(name, None, image.description)

    def remarks(self) -> str:
        """What else is to be said of the input."""
        kinds = [f'{count} {suffix or "without suffix"}' for suffix, count in sorted(self.passed_over.items())]
        return f'passed over: {", ".join(kinds)}' if kinds else ''

    @contextlib.contextmanager
    def saving(self, output: Path) -> Iterator[Save]:
        """A function that writes a frame's image into the output folder."""

        def save(frame: Frame) -> None:
            path = output / frame.name
            with atomic_write(path) as file:
                file.write(_encoded(frame.image, path.suffix))

        yield save


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _files(source: Path, output: Path) -> list[Path]:
    """A file, or those in a folder but not in the output folder."""
    if not source.is_dir():
        return [source]
    return [path for path in sorted(source.rglob('*')) if path.is_file() and output not in path.resolve().parents]


def _encoded(image: np.ndarray, suffix: str) -> bytes:
    """The content of an image file; JPEG where OpenCV does not write what the suffix says (.jfif, say)."""
    with contextlib.suppress(cv2.error):
        good, content = cv2.imencode(suffix, image)
        if good:
            return content.tobytes()
    return cv2.imencode('.jpg', image)[1].tobytes()


class Video:
    """A video's frames, decoded one by one."""

    unit = 'frame'

    def __init__(self, path: Path) -> None:
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', FFMPEG_QUIET)
        self.path, self.capture = path, cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise InputError(f'video {path} cannot be opened: it is damaged, cut short, or of a kind that is not known')
        self.count = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else USUAL_FPS
        if self.fps != fps:
            print(f'{path} does not say how many frames it has a second: written at {USUAL_FPS:g}')

    def __len__(self) -> int:
        """What the file says, which may be nothing: 0."""
        return int(self.count) if math.isfinite(self.count) and self.count > 0 else 0

    def remarks(self) -> str:
        """What else is to be said of the input."""
        return ''

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        name, number, lost = self.path.name, 0, 0
        while lost < MAX_LOST:
            if self.capture.grab():
                for gap in range(number - lost, number):
                    yield Unreadable(name, gap, DAMAGED)
                good, image = self.capture.retrieve()
                yield Frame(name, number, image) if good else Unreadable(name, number, DAMAGED)
                lost = 0
            elif number >= len(self) > 0:
                break
            else:
                lost += 1  # a damaged frame, if others follow; or the end
            number += 1
        if number - lost < len(self):
            tqdm.write(f'{self.path} ends after {number - lost} of the {len(self)} frames that it announces')

    @contextlib.contextmanager
    def saving(self, output: Path) -> Iterator[Save]:
        """A function that appends a frame to the video in the output folder."""
        path, writer, written = output / f'{self.path.stem}.mp4', cv2.VideoWriter(), 0
        path.unlink(missing_ok=True)  # were it a link, what it leads to would be written over

        def save(frame: Frame) -> None:
            nonlocal written
            height, width = frame.image.shape[:2]
            if not written and not writer.open(str(path), cv2.VideoWriter.fourcc(*FOURCC), self.fps, (width, height)):
                raise InputError(f'cannot write {path}: is there room, and has OpenCV been built with FFmpeg?')
            writer.write(frame.image)
            written += 1

        try:
            yield save
        finally:
            writer.release()
        if written and cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != written:
            raise InputError(f'{path} could not be written whole: make room, or choose another --output')


def open_source(inputs: Sequence[str], output: Path) -> ImageFiles | Video:
    """What --input names: images, folders of them, patterns of their names; or a video.

    Raises InputError for what cannot be read, and where the output would overwrite it.
    """
    sources = [source for name in inputs for source in _named(name, output.resolve())]
    for source in sources:
        _refuse_overwriting(source, output)
    if len(sources) == 1 and sources[0].suffix.lower() in VIDEOS:
        return Video(sources[0])
    images = ImageFiles(sources, output)
    if not images.names:
        remarks = f' ({images.remarks()})' if images.passed_over else ''
        raise InputError(
            f'--input {" ".join(inputs)}: no image that this OpenCV reads{remarks}; '
            f'a video goes alone, named as one of {", ".join(VIDEOS)}'
        )
    return images


def _named(name: str, output: Path) -> list[Path]:
    """The file or folder of this name; or all that a pattern fits, but for the output, if the shell has left it so."""
    if Path(name).exists():
        return [Path(name)]
    found = (Path(path) for path in sorted(glob.glob(name, recursive=True)))
    if kept := [path for path in found if output not in (path.resolve(), *path.resolve().parents)]:
        return kept
    raise InputError(f'--input {name} does not exist: name images, folders or a video')


def _refuse_overwriting(source: Path, output: Path) -> None:
    """Raises InputError for an output folder in which files would take the place of the input's, or of others."""
    folder, own = _folder(source).resolve(), output.resolve()
    if own == folder or (source.is_dir() and own in folder.parents):
        raise InputError(f'--output {output} holds the input, which would be overwritten: name another folder')
    inside = source.is_dir() and folder in own.parents
    if inside and own.is_dir() and any(own.iterdir()) and not (own / RESULTS).is_file():
        raise InputError(f'--output {output} is a folder of the input with other files in it: name a new one')
    if own.exists() and not own.is_dir():
        raise InputError(f'--output {output} is a file: name a folder')
