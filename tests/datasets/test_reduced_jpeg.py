"""JPEGs decoded at a half, a quarter or an eighth: the same joints, the crop's content in the same place."""

import itertools

import cv2
import numpy as np
import pytest

from cvpack.errors import InputError
from lib.config import override
from lib.datasets.exif import stored_size
from lib.datasets.image_files import decode_upright, read_image, read_reduced
from lib.datasets.joints import TrainSamples
from lib.datasets.records import Records, pack_paths
from lib.loader import train_samples
from tests.support.joints import UNTOUCHED, plain_sample
from tests.support.photos import with_exif
from tests.support.settings import load_config, tiny_settings

HEIGHT, WIDTH = 192, 256


def encode(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 98, *options])[1].tobytes()


def blobs(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: smooth bright spots, nothing at the borders."""
    y, x = np.mgrid[:height, :width]
    centers = ((0.3, 0.3), (0.7, 0.35), (0.35, 0.7), (0.65, 0.6))
    spots = sum(np.exp(-((x - a * width) ** 2 + (y - b * height) ** 2) / (2 * 40**2)) for a, b in centers)
    return np.repeat((200 * spots).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


PICTURE = blobs(640, 480)
JPEG = encode(PICTURE)


def shift(image: np.ndarray, other: np.ndarray) -> float:
    """By how many pixels, at most of x and y, the content of `other` lies beside that of `image`."""
    a, b = image[..., 0].astype(float), other[..., 0].astype(float)
    slope_y, slope_x = np.gradient(a)
    return np.abs(np.linalg.lstsq(np.column_stack([slope_x.ravel(), slope_y.ravel()]), (a - b).ravel())[0]).max()


# ---------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize('sampling', ['420', '444'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_crops_show_the_same_in_the_same_place(orientation, sampling, tmp_path):
    """Mirrored or not, turned, sizes that 8 divides and that leave 1 to 7 pixels over. Joints to the last bit."""
    chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}')
    for width, height in ((640, 480), (641, 487), (646, 481)):
        path = tmp_path / 'a.jpg'
        path.write_bytes(with_exif(encode(blobs(width, height), *chroma), orientation))
        size = np.array(read_image(path).shape[1::-1])
        joints = np.random.default_rng(0).uniform(0, size, (1, 4, 2)).astype(np.float32)
        for reduction, flip in itertools.product((2, 4, 8), (False, True)):
            center, scale = np.float32([size / 2 + [3.3, -2.6]]), reduction * np.float32([[WIDTH, HEIGHT]]) / 200
            records = Records(tmp_path, pack_paths(['a.jpg']), center, scale, joints, np.ones((1, 4), np.float32))
            arguments = records, UNTOUCHED, [(0, 1)], (), (HEIGHT, WIDTH), 0, 'standard'
            sampled = plain_sample(flip=flip, rotation=20.0 if flip else 0.0)
            whole, reduced = (TrainSamples(*arguments, option).sample(0, sampled) for option in (False, True))
            found = read_reduced(path, 1 / reduction)
            assert (found.width, len(found.pixels)) == (size[0], -(-size[1] // reduction))
            assert whole['image'].max() > 100
            assert shift(whole['image'], reduced['image']) < 0.05, (width, height, reduction, flip)
            np.testing.assert_array_equal(whole['keypoints'], reduced['keypoints'])


@pytest.mark.parametrize(
    'zoom, reduction', [(2, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.126, 4), (0.125, 8), (0.001, 8)]
)
def test_no_fewer_pixels_than_the_crop_shows(zoom, reduction, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(JPEG)
    found = read_reduced(tmp_path / 'a.jpg', zoom)
    assert found.pixels.shape == (480 // reduction, 640 // reduction, 3)
    assert (found.width, found.to_full[0, 0]) == (640, reduction)


def test_training_samples_of_a_configuration(synthetic_coco, tmp_path):
    """Off unless asked for; then the same joints to the bit, and other pixels where the image was large enough."""
    samples = []
    for option in ([], ['DATALOADER.REDUCED_JPEG=False'], ['DATALOADER.REDUCED_JPEG=True']):
        cfg = load_config('mspn.2xstg.coco')
        override(cfg, [*tiny_settings(synthetic_coco, tmp_path), *option])
        people = train_samples(cfg)
        samples.append([people[index, index] for index in range(len(people))])
    for default, off, on in zip(*samples):
        np.testing.assert_array_equal(default['image'], off['image'])
        np.testing.assert_array_equal(off['keypoints'], on['keypoints'])
        assert np.abs(off['image'].astype(int) - on['image']).mean() < 10
    assert any((off['image'] != on['image']).any() for off, on in zip(*samples[1:]))


# ---------------------------------------------------------------------------------------------------- files


def resized_in_its_header(width: int, height: int) -> bytes:
    sizes = [side.to_bytes(2, 'big') for side in (480, 640, height, width)]
    assert JPEG.count(sizes[0] + sizes[1]) == 1
    return JPEG.replace(sizes[0] + sizes[1], sizes[2] + sizes[3])


BAD = {
    'empty': b'',
    'cut short': JPEG[: len(JPEG) // 2],
    'cut in its header': JPEG[:100],
    'no JPEG': b'<html>',
    'a PNG cut short': cv2.imencode('.png', PICTURE)[1].tobytes()[:500],
    'too small': encode(PICTURE[:40, :1]),
    'too large': resized_in_its_header(65_000, 65_000),
    'too large to be read whole': resized_in_its_header(30_000, 25_000),
    'of no height': resized_in_its_header(640, 0),
    'no frame header': JPEG[:20] + b'\xff\xd9',
    'no quantisation tables': JPEG.replace(b'\xff\xdb', b'\xff\xef'),
}


@pytest.mark.parametrize('data', [*BAD.values(), None], ids=[*BAD, 'absent'])
def test_bad_files_give_the_same_line(data, tmp_path):
    path = tmp_path / 'a.jpg'
    if data is not None:
        path.write_bytes(data)
    lines = []
    for read in (read_image, lambda path: read_reduced(path, 0.1)):
        with pytest.raises(InputError) as refused:
            read(path)
        lines.append(str(refused.value))
    assert lines[0] == lines[1]


OTHERS = {
    'PNG': cv2.imencode('.png', PICTURE)[1].tobytes(),
    'WebP': cv2.imencode('.webp', PICTURE)[1].tobytes(),
    'a JPEG with bytes between its segments': JPEG[:20] + b'\0\0' + JPEG[20:],
    'a JPEG of two rows': encode(PICTURE[200:202]),
}


@pytest.mark.parametrize('data', OTHERS.values(), ids=OTHERS)
def test_other_files_are_read_whole_or_agree(data, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(data)
    found, whole = read_reduced(tmp_path / 'a.jpg', 0.1), decode_upright(data)
    assert found.width == whole.shape[1]
    if found.to_full[0, 0] == 1:
        np.testing.assert_array_equal(found.pixels, whole)
    else:
        assert found.pixels.shape[1] == -(-found.width // 8)


def test_sizes_of_jpegs():
    """Of the picture, not of the thumbnail in its notes; as stored."""
    thumbnail = encode(PICTURE[:40, :60])
    photo = JPEG[:2] + b'\xff\xe1' + (2 + len(thumbnail)).to_bytes(2, 'big') + thumbnail + JPEG[2:]
    for data in (JPEG, encode(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), photo, with_exif(JPEG, 6)):
        assert stored_size(data) == (640, 480)
    start = JPEG.index(b'\xff\xda')
    assert all(stored_size(JPEG[:length]) in (None, (640, 480)) for length in range(2, start + 4))
    assert stored_size(JPEG[:20] + JPEG[start:]) is None
