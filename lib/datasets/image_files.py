"""Image files as people have them: which files are images, whether a JPEG is whole, which way up a picture is."""

import re
from pathlib import Path

import cv2
import numpy as np

from lib.datasets.exif import FIRST_TURNED, orientation

# What files begin with, and a JPEG's picture ends with.
JPEG, PNG, TIFF = b'\xff\xd8\xff', b'\x89PNG', (b'II*\0', b'MM\0*')
END_OF_IMAGE = b'\xff\xd9'
# What OpenCV's flip is told for the orientations of EXIF; those from FIRST_TURNED on are transposed first.
FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
# AVIF's quarter turns to the left, and the axis of a mirror.
AVIF_TURN, AVIF_MIRROR = (re.compile(rb'\0\0\0\x09' + name + rb'(.)', re.DOTALL) for name in (b'irot', b'imir'))


def is_image(path: Path) -> bool:
    """Whether OpenCV knows a file's content, whatever its name, or its name as one of an image."""
    if cv2.haveImageWriter(path.name):
        return True
    if not path.is_file() or not cv2.haveImageReader(str(path)):
        return False
    with path.open('rb') as file:
        return file.read(4) not in TIFF  # with another name a camera's raw file, which begins with a thumbnail


def is_cut_short(jpeg: bytes) -> bool:
    """Whether a JPEG lacks its end, which OpenCV 4 would fill up with grey.

    Films, further pictures and notes of phones may follow the end; a thumbnail with an end of its own may precede it.
    """
    if jpeg.endswith(END_OF_IMAGE):
        return False
    content = np.frombuffer(jpeg, np.uint8)
    places = np.flatnonzero(content[:-1] == 0xFF)
    kinds = content[places + 1]
    # In a scan 0xff is a byte of data where 0 follows, a restart, or one to fill up.
    is_marker = (kinds != 0) & (kinds != 0xFF) & ((kinds < 0xD0) | (kinds > 0xD7))
    markers, position = places[is_marker], 2
    while (i := np.searchsorted(markers, position)) < len(markers):
        position = markers[i] + 2
        if jpeg[position - 2 : position] == END_OF_IMAGE:
            return False
        # A segment: after the length and so many bytes a scan may follow, or the next marker.
        position += int.from_bytes(jpeg[position : position + 2], 'big')
    return True


def decode_upright(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR, upright as the file says; None where there is no image. Raises cv2.error for a huge one.

    OpenCV turns JPEG, PNG and TIFF; WebP from 4.13 on; AVIF not.
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
