"""Reading image files: which files are images, whether a JPEG is complete, which way up an image is."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from cvpack.errors import InputError
from lib.datasets.checks import Issue
from lib.datasets.exif import FIRST_TURNED, orientation, stored_size

T = TypeVar('T')

# The first bytes of files, and the last ones of a JPEG's image.
JPEG, PNG, TIFF = b'\xff\xd8\xff', b'\x89PNG', (b'II*\0', b'MM\0*')
END_OF_IMAGE = b'\xff\xd9'
MIN_SIDE = 2  # pixels
# OpenCV's limit, which lib/__init__.py sets; a user's own may have a unit.
LIMIT = os.environ['OPENCV_IO_MAX_IMAGE_PIXELS']
MAX_PIXELS = int(LIMIT) if LIMIT.isdecimal() else 2**27
# Factors by which the sides of a JPEG can be reduced on decoding, and OpenCV's flags for them.
REDUCTIONS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
# EXIF orientation -> OpenCV's flip code; those from FIRST_TURNED on are transposed first.
FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
# AVIF's number of quarter turns to the left, and its flip axis.
AVIF_TURN, AVIF_MIRROR = (re.compile(rb'\0\0\0\x09' + name + rb'(.)', re.DOTALL) for name in (b'irot', b'imir'))


def is_image(path: Path) -> bool:
    """Whether OpenCV recognises a file as an image, by its name or by its content."""
    if cv2.haveImageWriter(path.name):
        return True
    if not path.is_file() or not cv2.haveImageReader(str(path)):
        return False
    with path.open('rb') as file:
        return file.read(4) not in TIFF  # under another name a camera's raw file, which begins with a thumbnail


@dataclass(frozen=True)
class Decoded:
    """An upright image, perhaps decoded at reduced resolution.

    pixels:  (h, w, 3) uint8, BGR
    width:   of the full image
    to_full: (3, 3) map from these pixels to those of the full image
    """

    pixels: np.ndarray
    width: int
    to_full: np.ndarray

    @staticmethod
    def full(image: np.ndarray) -> 'Decoded':
        """An image at full resolution."""
        return Decoded(image, image.shape[1], np.eye(3))


def load_image(path: Path) -> np.ndarray | Issue:
    """(H, W, 3) uint8, BGR, or what is wrong with the file."""
    data = _content(path)
    return data if isinstance(data, Issue) else _decode(data)


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, BGR. Raises InputError that names the file and what is wrong with it."""
    return _usable(load_image(path), path)


def read_reduced(path: Path, zoom: float) -> Decoded:
    """An image for a crop with `zoom` crop pixels per image pixel. A JPEG is decoded at a half, a quarter or an eighth
    of its resolution if that leaves at least one pixel per crop pixel. Raises InputError as read_image does.
    """
    data = _usable(_content(path), path)
    reduction = next((reduction for reduction in REDUCTIONS if zoom * reduction <= 1), 1)  # largest first
    reduced = _decode_reduced(data, reduction) if reduction > 1 and data.startswith(JPEG) else None
    return reduced or Decoded.full(_usable(_decode(data), path))


def _usable(found: T | Issue, path: Path) -> T:
    if isinstance(found, Issue):
        raise InputError(f'image {path}: {found.description}: get it again, or remove it and the people in it')
    return found


def _content(path: Path) -> bytes | Issue:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Issue.MISSING
    except OSError:
        return Issue.NOT_AN_IMAGE
    if not data:
        return Issue.EMPTY
    return Issue.DAMAGED if data.startswith(JPEG) and is_truncated(data) else data


def _decode(data: bytes) -> np.ndarray | Issue:
    try:
        image = decode_upright(data)
    except cv2.error:  # it checks the size in the header before it allocates
        return Issue.HUGE
    if image is None:
        return Issue.DAMAGED if data.startswith((JPEG, PNG)) else Issue.NOT_AN_IMAGE
    return image if min(image.shape[:2]) >= MIN_SIDE else Issue.TINY


def _decode_reduced(jpeg: bytes, reduction: int) -> Decoded | None:
    """None if it cannot be had; decoding at full resolution then returns the image, or what is wrong with it."""
    stored, held = stored_size(jpeg), orientation(jpeg)
    if stored is None or min(stored) < MIN_SIDE or stored[0] * stored[1] > MAX_PIXELS:
        return None
    size = np.array(stored if held < FIRST_TURNED else stored[::-1])
    reduced_size = -(-size // reduction)
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), REDUCTIONS[reduction])
    if pixels is None or (pixels.shape[1::-1] != reduced_size).any():
        return None
    # A pixel covers reduction x reduction pixels of the full image, from the stored image's top left. The last ones,
    # which may cover fewer, are at the left or top if the image is flipped to be upright.
    axis = FLIPS.get(held)
    is_flipped = np.array([axis in (1, -1), axis in (0, -1)])
    offset = (reduction - 1) / 2 - is_flipped * (reduced_size * reduction - size)
    to_full = np.array([[reduction, 0, offset[0]], [0, reduction, offset[1]], [0, 0, 1]])
    return Decoded(pixels, int(size[0]), to_full)


def is_truncated(jpeg: bytes) -> bool:
    """Whether a JPEG lacks its end, which OpenCV 4 would fill with grey.

    Phones append videos, more images and metadata after the end; a thumbnail with its own end may precede it.
    """
    if jpeg.endswith(END_OF_IMAGE):
        return False
    content = np.frombuffer(jpeg, np.uint8)
    places = np.flatnonzero(content[:-1] == 0xFF)
    codes = content[places + 1]
    # In a scan, 0xff followed by 0 is data; by 0xff, padding; by 0xd0 to 0xd7, a restart.
    is_marker = (codes != 0) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))
    markers, position = places[is_marker], 2
    while (i := np.searchsorted(markers, position)) < len(markers):
        position = markers[i] + 2
        if jpeg[position - 2 : position] == END_OF_IMAGE:
            return False
        # A segment starts with its length; a scan, or the next marker, follows it.
        position += int.from_bytes(jpeg[position : position + 2], 'big')
    return True


def decode_upright(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR, turned upright; None if there is no image. Raises cv2.error for a huge one.

    OpenCV turns JPEG, PNG and TIFF, WebP only from 4.13 on, AVIF never.
    """
    is_webp, is_avif = data[:4] + data[8:12] == b'RIFFWEBP', data[4:8] == b'ftyp' and b'avif' in data[8:64]
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_webp or is_avif else 0)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or not (is_webp or is_avif):
        return image
    return _upright(image, orientation(data)) if is_webp else _upright_avif(image, data)


def _upright(image: np.ndarray, held: int) -> np.ndarray:
    image = cv2.transpose(image) if held >= FIRST_TURNED else image
    return cv2.flip(image, FLIPS[held]) if held in FLIPS else image


def _upright_avif(image: np.ndarray, data: bytes) -> np.ndarray:
    turn, mirror = AVIF_TURN.search(data), AVIF_MIRROR.search(data)
    if turn:
        image = np.rot90(image, turn[1][0] & 3)
    if mirror:
        image = np.flip(image, mirror[1][0] & 1)
    return np.ascontiguousarray(image)
