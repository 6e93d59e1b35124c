"""prepare mpii: the official .mat and the widely used json files become the published layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lib.datasets.description import MPII
from lib.datasets.mpii import MpiiReader
from lib.tools.prepare import mpii as prepare_mpii
from lib.tools.prepare.mpii_mat import Person
from tests.support.annotations import write_json
from tests.support.evaluation import pckh_in_percent
from tests.support.prepare import fail, make_mpii_json, run, snapshot

EMPTY = np.zeros((0, 0))


def structs(records: list[dict]) -> np.ndarray:
    """A MATLAB struct array; a field that a record lacks is [] there, as in MATLAB."""
    names = list(dict.fromkeys(name for record in records for name in record))
    array = np.empty((1, len(records)), dtype=[(name, object) for name in names])
    for index, record in enumerate(records):
        for name in names:
            array[0, index][name] = record.get(name, EMPTY)
    return array


def joint_position(joint: int) -> list[float]:
    return [100.5 + 10 * joint, 50.0 + joint]


def annotated(joints, **changes) -> dict:
    """A person in annorect: its joints' is_visible in every form that the official file has."""
    forms = (1, '1', '0', '', EMPTY)
    points = [
        dict(zip('xy', joint_position(joint)), id=joint, is_visible=forms[joint % 5])
        if joint not in (8, 9)
        else dict(zip('xy', joint_position(joint)), id=joint)
        for joint in joints
    ]
    person = {'x1': 10, 'y1': 20, 'x2': 40, 'y2': 60, 'annopoints': {'point': structs(points)}, 'scale': 2.5}
    return person | {'objpos': {'x': 150, 'y': 80.5}} | changes


def make_mat(path: Path, images: list[tuple[str, int, object]]) -> Path:
    """The official file: (image name, img_train, annorect) an image."""
    annolist = structs([{'image': {'name': name}, 'annorect': rectangles} for name, _, rectangles in images])
    release = {
        'annolist': annolist,
        'img_train': np.array([[train for _, train, _ in images]]),
        'version': '12',
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {'RELEASE': release})
    return path


