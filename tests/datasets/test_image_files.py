"""Images as phones and cameras write them: with more behind the picture, turned, or very wide."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from lib.datasets.checks import Issue
from lib.datasets.image_files import decode_upright, is_image, is_truncated, load_image
from lib.utils import pixels
from lib.utils.pixels import crop
from lib.utils.transforms import crop_matrix

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
SMOOTH = cv2.resize(PIXELS[:6, :9], (90, 60), interpolation=cv2.INTER_NEAREST)


def jpeg(*options: int, size: int = 60) -> bytes:
    return cv2.imencode('.jpg', PIXELS[:size], options)[1].tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """The same with a JPEG of its own, end included, in its EXIF segment."""
    thumbnail = jpeg(size=10)
    return data[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(thumbnail)) + thumbnail + data[2:]


KINDS = {
    'baseline': jpeg(),
    'progressive': jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'with restarts': jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    'with a thumbnail': with_thumbnail(jpeg()),
    'filled up before the end': jpeg()[:-2] + b'\xff\xff\xff\xd9',
}
FILM = b'\0\0\0\x18ftypmp42' + np.random.default_rng(1).bytes(4000) + b'\xff\xda\xff\xd8\xff'
BEHIND = {
    'a film': FILM,
    'a half of another picture': jpeg()[:3000],
    'the notes of a phone': b'\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0SEFT',
    'zeros': bytes(500),
}


@pytest.mark.parametrize('behind', BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize('data', KINDS.values(), ids=KINDS)
def test_what_is_behind_a_picture_does_not_matter(data, behind, tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(data + behind)
    np.testing.assert_array_equal(load_image(path), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize('data', KINDS.values(), ids=KINDS)
def test_a_picture_without_its_end_is_damaged(data, tmp_path):
    """Wherever it ends, and though a thumbnail has an end."""
    path = tmp_path / 'a.jpg'
    for size in (len(data) - 2, len(data) - 1, *range(3, len(data) - 2, 97)):
        assert is_truncated(data[:size])
    path.write_bytes(data[: len(data) // 2])
    assert load_image(path) is Issue.DAMAGED


# ---------------------------------------------------------------------------------------------------- upright


def encoded(form: str, orientation: int) -> bytes:
    """A picture with a note of how the camera was held, after a note of another kind."""
    image, file, exif = Image.fromarray(SMOOTH), io.BytesIO(), Image.Exif()
    exif[0x010F], exif[0x0112] = 'maker', orientation
    how = {'WEBP': {'lossless': True}, 'TIFF': {'tiffinfo': {0x0112: orientation}}}.get(form, {'quality': 95})
    image.save(file, form, **{'exif': exif, **how} if form != 'TIFF' else how)
    return file.getvalue()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_pictures_are_upright_whatever_the_version_of_opencv(form, orientation):
    try:
        data = encoded(form, orientation)
    except (KeyError, OSError):
        pytest.skip(f'this Pillow writes no {form}')
    found = decode_upright(data)
    if found is None and form == 'AVIF':
        pytest.skip('this OpenCV reads no AVIF')
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert found.shape == upright.shape == ((60, 90, 3) if orientation < 5 else (90, 60, 3))
    assert np.abs(found[..., ::-1].astype(int) - upright).mean() < 3
    assert found.flags['C_CONTIGUOUS']


def test_damaged_notes_turn_nothing():
    data = encoded('WEBP', 6)
    start = data.index(b'\0*\0\0\0\x08') + 2  # of the place of the notes, that of a big-endian file
    for place in (b'\xff\xff\xff\xff', b'\0\0\0\x09', b'\0\0\0\x70'):
        assert decode_upright(data[:start] + place + data[start + 4 :]).shape == (60, 90, 3)


# ---------------------------------------------------------------------------------------------------- which files


def test_images_by_name_and_by_content(tmp_path):
    for name, content, expected in (
        ('a.jpg', b'', True),
        ('a.JPEG', b'<html>', True),
        ('a.jfif', jpeg(), True),
        ('a', jpeg(), True),
        ('a.txt', b'text', False),
        ('a.nef', cv2.imencode('.tif', PIXELS)[1].tobytes(), False),
        ('a.mp4', FILM, False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_image(tmp_path / name) == expected, name
    assert not is_image(tmp_path)


# ---------------------------------------------------------------------------------------------------- wide pictures


def test_the_part_that_is_cut_out_gives_the_same_crop(monkeypatch):
    """Inside, over the border and mirrored; to a level that comes of rounding."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (300, 900, 3), np.uint8), (0, 0), 3)
    limit = pixels.MAX_SOURCE
    for _ in range(50):
        center, scale = rng.uniform([-50, -50], [950, 350]), rng.uniform(0.1, 3) * np.array([0.75, 1])
        matrix = crop_matrix(center, scale, rng.uniform(-60, 60), (64, 48)) @ np.diag([rng.choice([-1, 1]), 1, 1])
        monkeypatch.setattr(pixels, 'MAX_SOURCE', limit)
        whole = crop(image, matrix, (64, 48)).astype(int)
        monkeypatch.setattr(pixels, 'MAX_SOURCE', 899)
        assert np.abs(crop(image, matrix, (64, 48)) - whole).max() <= 1


def test_a_picture_wider_than_opencv_4_warps():
    """One person in it, the whole of it, and what is beside it."""
    image = np.zeros((40, 40_000, 3), np.uint8)
    image[:, 35_000:35_100] = 255
    person = crop(image, crop_matrix(np.array([35_050, 20]), np.array([0.75, 1]), 0, (256, 192)), (256, 192))
    assert np.flatnonzero(person[128, :, 0] > 127).tolist() == list(range(32, 160))
    whole = crop(image, crop_matrix(np.array([20_000, 20]), np.array([200, 266]), 0, (256, 192)), (256, 192))
    assert np.flatnonzero(whole[128, :, 0]).tolist() == [168]
    beside = crop(image, crop_matrix(np.array([2e6, 20]), np.array([0.75, 1]), 0, (256, 192)), (256, 192))
    assert not beside.any()
