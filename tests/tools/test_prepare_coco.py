"""prepare coco: COCO's downloads become the published layout, and nothing that is there is written over."""

import json

import pycocotools.coco
import pytest

from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.image_names import image_path
from tests.support.annotations import write_json
from tests.support.prepare import box, fail, make_2014, make_2017, run, snapshot

ADDRESS = 'http://images.cocodataset.org'


@pytest.mark.parametrize('images', ['', 'images'])
def test_coco_2017(tmp_path, images, capsys):
    source, target = make_2017(tmp_path / 'download', images), tmp_path / 'COCO'
    before = snapshot(source)
    printed = run(capsys, 'coco', '--source', source, '--target', target)

    for split in ('train2017', 'val2017'):
        assert (target / 'images' / split).readlink() == source / images / split
    for split, name in (('train2017', 'train_val_minus_minival_2014'), ('val2017', 'minival_2014')):
        official = json.loads((source / f'annotations/person_keypoints_{split}.json').read_text())
        written = json.loads((target / f'gt_json/{name}.json').read_text())
        for image in written['images']:
            assert (target / 'images' / image_path(image['file_name'])).is_file()
            image['file_name'] = image['file_name'].removeprefix(f'{split}/')
        assert written == official
    boxes = json.loads((target / 'det_json/minival_2014_det.json').read_text())
    assert [entry['image_id'] for entry in boxes] == [4, 5]
    assert {entry['source'] for entry in boxes} == {'annotation'}
    assert '3 images listed, 0 of them missing' in printed
    assert '3 images, 9 annotations, 3 people with keypoints' in printed
    assert '2 annotated boxes' in printed
    assert 'not comparable with published results' in printed

    after = snapshot(target)
    printed = run(capsys, 'coco', '--source', source, '--target', target)
    assert [line.split(': ')[1].split(',')[0] for line in printed.splitlines()] == ['kept'] * 5
    assert 'not comparable with published results' in printed
    assert snapshot(target) == after and snapshot(source) == before


def test_coco_is_prepared_in_the_home_folder(tmp_path, monkeypatch, capsys):
    source = make_2017(tmp_path / 'download')
    monkeypatch.setenv('MSPN_HOME', str(tmp_path / 'home'))
    run(capsys, 'coco', '--source', source)
    assert len(CocoReader(COCO.at(tmp_path / 'home/dataset/COCO')).train_records(1)) == 3


def test_coco_is_prepared_where_it_was_unpacked(tmp_path, capsys):
    folder = make_2017(tmp_path / 'COCO', 'images')
    assert f'{folder}/images/val2017: kept' in run(capsys, 'coco', '--source', folder, '--target', folder)
    assert len(CocoReader(COCO.at(folder)).test_set('val', False).records) == 2


@pytest.mark.parametrize(('jsons', 'images'), [('', ''), ('annotations', ''), ('gt_json', 'images')])
def test_coco_2014(tmp_path, jsons, images, capsys):
    source, target = make_2014(tmp_path / 'download', jsons, images), tmp_path / 'COCO'
    for _ in range(2):
        run(capsys, 'coco', '--source', source, '--target', target)
    for split in ('train2014', 'val2014'):
        assert (target / 'images' / split).readlink() == source / images / split
    assert (target / 'gt_json/minival_2014.json').readlink() == source / jsons / 'minival_2014.json'
    records = CocoReader(COCO.at(target)).train_records(1)
    assert [path.decode() for path in records.paths] == [
        'train2014/COCO_train2014_000000000001.jpg',
        'val2014/COCO_val2014_000000000002.jpg',
    ]
    assert len(CocoReader(COCO.at(target)).test_set('val', False).records) == 1


def test_coco_counts_absent_images(tmp_path, capsys):
    source = make_2017(tmp_path / 'download')
    (source / 'val2017/000000000004.jpg').unlink()
    assert '2 images listed, 1 of them missing' in run(capsys, 'coco', '--source', source, '--target', tmp_path / 'a')
    (source / 'val2017/000000000005.jpg').unlink()
    message = fail(capsys, 'coco', '--source', source, '--target', tmp_path / 'b')
    assert f'{source}/val2017 has none of the 2 listed images' in message
    assert f'{ADDRESS}/zips/val2017.zip' in message
    assert not (tmp_path / 'b').exists()


def test_coco_says_what_is_missing(tmp_path, capsys):
    source, target = tmp_path / 'download', tmp_path / 'COCO'

    def message() -> str:
        return fail(capsys, 'coco', '--source', source, '--target', target)

    assert f'{source} is not a COCO download' in message()
    assert 'person_keypoints_{train,val}2017.json' in message() and 'minival_2014.json' in message()
    make_2017(source)
    (source / 'train2017').rename(source / 'train')
    assert f'{source}/train2017 ' in message() and f'{source}/images/train2017 ' in message()
    assert f'{ADDRESS}/zips/train2017.zip' in message()
    annotations = source / 'annotations/person_keypoints_train2017.json'
    annotations.write_text('{"images": [')
    assert f'{annotations} is not valid json' in message()
    annotations.write_text('[1]')
    assert f'{annotations} is not a COCO annotation file' in message()
    annotations.unlink()
    assert f'{annotations} does not exist' in message() and 'annotations_trainval2017.zip' in message()
    assert not target.exists()