@pytest.fixture
def mpii_download(tmp_path):
    folder = tmp_path / 'download'
    images = [
        ('two.jpg', 1, structs([annotated(range(16)), annotated([9])])),
        ('no_scale.jpg', 1, structs([annotated(range(16), scale=EMPTY)])),
        ('nobody.jpg', 1, EMPTY),
        ('no_points.jpg', 1, structs([annotated([], annopoints=EMPTY), annotated([1], objpos=EMPTY)])),
        ('test.jpg', 0, structs([{'objpos': {'x': 5, 'y': 6}}, {'scale': 1.5, 'objpos': {'x': 5, 'y': 6}}])),
        ('boxes_only.jpg', 1, structs([{'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4}])),
        ('held_out.jpg', 1, structs([annotated([0, 3, 9]), annotated([1], x1=EMPTY), annotated(range(16))])),
        ('one.jpg', 1, structs([annotated([2, 8])])),
    ]
    make_mat(folder / 'mpii_human_pose_v1_u12_1.mat', images)
    (folder / 'images').mkdir()
    for name, _, _ in images[:-1]:
        (folder / 'images' / name).touch()
    (folder / 'valid.txt').write_text('held_out.jpg\nunknown.jpg\n')
    return folder


def load(path: Path) -> list[dict]:
    return json.loads(path.read_text())


def test_mpii_mat(tmp_path, mpii_download, capsys):
    target = tmp_path / 'MPII'
    arguments = ('mpii', '--source', mpii_download, '--target', target)
    arguments += ('--valid-images', mpii_download / 'valid.txt')
    printed = run(capsys, *arguments)
    assert '8 labelled people; left out: 2 without scale or position, 1 of the validation set' in printed
    assert '2 test people; left out: 1 without scale or position' in printed
    assert '1 of 2 listed images have labelled people' in printed
    assert '4 images listed, 1 of them missing' in printed

    train, valid = load(target / 'gt_json/train.json'), load(target / 'gt_json/valid.json')
    assert [person['image'] for person in train] == ['two.jpg', 'two.jpg', 'one.jpg']
    assert [person['image'] for person in valid] == ['held_out.jpg', 'held_out.jpg']
    everything = [joint_position(joint) for joint in range(16)]
    common = {'center': [150.0, 80.5], 'scale': 2.5}
    assert train[0] == {'image': 'two.jpg', 'joints': everything, 'joints_vis': [1] * 16} | common
    assert train[1]['joints_vis'] == [0] * 9 + [1] + [0] * 6
    assert train[1]['joints'] == [[-1, -1]] * 9 + [joint_position(9)] + [[-1, -1]] * 6
    assert [joint for joint, seen in enumerate(train[2]['joints_vis']) if seen] == [2, 8]
    assert load(target / 'det_json/test.json') == [
        {'image': 'test.jpg', 'center': [5.0, 6.0], 'scale': 1.5, 'joints': [[0, 0]] * 16}
        | {'joints_vis': [0] * 16, 'image_index': 5, 'person_index': 2}
    ]
    assert (target / 'images').readlink() == mpii_download / 'images'

    after = snapshot(target)
    assert run(capsys, *arguments).count(': kept') == 5
    assert snapshot(target) == after


def test_mpii_mat_is_what_the_data_set_reads(tmp_path, mpii_download, golden, capsys):
    target = tmp_path / 'MPII'
    run(
        capsys,
        'mpii',
        '--source',
        mpii_download,
        '--target',
        target,
        '--valid-images',
        mpii_download / 'valid.txt',
    )
    written, official = (scipy.io.loadmat(path) for path in (target / 'gt_json/valid.mat', golden / 'valid.mat'))
    fields = {name for name in official if not name.startswith('__')}
    assert fields == {name for name in written if not name.startswith('__')}
    for name in fields:
        assert written[name].dtype == official[name].dtype
        assert written[name].ndim == official[name].ndim and written[name].shape[0] == official[name].shape[0]
    names = ([name.item() for name in contents['dataset_joints'][0]] for contents in (written, official))
    assert next(names) == next(names)
    assert b'Created' not in (target / 'gt_json/valid.mat').read_bytes()[:128]  # a time would make files differ
    assert written['headboxes_src'][:, :, 0].tolist() == [[10, 20], [40, 60]]
    assert np.flatnonzero(written['jnt_missing'][:, 0] == 0).tolist() == [0, 3, 9]

    joints = np.array([person['joints'] for person in load(target / 'gt_json/valid.json')])
    exact = np.concatenate([joints - 1, np.ones((2, 16, 1))], axis=2)
    assert set(pckh_in_percent(exact, target / 'gt_json/valid.mat').values()) == {100.0}
    assert len(MpiiReader(MPII.at(target)).train_records(1)) == 3
    assert len(MpiiReader(MPII.at(target)).test_set('test', False).records) == 1


def test_mpii_mat_with_one_person_a_set(tmp_path, capsys):
    source, target = tmp_path / 'download', tmp_path / 'MPII'
    images = [(f'{name}.jpg', 1, structs([annotated([3])])) for name in 'ab']
    make_mat(source / 'mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat', images)
    (source / 'images').mkdir()
    (source / 'images/a.jpg').touch()
    (source / 'valid.txt').write_text('b.jpg')
    run(capsys, 'mpii', '--source', source, '--target', target, '--valid-images', source / 'valid.txt')
    assert load(target / 'det_json/test.json') == []
    prediction = np.array(load(target / 'gt_json/valid.json')[0]['joints'])[None]
    assert pckh_in_percent(prediction - 1, target / 'gt_json/valid.mat')['Mean'] == 100


def test_mpii_split_of_its_own(tmp_path, capsys):
    source, target = tmp_path / 'download', tmp_path / 'MPII'
    images = [(f'{index:09}.jpg', 1, structs([annotated([3]), annotated([4])])) for index in range(60)]
    make_mat(source / 'mpii_human_pose_v1_u12_1.mat', images)
    (source / 'images').mkdir()
    (source / f'images/{images[0][0]}').touch()
    assert "not the field's split" in run(capsys, 'mpii', '--source', source, '--target', target)
    assert run(capsys, 'mpii', '--source', source, '--target', target).count(': kept') == 5
    train, valid = (
        {person['image'] for person in load(target / f'gt_json/{name}.json')} for name in ('train', 'valid')
    )
    assert train and valid and not train & valid and len(train | valid) == 60

    people = [Person(f'{index:09}.jpg', True, 1, 1, None, None, {}, None) for index in range(20000)]
    share = len(prepare_mpii._hashed_names(people)) / len(people)
    assert abs(share - 2958 / 25204) < 0.01


def test_mpii_mat_that_does_not_fit(tmp_path, mpii_download, capsys):
    matrix, names = mpii_download / 'mpii_human_pose_v1_u12_1.mat', mpii_download / 'valid.txt'
    arguments = ('mpii', '--source', mpii_download, '--target', tmp_path / 'MPII')
    names.write_text('unknown.jpg')
    assert '6 people to train on and 0 to validate on' in fail(capsys, *arguments, '--valid-images', names)
    names.unlink()
    assert f'--valid-images {names} does not exist' in fail(capsys, *arguments, '--valid-images', names)
    make_mat(matrix, [('a.jpg', 1, structs([annotated([16])]))])
    assert 'a.jpg has a joint with id 16' in fail(capsys, *arguments)
    scipy.io.savemat(matrix, {'OTHER': 1})
    assert f"{matrix} is not the official MPII annotation file (KeyError: 'RELEASE')" in fail(capsys, *arguments)
    matrix.write_bytes(b'no mat')
    assert f'{matrix} is not the official MPII annotation file' in fail(capsys, *arguments)
    matrix.unlink()
    assert f'{mpii_download} is not an MPII download' in fail(capsys, *arguments)
    (mpii_download / 'images').rename(mpii_download / 'pictures')
    assert f'no folder {mpii_download}/images' in fail(capsys, *arguments)
    assert not (tmp_path / 'MPII').exists()


@pytest.mark.parametrize('annot', ['', 'annot'])
def test_mpii_json(tmp_path, annot, capsys):
    source, target = make_mpii_json(tmp_path / 'download', annot), tmp_path / 'MPII'
    assert 'valid.mat: linked' in run(capsys, 'mpii', '--source', source, '--target', target)
    assert run(capsys, 'mpii', '--source', source, '--target', target).count(': kept') == 5
    names = {'gt_json/train.json': 'train.json', 'gt_json/valid.json': 'valid.json'}
    names |= {'gt_json/valid.mat': 'gt_valid.mat', 'det_json/test.json': 'test.json'}
    for name, origin in names.items():
        assert (target / name).readlink() == source / annot / origin
    (source / annot / 'test.json').unlink()
    assert 'no det_json/test.json' in run(capsys, 'mpii', '--source', source, '--target', tmp_path / 'without_test')


def test_mpii_json_that_does_not_fit(tmp_path, capsys):
    source = make_mpii_json(tmp_path / 'download', 'annot', people=3)
    arguments = ('mpii', '--source', source, '--target', tmp_path / 'MPII')
    assert 'gt_valid.mat has 3 people, but valid.json has 2' in fail(capsys, *arguments)
    assert '--valid-images needs' in fail(capsys, *arguments, '--valid-images', source / 'names.txt')
    matrix, valid = source / 'annot/gt_valid.mat', source / 'annot/valid.json'
    matrix.write_bytes(b'no mat')
    assert f'{matrix} is no MPII ground truth' in fail(capsys, *arguments)
    matrix.unlink()
    assert f'{matrix} does not exist' in fail(capsys, *arguments)
    write_json(valid, [{'image': 'a.jpg'}])
    assert f"{valid}: person 0 (image 'a.jpg'): center is missing" in fail(capsys, *arguments)
    valid.unlink()
    assert f'{valid} does not exist' in fail(capsys, *arguments)
    assert not (tmp_path / 'MPII').exists()
