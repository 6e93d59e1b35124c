"""prepare own: which image file is meant, where names are spelt otherwise or several files have one."""

import unicodedata

import pytest

from tests.support.annotations import write_json
from tests.support.commands import names_all
from tests.support.exports import IMAGES, animals, coco, draw, halves
from tests.support.exports_yolo import one_folder
from tests.support.own import check, prepared, refused


@pytest.mark.parametrize(
    ('listed', 'stored'),
    [
        ('é {}', unicodedata.normalize('NFD', 'é {}')),
        (unicodedata.normalize('NFD', 'é {}'), 'É {}'),
        ('farm%201/{}', 'farm 1/{}'),
        ('%C3%A9%20{}', 'é {}'),
        ('50%20{}', '50%20{}'),
    ],
)
def test_names_in_another_spelling(listed, stored, tmp_path, monkeypatch, capsys):
    """Accents apart from their letters, as macOS stores them; characters quoted as in URLs."""
    content = coco(animals())
    for row in content['images']:
        row['file_name'] = listed.format(row['file_name'])
    images = draw(tmp_path / 'images', {name: stored.format(name) for name in IMAGES})
    options = '--annotations', write_json(tmp_path / 'in.json', content), '--images', images
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


def test_a_name_as_it_stands_comes_first(tmp_path, monkeypatch, capsys):
    """Where its unquoted form is another file."""
    content = coco(animals())
    content['images'][0]['file_name'] = 'a%20b.jpg'
    images = draw(tmp_path / 'images', {IMAGES[0]: 'a%20b.jpg'} | dict(zip(IMAGES[1:], IMAGES[1:])))
    draw(images, {IMAGES[5]: 'a b.jpg'})
    options = '--annotations', write_json(tmp_path / 'in.json', content), '--images', images
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


# Where CVAT writes the images and annotations of subsets, and Supervisely those of data sets.
PLACES = [
    ('images/{}', 'annotations/person_keypoints_{}.json', ('Train', 'Validation')),
    ('{}/images', '{}/annotations/keypoints.json', ('ds1', 'ds2')),
    ('images/{}', 'annotations/{}.json', ('train', 'val')),
    ('images/{}', 'annotations/keypoints-{}.json', ('train2017', 'val2017')),
    ('{}', '{}_annotations.json', ('my-train', 'my-val')),
]


@pytest.mark.parametrize('as_val', [False, True])
@pytest.mark.parametrize(('folder', 'file', 'parts'), PLACES)
def test_images_of_one_name_in_several_parts(folder, file, parts, as_val, tmp_path, monkeypatch, capsys):
    """Those of the file's own part are meant."""
    paths = []
    for part, own in zip(parts, halves(animals())):
        names = {image: f'{i}.jpg' for i, image in enumerate(dict.fromkeys(one.image for one in own), 1)}
        draw(tmp_path / folder.format(part), names)
        content = coco(own)
        for row in content['images']:
            row['file_name'] = names[row['file_name']]
        paths.append(write_json(tmp_path / file.format(part), content))
    options = ['--annotations', paths[0], *(['--val'] if as_val else []), paths[1], '--images', tmp_path]
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


@pytest.mark.parametrize(
    ('folders', 'file'),
    [(('images', 'annotations'), 'annotations.json'), (('01', '02'), 'project-3-at-2024-01.json')],
)
def test_words_that_tell_nothing(folders, file, tmp_path, monkeypatch, capsys):
    """Of images of one name in two folders: refused."""
    for folder in folders:
        draw(tmp_path / folder)
    options = '--annotations', write_json(tmp_path / file, coco(animals())), '--images', tmp_path
    names_all(refused(tmp_path, monkeypatch, capsys, *options), *folders, 'write the folder too')


def test_images_that_are_there_but_none(tmp_path, monkeypatch, capsys):
    """As Git LFS leaves them where the files themselves were not fetched."""
    images = draw(tmp_path / 'images')
    for file in images.iterdir():
        file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n')
    options = '--annotations', write_json(tmp_path / 'in.json', coco(animals())), '--images', images
    error = refused(tmp_path, monkeypatch, capsys, *options)
    names_all(error, f'none of the {len(IMAGES)} images', 'can be read', images / IMAGES[0], 'not an image')


def test_hidden_files_in_a_folder_of_images(tmp_path, monkeypatch, capsys):
    """macOS adds ._x.jpg and ._x.txt to archives: no images, and nothing to tell."""
    options = one_folder(tmp_path, animals(), 'train: images\nkpt_shape: [6, 3]\n')
    for path in (tmp_path / 'images/._ash.jpg', tmp_path / 'labels/._ash.txt'):
        path.write_bytes(b'\0\5\x16\7\0\2\0\0Mac OS X        ')
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, animals())
    assert '._ash' not in printed
