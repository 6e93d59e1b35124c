"""Bad data sets: each case ends training or testing with one line that names file, record, field, value and remedy."""

import copy
import functools
import operator
import random

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from cvpack.errors import InputError
from lib import engine
from lib.config import override
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO, MPII
from lib.datasets.mpii import MpiiReader
from lib.datasets.mpii_json import GROUND_TRUTH
from lib.models.mspn import build_mspn
from tests.support.annotations import (
    MISSING,
    change,
    change_all,
    coco_with,
    instead,
    mpii_people,
    one_image,
    replace,
    with_joint,
    write_json,
)
from tests.support.commands import experiment, names_all, refused
from tests.support.settings import keypoints, load_config, small

NAN = float('nan')
PREPARE = 'python -m lib.tools.prepare'
CORRECT = 'correct or remove it'
DEEP = '[' * 100_000


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A checkpoint of the network that `small` describes."""
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, small('nowhere', tmp_path_factory.mktemp('out')))
    path = tmp_path_factory.mktemp('weights') / 'small.pth'
    torch.save({'model': build_mspn(cfg).state_dict()}, path)
    return path


FILES = {
    'missing': (None, 'does not exist', PREPARE),
    'a folder': (..., 'cannot be read (Is a directory)', PREPARE),
    'empty': ('', 'is not valid json (Expecting value', PREPARE),
    'cut short': ('{"images": [', 'is not valid json', PREPARE),
    'not text': (b'\xff\xfe\x00\x9c', 'is not valid json', PREPARE),
    'nested without end': (DEEP, 'is not valid json (maximum recursion depth', PREPARE),
    'a list': ('[]', 'is not a COCO annotation file: it lists no images', 'get it again'),
    'a number': ('5', 'is not a COCO annotation file', 'get it again'),
    'no images': ('{"images": [], "annotations": []}', 'it lists no images', 'get it again'),
    'no annotations': (
        '{"images": [{"id": 1, "file_name": "a.jpg"}]}',
        'annotation records should be a list',
    ),
}


@pytest.mark.parametrize('case', FILES.values(), ids=FILES)
def test_files_of_annotations(case, tmp_path, monkeypatch, capsys):
    content, *pieces = case
    file = tmp_path / 'COCO' / COCO.train_json
    file.parent.mkdir(parents=True)
    if content is ...:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = small(tmp_path / 'COCO', tmp_path / 'out')
    names_all(refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings), file, *pieces)


TRAIN = {
    'image without id': (change('images', id=MISSING), 'image 1: id = None should be an integer', CORRECT),
    'image id of letters': (change('images', id='x7'), "id = 'x7' should be an integer", CORRECT),
    'image id twice': (change('images', id=1), 'image 1 (id 1): id 1 is given twice', CORRECT),
    'image without name': (change('images', file_name=MISSING), 'file_name = None should be a path inside', CORRECT),
    'image name a number': (change('images', file_name=5), 'file_name = 5 should be a path inside', CORRECT),
    'image name empty': (change('images', file_name=''), "file_name = '' should be a path inside", CORRECT),
    'image name upwards': (change('images', file_name='../../a.jpg'), "'../../a.jpg' should be a path inside", CORRECT),
    'image name absolute': (change('images', file_name='/etc/passwd'), "'/etc/passwd' should be a path in", CORRECT),
    'image name of a URL': (change('images', file_name='https://a.b/c.jpg'), 'but is a URL (download the', CORRECT),
    'image name of a drive': (change('images', file_name='C:\\a.jpg'), 'but is absolute (write what follows', CORRECT),
    'image name in its own folder': (change('images', file_name='images/a.jpg'), "own name (write 'a.jpg')", CORRECT),
    'image name of two lines': (change('images', file_name='a\nb.jpg'), r"'a\nb.jpg' should be a path inside", CORRECT),
    'image no object': (lambda c: c['images'].insert(1, 7) or c, 'image 1: 7 should be an object', CORRECT),
    'person no object': (lambda c: c['annotations'].insert(1, []) or c, 'annotation 1: [] should be an obj', CORRECT),
    'person without image': (change('annotations', image_id=MISSING), 'image_id = None should be an integer', CORRECT),
    'person of a list of images': (change('annotations', image_id=[1]), 'image_id = [1] should be an integer', CORRECT),
    'num_keypoints in words': (change('annotations', num_keypoints='five'), "num_keypoints = 'five' should", CORRECT),
    'num_keypoints missing': (change('annotations', num_keypoints=MISSING), 'num_keypoints is missing beside', CORRECT),
    'iscrowd in words': (change('annotations', iscrowd='no'), "iscrowd = 'no' should be an integer", CORRECT),
    'num_keypoints negative': (change('annotations', num_keypoints=-1), 'num_keypoints = -1 should not be', CORRECT),
    'box missing': (change('annotations', bbox=MISSING), 'bbox is missing', CORRECT),
    'box of three': (change('annotations', bbox=[1, 2, 3]), 'bbox has 3 entries, should have 4', CORRECT),
    'box of words': (change('annotations', bbox=[1, 2, '3', 4]), "bbox[2] = '3' should be a number", CORRECT),
    'box an object': (change('annotations', bbox={'x': 1}), "bbox = {'x': 1} should be a list of 4", CORRECT),
    'box NaN': (change('annotations', bbox=[1, NAN, 3, 4]), 'bbox[1] = nan should be a finite number', CORRECT),
    'box infinite': (change('annotations', bbox=[1, 2, 1e999, 4]), 'bbox[2] = inf should be a finite', CORRECT),
    'box zero wide': (change('annotations', bbox=[5, 5, 0, 9]), 'bbox = [5, 5, 0, 9] should be wider and', CORRECT),
    'box of negative height': (change('annotations', bbox=[5, 5, 8, -9]), 'bbox = [5, 5, 8, -9] should be', CORRECT),
    'joints missing': (change('annotations', keypoints=MISSING), 'keypoints is missing', CORRECT),
    'joints of another K': (change('annotations', keypoints=[1] * 42), 'has 42 entries, should have 51', CORRECT),
    'all joints of another K': (change_all('annotations', keypoints=[1] * 42), 'has 42 entries, should have', CORRECT),
    'joint NaN': (with_joint(3, NAN, 5, 2), 'keypoints[9] = nan should be a finite number', CORRECT),
    'joint in words': (with_joint(3, 5, 'y', 2), "keypoints[10] = 'y' should be a number", CORRECT),
    'joint far outside the image': (with_joint(3, 1e30, 5, 2), 'keypoints[9] = 1e+30 should be a finite', CORRECT),
    'joint of a list': (with_joint(3, [1], 5, 2), 'keypoints[9] = [1] should be a number', CORRECT),
    'joint of visibility 7': (with_joint(3, 5, 5, 7), 'a visibility that is none of (0, 1, 2)', CORRECT),
    'number of 400 digits': (change('annotations', bbox=[1, 2, 10**400, 4]), 'bbox[2] = 1000', CORRECT),
    'nobody labelled': (change_all('annotations', num_keypoints=0), 'no person with 1 labelled', 'take another file'),
    'crowds alone': (change_all('annotations', iscrowd=1), 'no person with 1 labelled', 'take another file'),
    'ids that do not match': (
        change_all('annotations', image_id=10**6),
        'no person',
        'check num_keypoints and image_id',
    ),
    'nobody at all': (replace(annotations=[]), 'no person', 'among 0 annotations', 'take another file'),
}


@pytest.mark.parametrize('case', TRAIN.values(), ids=TRAIN)
def test_annotations_to_train_on(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    changed, *pieces = case
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {COCO.train_json: changed})
    settings = small(root, tmp_path / 'out')
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, root / COCO.train_json, *pieces)


GT, DET = COCO.val_json, COCO.val_boxes
BOX = {'image_id': 1_000_001, 'category_id': 1, 'bbox': [1, 2, 30, 40], 'score': 0.5}

TEST = {
    'person numbered 0': (GT, change('annotations', id=0), 'id = 0 would never be matched', 'count from 1', CORRECT),
    'no detections': (DET, instead([]), 'no box of a person', 'among 0 boxes'),
    'detections of unknown images': (DET, instead([{**BOX, 'image_id': 9}]), 'no box of a person', 'among 1 boxes'),
    'detections of cats': (DET, instead([{**BOX, 'category_id': 17}]), 'no box of a person (category_id 1)'),
    'detections in an object': (DET, instead({'annotations': []}), "should be a list, not {'annotations': []}"),
    'detection without category': (DET, change(None, category_id=MISSING), 'category_id = None should be', CORRECT),
    'detection without image': (DET, change(None, image_id=MISSING), 'image_id = None should be an integer', CORRECT),
    'detection without box': (DET, change(None, bbox=MISSING), 'box 1 (image_id 1000', 'bbox is missing', CORRECT),
    'detections all of no size': (DET, instead([{**BOX, 'bbox': [1, 2, 3, 0]}]), 'no box of a person', 'among 1 boxes'),
    'detection without score': (DET, change(None, score=MISSING), 'score is missing', CORRECT),
    'detection of score NaN': (DET, change(None, score=NAN), 'score = nan should be a finite number', CORRECT),
    'detection of score high': (DET, change(None, score='high'), "score = 'high' should be a number", CORRECT),
    'no categories': (GT, replace(categories=MISSING), 'category records should be a list, not None', 'right file?'),
    'category missing': (GT, replace(categories=[]), 'categories has no id 1 (person)', 'add it'),
    'person without category': (GT, change('annotations', category_id=MISSING), 'category_id = None should', CORRECT),
    'person of another category': (GT, change('annotations', category_id=2), 'category_id = 2 should be 1', CORRECT),
    'truth of no area': (GT, change('annotations', area=0), 'area = 0 should be above 0', CORRECT),
    'truth without area': (GT, change('annotations', area=MISSING), 'area is missing', CORRECT),
    'truth without id': (GT, change('annotations', id=MISSING), 'annotation 1 (image_id', 'id = None should', CORRECT),
    'truth with an id twice': (
        GT,
        change_all('annotations', id=5),
        'annotation 1 (id 5): id 5 is given twice',
        CORRECT,
    ),
    'truth without iscrowd': (GT, change('annotations', iscrowd=MISSING), 'iscrowd = None should be', CORRECT),
    'truth of another K': (GT, change('annotations', keypoints=[1] * 42), 'has 42 entries, should have 51', CORRECT),
}


@pytest.mark.parametrize('case', TEST.values(), ids=TEST)
def test_files_to_test_against(case, synthetic_coco, weights, tmp_path, monkeypatch, capsys):
    file, changed, *pieces = case
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {file: changed})
    settings = small(root, tmp_path / 'out')
    error = refused(capsys, experiment(engine.test, monkeypatch), '--weights', weights, '--set', *settings)
    names_all(error, root / file, *pieces)


@pytest.mark.parametrize('entry', [engine.train, engine.test], ids=['train', 'test'])
def test_a_configuration_of_another_k(entry, synthetic_coco, weights, tmp_path, monkeypatch, capsys):
    arguments = ['--weights', weights] if entry is engine.test else []
    settings = [*small(synthetic_coco, tmp_path / 'out'), *(f'{key}={value}' for key, value in keypoints(14).items())]
    error = refused(capsys, experiment(entry, monkeypatch), *arguments, '--set', *settings)
    names_all(error, 'its category has 17 joints, but DATASET.KEYPOINT.NUM = 14')


def test_no_detections_file(synthetic_coco, weights, tmp_path, monkeypatch, capsys):
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {})
    (root / DET).unlink()
    settings = small(root, tmp_path / 'out')
    error = refused(capsys, experiment(engine.test, monkeypatch), '--weights', weights, '--set', *settings)
    names_all(error, root / DET, 'does not exist', PREPARE, 'or test with --gt-boxes')


def encoded(extension: str, size: int = 64) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    return cv2.imencode(extension, pixels)[1].tobytes()


IMAGES = {
    'absent': ('', None, 'image that is listed but absent'),
    'a folder': ('', ..., 'file that is not an image'),
    'zero bytes': ('', b'', 'image file of zero bytes'),
    'half a JPEG': ('', encoded('.jpg')[:2000], 'image that is truncated or damaged'),
    'a JPEG without its last bytes': ('', encoded('.jpg')[:-2], 'image that is truncated or damaged'),
    'half a PNG': ('half.png', encoded('.png')[:2000], 'image that is truncated or damaged'),
    'a web page': ('', b'<html>404: not found</html>', 'file that is not an image'),
    'one pixel': ('', encoded('.jpg', 1), 'image too small to hold a person'),
    'unicode and spaces': ('в парке/été 1.jpg', b'', 'image file of zero bytes'),
}


@pytest.mark.parametrize('case', IMAGES.values(), ids=IMAGES)
def test_images(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    name, content, *pieces = case
    path = one_image(synthetic_coco, tmp_path / 'COCO', name)
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    settings = small(tmp_path / 'COCO', tmp_path / 'out')
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, f'image {path}: ', *pieces, 'get it again, or remove it and the people in it')


def test_an_image_that_a_worker_process_refuses(synthetic_coco, tmp_path, monkeypatch, capsys):
    """One line all the same."""
    path = one_image(synthetic_coco, tmp_path / 'COCO')
    settings = [*small(tmp_path / 'COCO', tmp_path / 'out'), 'DATALOADER.NUM_WORKERS=1']
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    assert error.startswith(f'error: image {path}: image that is listed but absent: get it again')


JUNK = [None, True, 0, -1, 5.5, 1e400, NAN, 10**30, 2**63, '', '../x', '\ud800', [], [[]], {}, [None], [1] * 50 + ['a']]


def places(value, path: tuple = ()):
    """The paths of keys and indices to everything in a json value."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize('seed', range(8))
