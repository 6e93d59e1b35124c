"""Names of images: found where they lie, and refused by what is odd about them."""

import pytest

from cvpack.errors import InputError
from lib.datasets import mpii_json
from lib.datasets.coco_json import image_paths, listed_images
from lib.datasets.image_names import ImageFolder, name_problem
from tests.support.annotations import mpii_people

FILES = 'a.jpg', 'sub/b.jpg', 'train2014/c.jpg', 'val2014/d.jpg', 'train2014/e.jpg', 'val2014/e.jpg', 'val2014/a.jpg'


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


ODD = {
    'images\\a.jpg': "uses backslashes, as paths on Windows do (write 'a.jpg')",
    'sub\\b.jpg': "uses backslashes, as paths on Windows do (write 'sub/b.jpg')",
    'sub\\absent.jpg': "uses backslashes, as paths on Windows do (write 'sub/absent.jpg')",
    '.\\\\': "uses backslashes, as paths on Windows do (write '.\\\\\\\\')",
    'images/sub/b.jpg': "begins with the images folder's own name (write 'sub/b.jpg')",
    'images/absent.jpg': "begins with the images folder's own name (write 'absent.jpg')",
    'mine/images/c.jpg': "begins with 'mine/images/', which is not in it (write 'c.jpg')",
    '/home/me/images/sub/b.jpg': "is absolute (write 'sub/b.jpg')",
    '/home/me/absent.jpg': 'is absolute (write what follows that folder)',
    'C:\\data\\a.jpg': "is absolute (write 'a.jpg')",
    'D:/data/sub/b.jpg': "is absolute (write 'sub/b.jpg')",
    '\\\\server\\share\\a.jpg': "is absolute (write 'a.jpg')",
    'https://images.org/x/a.jpg': "is a URL (write 'a.jpg')",
    's3://bucket/absent.jpg': 'is a URL (download the image and name its file)',
    'file:///data/absent.jpg': 'is a URL (download the image and name its file)',
    '../images/a.jpg': "leads out of it (write 'a.jpg')",
    '..\\..\\absent.jpg': 'leads out of it (move the image there)',
}
PLAIN = (
    'a.jpg',
    'sub/b.jpg',
    './a.jpg',
    'absent.jpg',
    'sub/absent.jpg',
    'elsewhere/absent.jpg',
    'COCO_val2014_1.jpg',
    'c.jpg',
)


@pytest.mark.parametrize('name', ODD)
@pytest.mark.parametrize('layout', ['coco', 'mpii'])
def test_what_is_odd_is_said(layout, name, images, tmp_path):
    with pytest.raises(InputError) as refusal:
        if layout == 'coco':
            content = {'images': [{'id': 1, 'file_name': 'a.jpg'}, {'id': 2, 'file_name': name}]}
            listed_images(content, tmp_path / 'x.json', folder=images)
        else:
            content = [*mpii_people(1), {**mpii_people(1)[0], 'image': name}]
            mpii_json.read_people(content, tmp_path / 'x.json', 16, labelled=True, folder=images)
    assert f'should be a path inside the images folder, but {ODD[name]}: correct or remove it' in str(refusal.value)
    assert repr(name) in str(refusal.value) and 'get it again' not in str(refusal.value)


@pytest.mark.parametrize('name', PLAIN)
def test_other_names_are_not(name, images):
    """Also of images that are not there: that is another fault."""
    assert name_problem(name, ImageFolder(images)) is None


def test_a_name_is_what_the_file_is_called(images):
    """Archives packed on Windows leave such files on other systems."""
    (images / 'images\\x.jpg').touch()
    (images / 'images').mkdir()
    assert name_problem('images\\x.jpg', ImageFolder(images)) is None
    assert name_problem('images/a.jpg', ImageFolder(images)) is None  # the folder is there: the image may be absent


def test_names_that_tell_no_folder_are_found(images, tmp_path):
    """In the folder itself before train2014 and val2014, as in the published layout."""
    names = ['a.jpg', 'c.jpg', 'd.jpg', 'absent.jpg', 'sub/b.jpg', 'COCO_val2014_5.jpg']
    paths = image_paths({i: {'file_name': name} for i, name in enumerate(names)}, images, tmp_path / 'x.json')
    expected = ['a.jpg', 'train2014/c.jpg', 'val2014/d.jpg', 'absent.jpg', 'sub/b.jpg', 'val2014/COCO_val2014_5.jpg']
    assert list(paths.values()) == expected


def test_a_name_that_means_two_images_is_refused(images, tmp_path):
    with pytest.raises(
        InputError, match=r"x\.json: image \(id 7\): file_name = 'e\.jpg' is in train2014 and in val2014"
    ):
        image_paths({7: {'file_name': 'e.jpg'}}, images, tmp_path / 'x.json')


def test_folders_are_listed_once(images, monkeypatch):
    """However many images there are."""
    folder, listed = ImageFolder(images), []
    monkeypatch.setattr('os.listdir', lambda path: listed.append(path) or ['a.jpg'])
    for number in range(100):
        folder.find(f'{number}.jpg')
    assert len(listed) == 3
