"""check_data: a whole data set in one pass, every kind of finding counted, the same with any number of threads."""

import dataclasses
import math
import re
import shutil
import struct

import cv2
import numpy as np
import pytest
import scipy.io

from cvpack.files import read_json
from lib.config import REPOSITORY
from lib.datasets.checks import Issue, Rows, refuse
from lib.datasets.description import COCO, MPII
from lib.datasets.mpii_json import GROUND_TRUTH
from lib.tools.check_data import __main__ as check_data
from lib.tools.check_data.people import report_swaps
from lib.tools.check_data.records import Group
from tests.support.annotations import change, coco_with, mpii_people, write_json
from tests.support.check_data import JPEG, PIXELS
from tests.support.commands import names_all, refused
from tests.support.photos import with_exif

GT, DET = COCO.val_json, COCO.val_boxes
# A bitmap's header of 64,000 x 64,000 pixels, which OpenCV itself refuses.
HUGE = b'BM' + struct.pack('<IHHI IiiHHIIiiII', 54, 0, 0, 54, 40, 64000, 64000, 1, 24, 0, 0, 0, 0, 0, 0)


def run(capsys, *arguments) -> tuple[int, dict[str, int], str]:
    """The exit code, the count of every kind and all that is printed."""
    code = 0
    try:
        check_data.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr().out
    counts = {text: int(count) for count, text in re.findall(r'^ +(\d+)  (\S.*)$', printed, re.MULTILINE)}
    return code, counts, printed


def found(counts: dict[str, int]) -> dict[Issue, int]:
    """The kinds that were found; all of them must have been looked for."""
    assert set(counts) == {kind.description for kind in Issue}
    return {kind: counts[kind.description] for kind in Issue if counts[kind.description]}


def test_a_sound_data_set(synthetic_coco, capsys):
    code, counts, printed = run(capsys, '--dataset', 'coco', '--root', synthetic_coco)
    assert code == 0 and found(counts) == {}
    people = len(read_json(synthetic_coco / GT)['annotations'])
    assert f'val: 5 images, {people} people, {people} boxes to test' in printed
    assert f'{synthetic_coco}: 0 findings that training or testing would stop at' in printed


@pytest.mark.parametrize('name', ['coco', 'mpii'])
def test_real_data(name, shared, capsys):
    code, counts, _ = run(capsys, '--dataset', name, '--root', shared / f'data/{name}_mini')
    # One of COCO's people folds her arms. Both data sets have the same people to train on and to test.
    assert code == 0 and found(counts).keys() - {Issue.SWAP} == {Issue.SHARED}


def person(number: int, **changes) -> dict:
    """Annotation `number`, of an image of its own."""
    fields = dict(id=number, image_id=number, category_id=1, iscrowd=0, num_keypoints=17, area=99.0)
    return {**fields, 'bbox': [10, 10, 50, 60], 'keypoints': [20, 30, 2] * 17, **changes}


def image(number: int, **changes) -> dict:
    return {'id': number, 'file_name': f'{number}.jpg', 'width': 120, 'height': 90, **changes}