def test_whatever_a_file_holds_is_read_or_refused(seed, tmp_path):
    """Files with values at random replaced or removed: never another error than InputError."""
    generator = random.Random(seed)
    joints = {'num_keypoints': 17, 'keypoints': [20, 30, 2] * 17}
    people = [{'id': n, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'area': 9, 'bbox': BOX['bbox']} for n in (1, 2)]
    ground_truth = {'images': [{'id': 1, 'file_name': 'a.jpg'}], 'categories': [{'id': 1, 'keypoints': ['a'] * 17}]}
    sound = {
        GT: ground_truth | {'annotations': [person | joints for person in people]},
        DET: [{**BOX, 'image_id': 1}],
        MPII.val_json: mpii_people(2),
    }
    outcomes = set()
    for _ in range(60):
        for name, content in sound.items():
            damaged = copy.deepcopy(content)
            *parents, last = generator.choice([place for place in places(damaged) if place])
            container = functools.reduce(operator.getitem, parents, damaged)
            container[last] = copy.deepcopy(generator.choice(JUNK))
            write_json(tmp_path / name, damaged)
        for read in (
            lambda: CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=False),
            lambda: CocoReader(COCO.at(tmp_path)).test_set('val', gt_boxes=True),
            lambda: CocoReader(COCO.at(tmp_path)).check_validation(),
            lambda: MpiiReader(MPII.at(tmp_path)).test_set('val', gt_boxes=False),
        ):
            try:
                read()
                outcomes.add('read')
            except InputError as error:
                assert '\n' not in str(error)
                outcomes.add('refused')
    assert outcomes == {'read', 'refused'}


