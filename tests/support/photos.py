"""Photos as cameras write them: stored as the sensor lies, with a note of how it was held."""

import struct
import zlib


def tiff(orientation: int, order: str = '<') -> bytes:
    """The content of an EXIF segment with an orientation and another tag before it."""
    entries = struct.pack(order + 'HHII', 0x0100, 4, 1, 120)
    entries += struct.pack(order + 'HHIHH', 0x0112, 3, 1, orientation, 0)
    header = {'<': b'II', '>': b'MM'}[order] + struct.pack(order + 'HI', 42, 8)
    return header + struct.pack(order + 'H', 2) + entries + bytes(4)


def with_exif(jpeg: bytes, orientation: int, order: str = '<') -> bytes:
    """A JPEG with EXIF behind its first segment, and after that an APP1 of another kind."""
    at = 4 + struct.unpack_from('>H', jpeg, 4)[0]
    contents = b'Exif\0\0' + tiff(orientation, order), b'http://ns.adobe.com/xap/1.0/\0<x/>'
    segments = (b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content for content in contents)
    return jpeg[:at] + b''.join(segments) + jpeg[at:]


def png_with_exif(png: bytes, orientation: int) -> bytes:
    """A PNG with EXIF before its end."""
    content = b'eXIf' + tiff(orientation)
    chunk = struct.pack('>I', len(content) - 4) + content + struct.pack('>I', zlib.crc32(content))
    return png[:-12] + chunk + png[-12:]


def webp_with_exif(webp: bytes, orientation: int, width: int, height: int) -> bytes:
    """A simple WebP as one of the extended form, with EXIF."""
    size = b''.join((side - 1).to_bytes(3, 'little') for side in (width, height))
    frame = struct.pack('<4sIB3x', b'VP8X', 10, 8) + size
    exif = tiff(orientation)
    content = b'WEBP' + frame + webp[12:] + struct.pack('<4sI', b'EXIF', len(exif)) + exif
    return struct.pack('<4sI', b'RIFF', len(content)) + content