# What is wrong with the training set's image or person of this number, and what it is found as.
WRONG_IMAGES = {
    Issue.MISSING: None,
    Issue.EMPTY: b'',
    Issue.DAMAGED: JPEG[: len(JPEG) // 2],
    Issue.NOT_AN_IMAGE: b'<html>',
    Issue.HUGE: HUGE,
    Issue.TINY: cv2.imencode('.png', PIXELS[:1, :1])[1].tobytes(),
}
WRONG_RECORDS = {
    Issue.NAME: image(11, file_name='../../11.jpg'),
    Issue.SIZE: image(12, width=90, height=120),
}
WRONG_PEOPLE = {
    Issue.FIELD: person(21, bbox='large'),
    Issue.NUMBER: person(22, bbox=[1, float('nan'), 3, 4]),
    Issue.JOINTS: person(23, keypoints=[1] * 42),
    Issue.BOX: person(24, bbox=[1, 2, 0, 4]),
    Issue.UNLISTED: person(25, image_id=999),
    Issue.COUNT: person(26, num_keypoints=16),
    Issue.OUTSIDE: person(27, bbox=[10, 10, 109, 60], keypoints=[20, 30, 2] * 16 + [120, 30, 1]),
    Issue.AT_ZERO: person(28, keypoints=[20, 30, 2] * 16 + [0, 0, 2]),
    Issue.BOX_OUTSIDE: person(29, bbox=[120, 10, 30, 30]),
    Issue.SWAP: person(30, keypoints=[20, 30, 2] * 13 + [20, 50, 2, 60, 50, 2, 60, 55, 2, 20, 55, 2]),
    Issue.FAR: person(31, keypoints=[20, 30, 2] * 16 + [118, 80, 2]),
    Issue.RATIOS: person(32, bbox=[0.1, 0.1, 0.4, 0.7], keypoints=[0.2, 0.3, 2] * 17),
    Issue.UNCOUNTED: person(33, num_keypoints=0),
}
# Images that can be read and are not what they seem, by their numbers.
ODD_IMAGES = {
    Issue.HOLE: (13, JPEG[:6000] + bytes(3000) + JPEG[9000:]),
    Issue.EXIF: (14, with_exif(JPEG, 3)),
    Issue.STORED: (15, with_exif(JPEG, 6)),
}
OTHER_NAMES = [{'id': 1, 'keypoints': [*COCO.joint_names[:-1], 'right_foot']}]


@pytest.fixture
def damaged(tmp_path):
    """A data set in COCO's layout with one of each thing that can be wrong, and somebody sound."""
    root = tmp_path / 'with spaces, ünïcode'
    numbers = [*range(1, len(WRONG_IMAGES) + 1), 12, 13, 14, 15, *range(21, 34), 40]
    images = [WRONG_RECORDS[Issue.SIZE] if n == 12 else image(n) for n in numbers]
    images += [WRONG_RECORDS[Issue.NAME], image(40), image(41)]  # an id twice; an unused one that is absent
    people = [*map(person, range(1, len(WRONG_IMAGES) + 1)), *map(person, range(12, 16))]
    people += [*WRONG_PEOPLE.values(), person(40)]
    write_json(root / COCO.train_json, {'images': images, 'annotations': people, 'categories': OTHER_NAMES})
    write_json(root / GT, {'images': [image(40)], 'annotations': [person(40)], 'categories': [{'id': 2}]})
    (root / 'det_json').mkdir()
    (root / DET).write_text('[{"image_id": 40, ')
    slip = {'image_id': 40, 'category_id': 1, 'score': 0.5, 'bbox': [1, 2, float('nan'), 4]}
    for name, content in zip((COCO.test_json, COCO.test_boxes), ({'images': [image(40)]}, [slip])):
        write_json(root / name, content)
    (root / 'images').mkdir()
    written = dict(enumerate(WRONG_IMAGES.values(), start=1)) | dict(ODD_IMAGES.values())
    for number, content in (dict.fromkeys(numbers, JPEG) | written).items():
        if content is not None:
            (root / 'images' / f'{number}.jpg').write_bytes(content)
    return root


def test_everything_is_found_in_one_pass(damaged, capsys):
    code, counts, printed = run(capsys, '--dataset', 'coco', '--root', damaged)
    assert code == 1
    of_all = {Issue.CORNERS, Issue.SIDES}  # no one record's: tested apart
    assert found(counts) == dict.fromkeys(set(Issue) - of_all, 1)
    fatal = sum(kind.fatal for kind in Issue)
    assert f'{damaged}: {fatal} findings that training or testing would stop at' in printed
    for number, kind in enumerate(WRONG_IMAGES, start=1):
        assert f'image {damaged}/images/{number}.jpg: {kind.description}' in printed
    assert all(re.search(rf'image (\S.*/)?{number}\.jpg: ', printed) for number, _ in ODD_IMAGES.values())
    for number in range(22, 34):
        assert re.search(rf'{COCO.train_json}: annotation \d+ \(id {number}\): ', printed), number
    assert f'{damaged / DET} is not valid json' in printed


def test_threads_change_nothing(damaged, capsys):
    arguments = ('--dataset', 'coco', '--root', damaged, '--workers')
    assert run(capsys, *arguments, 1) == run(capsys, *arguments, 7)


def test_splits(damaged, capsys):
    """Only what a split lists is looked at; what is merely worth a look is no failure."""
    _, counts, printed = run(capsys, '--dataset', 'coco', '--root', damaged, '--split', 'val')
    assert found(counts) == {Issue.FILE: 1, Issue.CATEGORY: 1}
    assert 'train: ' not in printed and 'val: 1 images, 1 people, 0 boxes to test' in printed
    write_json(damaged / COCO.train_json, {'images': [image(40)], 'annotations': [person(40, num_keypoints=3)]})
    code, counts, _ = run(capsys, '--dataset', 'coco', '--root', damaged, '--split', 'train')
    assert code == 0 and found(counts) == {Issue.COUNT: 1}


def test_only_the_first_few_are_shown(damaged, capsys):
    people = [person(n, image_id=40, bbox=[0, 0, 0, 0]) for n in range(40)]
    write_json(damaged / COCO.train_json, {'images': [image(40)], 'annotations': people})
    _, counts, printed = run(capsys, '--dataset', 'coco', '--root', damaged, '--split', 'train')
    assert found(counts) == {Issue.BOX: 40, Issue.NOBODY: 1}
    assert printed.count('should be wider') == check_data.EXAMPLES
    assert f'and {40 - check_data.EXAMPLES} more' in printed


def test_every_fault_of_a_record_is_told(damaged, capsys):
    """So that all of them can be mended at once; what follows from a fault is not told beside it."""
    faults = dict(id='5e1f', category_id=2, bbox=[1, 2, 0, 4], area=0, keypoints=[20, 30, 7] * 17)
    first = person(1, image_id=40, **faults)
    del first['num_keypoints']
    images = [image(40, file_name='..\\40.jpg'), image(41, file_name=None)]
    write_json(damaged / GT, {'images': images, 'annotations': [first, 5], 'categories': [{'id': 2}]})
    _, counts, printed = run(capsys, '--dataset', 'coco', '--root', damaged, '--split', 'val')
    where = r"annotation 0 \(id '5e1f'\): "
    for text in ('num_keypoints is', "id = '5e1f'", 'category_id = 2', 'bbox = ', 'area = 0', 'keypoints have a vis'):
        assert len(re.findall(where + text, printed)) == 1, text
    assert len(re.findall(where, printed)) == 6 and len(re.findall('annotation 1: ', printed)) == 1
    assert found(counts)[Issue.NAME] == 2 and Issue.UNLISTED not in found(counts)


@pytest.mark.parametrize('joints', [2, 20])
def test_a_file_of_another_number_of_joints(joints, damaged, capsys):
    names = [f'joint_{i}' for i in range(joints)]
    people = [person(1, image_id=40, num_keypoints=joints, keypoints=[20, 30, 2] * joints)]
    content = {'images': [image(40)], 'annotations': people, 'categories': [{'id': 1, 'keypoints': names}]}
    for split in ('train', 'val'):
        write_json(damaged / getattr(COCO, f'{split}_json'), content)
    write_json(damaged / DET, [{'image_id': 40, 'category_id': 1, 'score': 1, 'bbox': [1, 2, 3, 4]}])
    code, counts, printed = run(capsys, '--dataset', 'coco', '--root', damaged, '--split', 'all')
    assert code == 1 and found(counts)[Issue.JOINTS] == 2  # of two files
    assert f'its category has {joints} joints, but DATASET.KEYPOINT.NUM = 17' in printed
    assert 'train: 1 images, 1 people' in printed


def test_a_bad_detection_stops_nothing(synthetic_coco, tmp_path, capsys):
    slips = [change(None, index=i, bbox=box) for i, box in enumerate(([1, 2, 0, 4], [1, 2, 3, float('nan')]))]
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {DET: lambda content: slips[1](slips[0](content))})
    code, counts, _ = run(capsys, '--dataset', 'coco', '--root', root)
    assert code == 0 and found(counts) == {Issue.DETECTION: 2}


