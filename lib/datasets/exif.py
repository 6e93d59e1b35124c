"""EXIF orientation: cameras store pixels as the sensor sees them, and note how the camera was held.

OpenCV turns images upright when it reads them, so all coordinates are those of the upright image.
"""

import struct
from collections.abc import Iterator

UPRIGHT = 1
FIRST_TURNED = 5  # from this orientation on, the stored image has width and height exchanged
ORIENTATION_TAG, LONG = 0x0112, 4
JPEG, PNG, RIFF = b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'RIFF'
FILL, SCAN, APP1, HEADER = 0xFF, 0xDA, 0xE1, b'Exif\0\0'
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # frame headers' markers, one for each coding process


def orientation(data: bytes) -> int:
    """The EXIF orientation, 1 (upright) to 8, of a JPEG, PNG or WebP file; 1 if it has none."""
    blocks: Iterator[bytes]
    if data.startswith(JPEG):
        blocks = (content for kind, content in _jpeg_segments(data) if kind == APP1 and content.startswith(HEADER))
    elif data.startswith(PNG):
        blocks = _png_blocks(data)
    else:
        blocks = _webp_blocks(data) if data.startswith(RIFF) and data.startswith(b'WEBP', 8) else iter(())
    try:
        value = next((_tag(block.removeprefix(HEADER)) for block in blocks), UPRIGHT)
    except (struct.error, IndexError, KeyError):  # truncated or malformed
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def stored_size(jpeg: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG as stored, from its frame header; None if there is none."""
    try:
        height, width = next(
            struct.unpack_from('>xHH', content) for kind, content in _jpeg_segments(jpeg) if kind in FRAMES
        )
    except (struct.error, IndexError, StopIteration):
        return None
    return width, height


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of every segment before the first scan."""
    at = len(JPEG)
    while data[at] == 0xFF and data[at + 1] != SCAN:
        if data[at + 1] == FILL:
            at += 1
            continue
        end = at + 2 + struct.unpack_from('>H', data, at + 2)[0]
        yield data[at + 1], data[at + 4 : end]
        at = end


def _png_blocks(data: bytes) -> Iterator[bytes]:
    at = len(PNG)
    while at + 8 <= len(data):
        size = struct.unpack_from('>I', data, at)[0]
        if data.startswith(b'eXIf', at + 4):
            yield data[at + 8 : at + 8 + size]
        at += 12 + size


def _webp_blocks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack_from('<I', data, at + 4)[0]
        if data.startswith(b'EXIF', at):
            yield data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _tag(tiff: bytes) -> int:
    """The orientation in an EXIF segment, which is a small TIFF file."""
    order = {b'II': '<', b'MM': '>'}[tiff[:2]]
    directory = struct.unpack_from(f'{order}I', tiff, 4)[0]
    for index in range(struct.unpack_from(f'{order}H', tiff, directory)[0]):
        entry = directory + 2 + 12 * index
        tag, kind = struct.unpack_from(f'{order}HH', tiff, entry)
        if tag == ORIENTATION_TAG:
            return struct.unpack_from(f'{order}I' if kind == LONG else f'{order}H', tiff, entry + 8)[0]
    return UPRIGHT