MPII_FAULTS = {
    'an object': (instead({}), 'person records should be a list, not {}', 'right file?'),
    'nobody': (instead([]), 'lists no people with joints', 'take another file'),
    'person no object': (instead([5]), 'person 0: 5 should be an object', CORRECT),
    'person without image': (change(None, image=MISSING), 'person 1: image = None should be a path', CORRECT),
    'image name upwards': (change(None, image='../a.jpg'), "image = '../a.jpg' should be a path inside", CORRECT),
    'scale zero': (change(None, scale=0), "person 1 (image '1.jpg'): scale = 0 should be above 0", CORRECT),
    'scale negative': (change(None, scale=-1.5), 'scale = -1.5 should be above 0', CORRECT),
    'scale missing': (change(None, scale=MISSING), 'scale is missing', CORRECT),
    'center NaN': (change(None, center=[1, NAN]), 'center[1] = nan should be a finite number', CORRECT),
    'center of three': (change(None, center=[1, 2, 3]), 'center has 3 entries, should have 2', CORRECT),
    'joints of another K': (change(None, joints=[[1, 1]] * 14), 'joints has 14 entries, should have 16', CORRECT),
    'joint without y': (change(None, joints=[[1]] * 16), 'joints[0] has 1 entries, should have 2', CORRECT),
    'visibility of another K': (change(None, joints_vis=[1] * 17), 'joints_vis has 17 entries', CORRECT),
    'visibility 2': (change(None, joints_vis=[2] * 16), 'joints_vis has a value that is neither 0 nor 1', CORRECT),
}


