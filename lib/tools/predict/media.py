"""predict's input and output: images or a video, read one at a time and written under their own names."""

import contextlib
import glob
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cvpack.errors import InputError
from cvpack.files import atomic_write
from lib.datasets.checks import Issue
from lib.datasets.image_files import is_image, load_image

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
FOURCC = 'mp4v'
FFMPEG_QUIET = '-8'  # this module reports what is wrong with a video
# Frame rate of a video without one, and the highest that is believed.
DEFAULT_FPS, MAX_FPS = 25.0, 1000
# This many damaged frames in a row are taken for the end of a video.
MAX_LOST = 250
DAMAGED = 'damaged'
RESULTS = 'results.json'


@dataclass
class Frame:
    """One image of the input.

    name:   the file's path below the input folder, or the video's name
    number: of a video's frame, from 0
    image:  (H, W, 3) uint8 BGR; empty if it cannot be read
    fault:  why it cannot be read
    """

    name: str
    number: int | None
    image: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))
    fault: str = ''

    def __str__(self) -> str:
        return repr(self.name) if self.number is None else f'frame {self.number} of {self.name!r}'


Save = Callable[[Frame], None]


class ImageFiles:
    """Image files, and those in folders and subfolders, except in the output folder.

    folder: the common folder of all sources; names: of the images, relative to it
    remark: what other files there are, by suffix
    """

    unit = 'image'

    def __init__(self, sources: Sequence[Path], output: Path) -> None:
        sources = [Path(os.path.abspath(source)) for source in sources]
        self.folder = Path(os.path.commonpath([_folder(source) for source in sources]))
        output, self.names, others = output.resolve(), list[str](), Counter[str]()
        for file in dict.fromkeys(file for source in sources for file in _files(source, output)):
            if is_image(file):
                self.names.append(file.relative_to(self.folder).as_posix())
            else:
                others[file.suffix.lower()] += 1
        counts = (f'{count} {suffix or "without suffix"}' for suffix, count in sorted(others.items()))
        self.remark = f'passed over: {", ".join(counts)}' if others else ''

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Frame]:
        for name in self.names:
            image = load_image(self.folder / name)
            if isinstance(image, Issue):
                yield Frame(name, None, fault=image.description)
            else:
                yield Frame(name, None, image)

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
    """A file, or all files in a folder except those in the output folder."""
    if not source.is_dir():
        return [source]
    return [path for path in sorted(source.rglob('*')) if path.is_file() and output not in path.resolve().parents]


def _encoded(image: np.ndarray, suffix: str) -> bytes:
    """An image file's content: JPEG if OpenCV cannot write the suffix (such as .jfif)."""
    with contextlib.suppress(cv2.error):
        good, content = cv2.imencode(suffix, image)
        if good:
            return content.tobytes()
    return cv2.imencode('.jpg', image)[1].tobytes()


class Video:
    """A video, decoded frame by frame. Raises InputError if it cannot be opened."""

    unit, remark = 'frame', ''

    def __init__(self, path: Path) -> None:
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', FFMPEG_QUIET)
        self.path, self.capture = path, cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise InputError(f'video {path} cannot be opened: it is damaged, cut short, or in an unknown format')
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else DEFAULT_FPS
        if self.fps != fps:
            print(f'{path} has no frame rate: written at {DEFAULT_FPS:g} frames per second')

    def __len__(self) -> int:
        """The number of frames by the file's header; 0 if it does not say."""
        count = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(count) if math.isfinite(count) and count > 0 else 0

    def __iter__(self) -> Iterator[Frame]:
        number, lost = 0, 0
        while lost < MAX_LOST:
            if self.capture.grab():
                for gap in range(number - lost, number):
                    yield Frame(self.path.name, gap, fault=DAMAGED)
                good, image = self.capture.retrieve()
                yield Frame(self.path.name, number, image) if good else Frame(self.path.name, number, fault=DAMAGED)
                lost = 0
            elif number >= len(self) > 0:
                break
            else:
                lost += 1  # damaged frames if others follow, else the end
            number += 1
        if number - lost < len(self):
            tqdm.write(f'{self.path} ends after {number - lost} of the {len(self)} frames in its header')

    @contextlib.contextmanager
    def saving(self, output: Path) -> Iterator[Save]:
        """A function that appends a frame to the video in the output folder."""
        path, writer, written = output / f'{self.path.stem}.mp4', cv2.VideoWriter(), 0
        path.unlink(missing_ok=True)  # OpenCV would write through a link

        def save(frame: Frame) -> None:
            nonlocal written
            height, width = frame.image.shape[:2]
            if not written and not writer.open(str(path), cv2.VideoWriter.fourcc(*FOURCC), self.fps, (width, height)):
                raise InputError(f'cannot write {path}: is the disk full, or was OpenCV built without FFmpeg?')
            writer.write(frame.image)
            written += 1

        try:
            yield save
        finally:
            writer.release()
        if written and cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != written:
            raise InputError(f'{path} is incomplete: free some space, or name another --output')


def open_source(inputs: Sequence[str], output: Path) -> ImageFiles | Video:
    """Opens what --input names: images, folders and patterns, or one video.

    Raises InputError for input that cannot be read, and for an output folder in which it would be overwritten.
    """
    sources = [source for name in inputs for source in _matches(name, output.resolve())]
    for source in sources:
        _check_output(source, output)
    if len(sources) == 1 and sources[0].suffix.lower() in VIDEOS:
        return Video(sources[0])
    images = ImageFiles(sources, output)
    if not images.names:
        remark = f' ({images.remark})' if images.remark else ''
        raise InputError(
            f'--input {" ".join(inputs)}: no image that this OpenCV reads{remark}; '
            f'a video has to be the only input and end in one of {", ".join(VIDEOS)}'
        )
    own = {(images.folder / name).resolve() for name in images.names}
    if not own.isdisjoint(output.resolve() / name for name in images.names):
        raise _overwriting(output)
    return images


def _matches(name: str, output: Path) -> list[Path]:
    """The file or folder of this name, or what the pattern matches outside the output folder."""
    if Path(name).exists():
        return [Path(name)]
    found = (Path(path) for path in sorted(glob.glob(name, recursive=True)))
    if kept := [path for path in found if output not in (path.resolve(), *path.resolve().parents)]:
        return kept
    raise InputError(f'--input {name} does not exist: name images, folders or a video')


def _check_output(source: Path, output: Path) -> None:
    """Raises InputError if the output folder is, or contains, the input's, or holds other files of the input's."""
    folder, own = _folder(source).resolve(), output.resolve()
    if own == folder or (source.is_dir() and own in folder.parents):
        raise _overwriting(output)
    inside = source.is_dir() and folder in own.parents
    if inside and own.is_dir() and any(own.iterdir()) and not (own / RESULTS).is_file():
        raise InputError(f'--output {output} is a folder of the input with other files in it: name a new one')
    if own.exists() and not own.is_dir():
        raise InputError(f'--output {output} is a file: name a folder')


def _overwriting(output: Path) -> InputError:
    return InputError(f'--output {output} holds the input, which would be overwritten: name another folder')
