"""check_data: images that can be read, and are not what they seem."""

import os
import sys

import cv2
import numpy as np
import pytest

from cvpack.files import read_json
from lib.datasets.checks import Issue
from lib.datasets.description import COCO
from lib.datasets.exif import orientation
from lib.datasets.image_names import image_path
from tests.support.annotations import coco_with, write_json
from tests.support.check_data import JPEG, PIXELS, counts, found
from tests.support.photos import png_with_exif, webp_with_exif, with_exif

TRAIN, VAL, DET = COCO.train_json, COCO.val_json, COCO.val_boxes


@pytest.mark.parametrize('number', range(1, 9))
def test_orientations(number):
    """As OpenCV reads it from JPEG and PNG; WebP it turns from 4.13 on."""
    for order in '<>':
        assert orientation(with_exif(JPEG, number, order)) == number
    png, webp = (cv2.imencode(suffix, PIXELS)[1].tobytes() for suffix in ('.png', '.webp'))
    assert orientation(webp_with_exif(webp, number, 120, 90)) == number
    for data in (with_exif(JPEG, number), png_with_exif(png, number)):
        assert orientation(data) == number
        width, height = (90, 120) if number >= 5 else (120, 90)
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (height, width, 3)


def test_no_orientation():
    photo = with_exif(JPEG, 6)
    assert all(orientation(photo[:length]) in (1, 6) for length in range(200))
    for data in (JPEG, b'', b'GIF89a', with_exif(JPEG, 9), photo.replace(b'MM\0*', b'MX\0*').replace(b'II*', b'IX*')):
        assert orientation(data) == 1


@pytest.mark.parametrize('number', range(2, 9))
def test_labels_of_stored_photos(synthetic_coco, tmp_path, number):
    """Every photo that EXIF turns is named; those whose labels are of the stored pixels are told from the others."""
    content = read_json(synthetic_coco / TRAIN)
    first, second, third = content['images'][:3]
    for image in (first, second, third):
        image['file_name'] = f'{image["id"]}.jpg'
        photo = with_exif(JPEG, number)
        (tmp_path / 'images').mkdir(exist_ok=True)
        (tmp_path / 'images' / image['file_name']).write_bytes(photo)
    turned = number >= 5
    first.update(width=120, height=90)  # as stored
    second.update(width=90 if turned else 120, height=120 if turned else 90)  # upright
    del third['width'], third['height']
    fields = {key: content['annotations'][0][key] for key in ('category_id', 'iscrowd', 'area')}
    joints = [[40, 30], [40, 30], [110, 80]]
    people = [
        dict(fields, id=i + 1, image_id=image['id'], bbox=[30, 20, 85, 68], num_keypoints=17, keypoints=[*xy, 2] * 17)
        for i, (image, xy) in enumerate(zip((first, second, third), joints))
    ]
    write_json(tmp_path / TRAIN, {**content, 'images': [first, second, third], 'annotations': people})
    findings = found(tmp_path)
    if not turned:
        assert counts(findings) == {Issue.EXIF: 3}
        return
    assert counts(findings) == {Issue.STORED: 2, Issue.EXIF: 1, Issue.OUTSIDE: 1}
    upright = f'EXIF orientation {number}, 90 x 120 pixels upright'
    assert list(findings.messages[Issue.EXIF]) == [f'image {second["file_name"]}: {upright}']
    assert list(findings.messages[Issue.STORED]) == [
        f'image {first["file_name"]}: {upright}, its record says 120 x 90',
        f'image {third["file_name"]}: {upright}, 120 x 90 stored: it has a joint at (110, 80)',
    ]


@pytest.mark.parametrize('workers', [1, 3])
def test_jpegs_with_holes_are_named(synthetic_coco, tmp_path, workers, capfd):
    """libjpeg warns of them without a name, on the process's stderr, which is as it was afterwards."""
    root = coco_with(synthetic_coco, tmp_path, {})
    (root / 'images').unlink()
    for file in (synthetic_coco / 'images').rglob('*.jpg'):
        copy = root / 'images' / file.relative_to(synthetic_coco / 'images')
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    names = [image_path(image['file_name']) for image in read_json(root / TRAIN)['images']]
    holes = [root / 'images' / names[i] for i in (1, 6)]
    for file in holes:
        data = file.read_bytes()
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes(3000) + data[middle + 3000 :])
    stderr = os.fstat(2)
    findings = found(root, workers=workers)
    assert os.path.samestat(stderr, os.fstat(2))
    assert counts(findings) == {Issue.HOLE: 2}
    for file, example in zip(sorted(holes), list(findings.messages[Issue.HOLE])):
        assert f'image {file}: Corrupt JPEG data: ' in example
    print('still there', file=sys.stderr)
    printed = capfd.readouterr().err
    assert 'still there' in printed and 'Corrupt JPEG' not in printed


def test_images_of_two_splits(synthetic_coco, tmp_path):
    """By their paths, or by their content under another name; not by their size alone, nor where nobody is."""
    contents = {'a.jpg': JPEG, 'b.jpg': with_exif(JPEG, 1), 'copy.jpg': JPEG, 'size.jpg': JPEG[:-3] + b'\0' + JPEG[-2:]}
    (tmp_path / 'images').mkdir()
    for name, content in {**contents, 'nobody.jpg': JPEG}.items():
        (tmp_path / 'images' / name).write_bytes(content)
    person = {
        **read_json(synthetic_coco / TRAIN)['annotations'][0],
        'bbox': [5, 5, 50, 60],
        'keypoints': [20, 30, 2] * 17,
    }
    person['num_keypoints'] = 17
    for file, names in ((TRAIN, ('a.jpg', 'b.jpg')), (VAL, ('b.jpg', 'copy.jpg', 'size.jpg'))):
        images = [{'id': i + 1, 'file_name': name} for i, name in enumerate((*names, 'nobody.jpg'))]
        people = [{**person, 'id': i + 1, 'image_id': i + 1} for i in range(len(names))]
        write_json(tmp_path / file, {'images': images, 'annotations': people, 'categories': [{'id': 1}]})
    write_json(tmp_path / DET, [{'image_id': 1, 'category_id': 1, 'bbox': [5, 5, 50, 60], 'score': 1}])
    findings = found(tmp_path, 'train', 'val')
    images = tmp_path / 'images'
    assert counts(findings) == {Issue.SHARED: 2}
    assert list(findings.messages[Issue.SHARED]) == [
        f'image {images}/b.jpg: in train and in val',
        f'image {images}/copy.jpg: in val, the same as {images}/a.jpg in train',
    ]
    assert counts(found(tmp_path, 'val')) == {}