@pytest.mark.parametrize('name', ['images/val2017', 'gt_json/minival_2014.json', 'det_json/minival_2014_det.json'])
@pytest.mark.parametrize('kind', ['folder', 'dangling link'])
def test_coco_leaves_what_is_in_the_way(tmp_path, name, kind, capsys):
    source, wrong = make_2017(tmp_path / 'download'), tmp_path / 'COCO' / name
    wrong.parent.mkdir(parents=True)
    if kind == 'folder':
        wrong.mkdir()
    else:
        wrong.symlink_to(tmp_path / 'nowhere')
    assert f'{wrong} exists and is not' in fail(capsys, 'coco', '--source', source, '--target', tmp_path / 'COCO')
    assert wrong.readlink() == tmp_path / 'nowhere' if kind == 'dangling link' else not list(wrong.iterdir())


def test_coco_leaves_other_annotations(tmp_path, capsys):
    source, other = make_2017(tmp_path / 'download'), tmp_path / 'COCO/gt_json/minival_2014.json'
    write_json(other, 'mine')
    assert f'{other} exists and is not' in fail(capsys, 'coco', '--source', source, '--target', tmp_path / 'COCO')
    assert other.read_text() == '"mine"'


def test_coco_leaves_no_half_written_file(tmp_path, capsys, monkeypatch):
    def full_disk(*_) -> None:
        raise OSError(28, 'No space left on device', 'the disk')

    source, target = make_2017(tmp_path / 'download'), tmp_path / 'COCO'
    monkeypatch.setattr('os.replace', full_disk)
    message = fail(capsys, 'coco', '--source', source, '--target', target)
    assert 'the disk: No space left on device' in message
    assert list((target / 'gt_json').iterdir()) == []


def test_coco_cannot_write(tmp_path, capsys):
    source = make_2017(tmp_path / 'download')
    (tmp_path / 'file').touch()
    assert str(tmp_path / 'file') in fail(capsys, 'coco', '--source', source, '--target', tmp_path / 'file/COCO')


def test_coco_detections(tmp_path, capsys):
    source, target = make_2017(tmp_path / 'download'), tmp_path / 'COCO'
    boxes = [box(4), box(5), box(5, category_id=2), box(99, score=1)]
    detections = write_json(tmp_path / 'detections.json', boxes)
    arguments = ('coco', '--source', source, '--target', target)
    printed = run(capsys, *arguments, '--detections', detections)
    assert '4 boxes, 3 of people, 1 of those in images that are not listed' in printed
    assert 'comparable' not in printed
    copied = target / 'det_json/minival_2014_det.json'
    assert copied.read_bytes() == detections.read_bytes() and not copied.is_symlink()
    # A run without detections is no reason to lose them.
    assert f'{copied}: kept' in run(capsys, *arguments)
    write_json(detections, [box(4)])
    assert f'{copied} exists and is not' in fail(capsys, *arguments, '--detections', detections)


def test_coco_test_dev(tmp_path, capsys):
    source, target = make_2017(tmp_path / 'download'), tmp_path / 'COCO'
    detections = write_json(tmp_path / 'detections.json', [box(7)])
    arguments = ('coco', '--source', source, '--target', target, '--test-detections', detections)
    assert 'image_info_test2017.zip' in fail(capsys, *arguments)
    info = {'images': [{'id': 7, 'file_name': '7.jpg'}], 'categories': []}
    write_json(source / 'annotations/image_info_test-dev2017.json', info)
    assert f'{ADDRESS}/zips/test2017.zip' in fail(capsys, *arguments)
    (source / 'test2017').mkdir()
    (source / 'test2017/7.jpg').touch()
    assert 'test_dev.json: written, 1 images, 0 annotations' in run(capsys, *arguments)
    records = CocoReader(COCO.at(target)).test_set('test', False).records
    assert [path.decode() for path in records.paths] == ['test2017/7.jpg']
    assert (target / 'images/test2017').readlink() == source / 'test2017'


def test_coco_on_real_images(tmp_path, shared, capsys):
    source, target = shared / 'data/coco_subset', tmp_path / 'COCO'
    printed = run(capsys, 'coco', '--source', source, '--target', target)
    assert '197 images, 723 annotations, 639 people with keypoints' in printed
    assert '197 images listed, 0 of them missing' in printed
    dataset = COCO.at(target)
    assert (len(CocoReader(dataset).train_records(1)), len(CocoReader(dataset).test_set('val', False).records)) == (
        364,
        639,
    )
    ground_truth = pycocotools.coco.COCO(str(target / 'gt_json/minival_2014.json'))
    assert all((target / 'images' / image['file_name']).is_file() for image in ground_truth.dataset['images'])
    assert len(ground_truth.loadRes(str(target / 'det_json/minival_2014_det.json')).anns) == 639