@pytest.mark.parametrize('case', MPII_FAULTS.values(), ids=MPII_FAULTS)
def test_people_of_mpii(case, tmp_path, monkeypatch, capsys):
    changed, *pieces = case
    file = write_json(tmp_path / 'MPII' / MPII.train_json, changed(mpii_people()))
    settings = small(tmp_path / 'MPII', tmp_path / 'out')
    error = refused(capsys, experiment(engine.train, monkeypatch, 'mspn.2xstg.mpii'), '--set', *settings)
    names_all(error, file, *pieces)


def test_nobody_of_mpii_has_joints(tmp_path, monkeypatch, capsys):
    people = [{**person, 'joints_vis': [0] * 16} for person in mpii_people()]
    file = write_json(tmp_path / 'MPII' / MPII.train_json, people)
    settings = small(tmp_path / 'MPII', tmp_path / 'out')
    error = refused(capsys, experiment(engine.train, monkeypatch, 'mspn.2xstg.mpii'), '--set', *settings)
    names_all(error, file, 'lists no people with joints', 'take another file')


TRUTHS = {
    'no .mat': (lambda path: path.write_bytes(b'no mat'), 'is no MPII ground truth', 'get it again'),
    'empty': (lambda path: path.write_bytes(b''), 'is no MPII ground truth', 'get it again'),
    'without its fields': (lambda path: scipy.io.savemat(path, {'a': 1}), "(KeyError: 'jnt_missing')", 'get it again'),
    'of other people': (
        lambda path: save_ground_truth(path, 9),
        'has 9 people, but valid.json has 3',
        'from one split',
    ),
    'of two counts': (lambda path: save_ground_truth(path, 3, 4), 'its fields are of {3, 4} people', 'get it again'),
}


def save_ground_truth(path, people: int, heads: int = 0) -> None:
    shapes = {'jnt_missing': (16, people), 'pos_gt_src': (16, 2, people), 'headboxes_src': (2, 2, heads or people)}
    scipy.io.savemat(path, {name: np.zeros(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize('case', TRUTHS.values(), ids=TRUTHS)
def test_truth_of_mpii(case, weights, tmp_path, monkeypatch, capsys):
    save, *pieces = case
    write_json(tmp_path / 'MPII' / MPII.val_json, mpii_people())
    save(tmp_path / 'MPII' / GROUND_TRUTH)
    settings = small(tmp_path / 'MPII', tmp_path / 'out')
    run = experiment(engine.test, monkeypatch, 'mspn.2xstg.mpii')
    names_all(refused(capsys, run, '--weights', weights, '--set', *settings), tmp_path / 'MPII' / GROUND_TRUTH, *pieces)
