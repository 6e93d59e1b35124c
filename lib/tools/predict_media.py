"""Pictures and videos for lib.tools.predict: read one by one, written under the names that they came with."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cvpack.errors import InputError
from cvpack.files import replacing
from lib.datasets.joints import load_image

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
FOURCC = 'mp4v'
FFMPEG_QUIET = '-8'  # what is wrong with a video is told in our own words
# Frames a second of a video that does not say, and the most that one is believed to have.
USUAL_FPS, MOST_FPS = 25.0, 1000
RESULTS = 'results.json'
# So many damaged frames in a row are taken for the end of a video.
MOST_LOST = 250
DAMAGED = 'damaged'


@dataclass
class Frame:
    """One picture of the input.

    name:   the file's path in the input folder, or the video's name
    number: of a video's frame, from 0
    image:  (H, W, 3) uint8 BGR, or in words what is wrong with it
    """

    name: str
    number: int | None
    image: np.ndarray | str

    def __str__(self) -> str:
        return repr(self.name) if self.number is None else f'frame {self.number} of {self.name!r}'

    @property
    def is_good(self) -> bool:
        """Whether there is an image."""
        return not isinstance(self.image, str)


Save = Callable[[Frame], None]


class ImageFiles:
    """One image file, or all in a folder and its subfolders but for those in the output folder."""

    unit = 'image'

    def __init__(self, source: Path, output: Path) -> None:
        self.folder = source if source.is_dir() else source.parent
        self.names = [source.name]
        if source.is_dir():
            files = (path for path in sorted(source.rglob('*')) if path.suffix.lower() in IMAGES)
            own = output.resolve()
            self.names = [
                path.relative_to(source).as_posix()
                for path in files
                if path.is_file() and own not in path.resolve().parents
            ]
        if not self.names:
            raise InputError(f'--input {source} holds no image files ({", ".join(IMAGES)})')

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Frame]:
        for name in self.names:
            image = load_image(self.folder / name)
            yield Frame(name, None, image if isinstance(image, np.ndarray) else image.description)

    @contextlib.contextmanager
    def saving(self, output: Path) -> Iterator[Save]:
        """A function that writes a frame's image into the output folder."""

        def save(frame: Frame) -> None:
            path = output / frame.name
            with replacing(path) as file:
                file.write(cv2.imencode(path.suffix, frame.image)[1])

        yield save


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
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MOST_FPS else USUAL_FPS
        if self.fps != fps:
            print(f'{path} does not say how many frames it has a second: written at {USUAL_FPS:g}')

    def __len__(self) -> int:
        """What the file says, which may be nothing: 0."""
        return int(self.count) if math.isfinite(self.count) and self.count > 0 else 0

    def __iter__(self) -> Iterator[Frame]:
        number, lost = 0, 0
        while lost < MOST_LOST:
            if self.capture.grab():
                for gap in range(number - lost, number):
                    yield Frame(self.path.name, gap, DAMAGED)
                fine, image = self.capture.retrieve()
                yield Frame(self.path.name, number, image if fine else DAMAGED)
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
            if not written and not writer.open(str(path), cv2.VideoWriter_fourcc(*FOURCC), self.fps, (width, height)):
                raise InputError(f'cannot write {path}: is there room, and has OpenCV been built with FFmpeg?')
            writer.write(frame.image)
            written += 1

        try:
            yield save
        finally:
            writer.release()
        if written and cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != written:
            raise InputError(f'{path} could not be written whole: make room, or choose another --output')


def open_source(source: Path, output: Path) -> ImageFiles | Video:
    """What --input names. Raises InputError for what cannot be read, and where the output would overwrite it."""
    if not source.exists():
        raise InputError(f'--input {source} does not exist: name an image, a folder or a video')
    _refuse_overwriting(source, output)
    if source.is_dir() or source.suffix.lower() in IMAGES:
        return ImageFiles(source, output)
    if source.suffix.lower() in VIDEOS:
        return Video(source)
    raise InputError(f'--input {source}: neither a folder nor named as one of {", ".join(IMAGES + VIDEOS)}')


def _refuse_overwriting(source: Path, output: Path) -> None:
    """Raises InputError for an output folder in which files would take the place of the input's, or of others."""
    folder, own = (source if source.is_dir() else source.parent).resolve(), output.resolve()
    if own == folder or (source.is_dir() and own in folder.parents):
        raise InputError(f'--output {output} holds the input, which would be overwritten: name another folder')
    inside = source.is_dir() and folder in own.parents
    if inside and own.is_dir() and any(own.iterdir()) and not (own / RESULTS).is_file():
        raise InputError(f'--output {output} is a folder of the input with other files in it: name a new one')
    if own.exists() and not own.is_dir():
        raise InputError(f'--output {output} is a file: name a folder')