def test_mpii(tmp_path, capsys):
    people = mpii_people(6)
    for index, changes in enumerate(({}, {'scale': 0}, {'joints': [[1, 1]] * 14}, {'center': [1e9, 5]}), start=1):
        people[index].update(changes)
    people[5]['joints'][3] = [-1, -1]
    write_json(tmp_path / MPII.train_json, people)
    write_json(tmp_path / MPII.val_json, people[:1])
    scipy.io.savemat(tmp_path / GROUND_TRUTH, {'jnt_missing': np.zeros((16, 2))})
    (tmp_path / 'images').mkdir()
    for index in (0, 2, 5):
        (tmp_path / f'images/{index}.jpg').write_bytes(JPEG)
    code, counts, printed = run(capsys, '--dataset', 'mpii', '--root', tmp_path)
    assert code == 1
    expected = [Issue.MISSING, Issue.BOX, Issue.JOINTS, Issue.NUMBER, Issue.FILE, Issue.OUTSIDE, Issue.SHARED]
    assert found(counts) == dict.fromkeys([*expected, Issue.SWAP], 1)  # joints at random
    assert f"{tmp_path / MPII.train_json}: person 5 (image '5.jpg'): joint 3 at (-2, -2)" in printed
    assert 'test: ' not in printed  # there is no test.json, and it is not needed


def test_the_layout_s_own_folder(synthetic_coco, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    (tmp_path / 'dataset').mkdir()
    (tmp_path / 'dataset/COCO').symlink_to(synthetic_coco)
    code, _, printed = run(capsys, '--dataset', 'coco')
    assert code == 0 and f'{tmp_path}/dataset/COCO: 0 findings' in printed


def test_people_of_one_s_own_data_set(synthetic_coco, tmp_path, capsys):
    """By its experiment: how the joints are labelled, how large the boxes are, and a picture of what is trained on."""
    shutil.copytree(REPOSITORY / 'exps/mspn.2xstg.toy', tmp_path / 'mine')
    sheet = tmp_path / 'sheet.png'
    arguments = ('--experiment', tmp_path / 'mine', '--root', synthetic_coco, '--split', 'train', '--sheet', sheet)
    code, _, printed = run(capsys, *arguments)
    people = read_json(synthetic_coco / COCO.train_json)['annotations']
    visibility = np.array([p['keypoints'] for p in people]).reshape(len(people), 17, 3)[..., 2]
    for joint in (0, 16):
        shares = [100 * (visibility[:, joint] >= least).mean() for least in (1, 2)]
        assert re.search(rf'^  {COCO.joint_names[joint]} +{shares[0]:.1f} +{shares[1]:.1f}$', printed, re.MULTILINE)
    widths = [p['bbox'][2] for p in people]
    least, middle, most = re.search(r'box width +(\d+) +\d+ +(\d+) +\d+ +(\d+)', printed).groups()
    assert (int(least), int(most)) == (round(min(widths)), round(max(widths)))
    assert abs(int(middle) - np.median(widths)) <= 0.5
    height, width, _ = cv2.imread(str(sheet)).shape
    count = min(16, len(people))
    assert code == 0 and (height, width) == (
        math.ceil(count / 2) * (256 + 4),
        2 * (3 * (192 + 2) + 8),
    )  # twice the crops


def test_pairs_need_not_begin_on_one_side(synthetic_coco):
    """Ankles told from left to right, knees from right to left: limbs are found all the same."""
    person = np.zeros((1, 4, 3))
    person[0] = [[60, 50, 2], [20, 50, 2], [60, 55, 2], [20, 55, 2]]  # left knee, right knee, right ankle, left ankle
    dataset = dataclasses.replace(
        COCO,
        joint_names=('left_knee', 'right_knee', 'right_ankle', 'left_ankle'),
        flip_pairs=((0, 1), (2, 3)),
        skeleton=((0, 3), (1, 2)),
    )
    rows = Rows([{'id': 1}], 'annotation', synthetic_coco / 'x.json', refuse)
    found = []
    report_swaps(
        Group(['a.jpg'], np.ones((1, 4)), person, rows), dataset, lambda kind, text: found.append((kind, text))
    )
    [(kind, text)] = found
    assert kind == Issue.SWAP and 'from 81 to 10 pixels' in text


def test_a_sheet_that_cannot_be_written(synthetic_coco, tmp_path, capsys):
    error = refused(
        capsys, check_data.main, '--dataset', 'coco', '--root', synthetic_coco, '--sheet', tmp_path / 'sheet.txt'
    )
    names_all(error, f'--sheet {tmp_path}/sheet.txt', '.jpg or .png')


@pytest.mark.parametrize('arguments', [[], ['--dataset', 'lsp'], ['--dataset', 'coco', '--workers', '0']])
def test_unusable_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        check_data.main(arguments)
    assert stop.value.code == 2 and 'usage: python -m lib.tools.check_data' in capsys.readouterr().err
