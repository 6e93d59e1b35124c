"""What a test would refuse, training refuses and check_data reports, in the same words."""

import re

import pytest

from lib import engine
from lib.config import override
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.evaluation.validation import check_validation
from lib.tools.check_data import __main__ as check_data
from tests.support.annotations import MISSING, Change, change, change_all, coco_with, replace
from tests.support.commands import experiment, names_all, refused
from tests.support.settings import load_config, small

TRAIN, GT, DET = COCO.train_json, COCO.val_json, COCO.val_boxes
NAMES = list(COCO.joint_names)
UUID = '3f2c8f9e-7c1b-4a3e-9d0a-1b2c3d4e5f60'


def with_categories(*names_of: tuple[int, list[str]]) -> Change:
    return replace(categories=[{'id': number, 'keypoints': names} for number, names in names_of])


def both(*changes: Change) -> Change:
    def apply(content):
        for one in changes:
            content = one(content)
        return content

    return apply


def of_joints(content):
    """Joints that were drawn as categories, as COCO Annotator exports them."""
    for number, row in enumerate(content['annotations']):
        row.update(category_id=number % 3 + 1, keypoints=[5, 6, 2], num_keypoints=1, bbox=[0, 0, 0, 0], area=0)
    return {**content, 'categories': [{'id': n, 'keypoints': [f'joint {n}']} for n in (1, 2, 3)]}


EVERYBODY = change_all('annotations', category_id=2)
SHIFTED = [NAMES[1], NAMES[0], *NAMES[2:-1], 'right_foot']
CATEGORIES = {
    'one of category 2': (change('annotations', category_id=2), 'category_id = 2 should be 1: it has keypoints'),
    'all of category 2': (EVERYBODY, 'category_id = 2 should be 1, also as id in `categories`: it has keypoints'),
    'all of category 0': (change_all('annotations', category_id=0), 'category_id = 0 should be 1, also as id in'),
    'category 2 in another order': (
        both(EVERYBODY, with_categories((2, NAMES[::-1]))),
        "joint 0 is 'right_ankle' in its category 2, 'nose' in DATASET.KEYPOINT.NAMES: name them in the order",
    ),
    'category 2 with more joints': (
        both(EVERYBODY, with_categories((2, [*NAMES, 'neck']))),
        'its category 2 has 18 joints, but DATASET.KEYPOINT.NUM = 17',
    ),
    'two categories, as many joints': (
        both(change('annotations', category_id=2), with_categories((1, NAMES), (2, [f'k{i}' for i in range(17)]))),
        'category_id = 2 should be 1: it has keypoints',
    ),
    'another order of the same category': (
        with_categories((1, NAMES), (1, NAMES[::-1])),
        "joint 0 is 'right_ankle' in its category, 'nose' in DATASET.KEYPOINT.NAMES: name them in the order",
    ),
    'categories by their ids': (replace(categories={'1': {'keypoints': NAMES}}), 'should be a list'),
    'another order in another spelling': (
        with_categories((1, [name.title().replace('_', ' ') for name in NAMES[::-1]])),
        "joint 0 is 'Right Ankle' in its category, 'nose' in DATASET.KEYPOINT.NAMES: name them in the order",
    ),
    'two categories in another order': (
        both(change('annotations', category_id=2), with_categories((1, NAMES), (2, NAMES[::-1]))),
        "joint 0 is 'right_ankle' in its category 2, 'nose' in",
    ),
    'a new name, two exchanged': (with_categories((1, SHIFTED)), "joint 0 is 'left_eye' in its category, 'nose' in"),
    'a category in letters': (
        change('annotations', category_id='person'),
        "category_id = 'person' should be an integer",
    ),
    'a category for each joint': (
        of_joints,
        'its annotations with keypoints are of 3 categories and have one joint each, as COCO Annotator exports',
    ),
}


@pytest.mark.parametrize('case', CATEGORIES.values(), ids=CATEGORIES)
def test_one_rule_for_all(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    changed, piece = case
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {TRAIN: changed, GT: changed})
    settings = ['--set', *small(root, tmp_path / 'out')]
    error = refused(capsys, experiment(engine.train, monkeypatch), *settings)
    names_all(error, root / TRAIN, piece)
    tested = refused(capsys, experiment(engine.test, monkeypatch), '--weights', 'not read', *settings)
    without_ids = (re.sub(r'\(id \d+\)', '', line) for line in (tested, error.replace(TRAIN, GT)))
    assert len({*without_ids}) == 1
    for split, line in (('train', error), ('val', tested)):
        with pytest.raises(SystemExit) as stop:
            check_data.main(['--dataset', 'coco', '--root', str(root), '--split', split])
        assert stop.value.code == 1 and line.strip()[len('error: ') :] in capsys.readouterr().out


VALIDATION = {
    'joints in another order': (with_categories((1, NAMES[::-1])), "joint 0 is 'right_ankle' in its category, 'nose'"),
    'another category': (change_all('annotations', category_id=3), 'category_id = 3 should be 1'),
    'no category 1': (replace(categories=[{'id': 2}]), 'categories has no id 1 (person)'),
    'no category in a row': (change('annotations', category_id=MISSING), 'category_id = None should be an integer'),
    'an id of letters': (change('annotations', id=UUID), f"id = '{UUID}' should be an integer"),
    'an id with a point': (change('annotations', id=7.0), 'id = 7.0 should be an integer without a decimal point'),
    'an id of 0': (change('annotations', id=0), 'id = 0 would never be matched in the evaluation: count from 1'),
    'an id below 0': (change('annotations', id=-7), 'id = -7 would never be matched in the evaluation: count from 1'),
    'an id twice': (change_all('annotations', id=5), 'id 5 is given twice'),
    'an image id of letters': (change('images', id=UUID), f"id = '{UUID}' should be an integer"),
    'no area': (change('annotations', area=0), 'area = 0 should be above 0'),
    'no json': (lambda content: 'nothing', 'is not a COCO annotation file'),
}


@pytest.mark.parametrize('case', VALIDATION.values(), ids=VALIDATION)
def test_training_looks_at_what_its_test_would_refuse(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    changed, piece = case
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {GT: changed})
    settings = ['--set', *small(root, tmp_path / 'out')]
    error = refused(capsys, experiment(engine.train, monkeypatch), *settings)
    names_all(error, root / GT, piece, 'a test would fail')
    tested = refused(capsys, experiment(engine.test, monkeypatch), '--weights', 'not read', *settings)
    assert error.startswith(tested.rstrip())
    with pytest.raises(SystemExit) as stop:
        check_data.main(['--dataset', 'coco', '--root', str(root), '--split', 'val'])
    assert stop.value.code == 1 and tested.strip()[len('error: ') :] in capsys.readouterr().out
    assert not list((tmp_path / 'out').glob('*.pth'))


@pytest.mark.parametrize('changes', [{GT: None}, {DET: None}, {DET: 'no boxes'}, {GT: None, DET: None}])
def test_training_needs_no_validation_set(changes, synthetic_coco, tmp_path):
    """Nor a detector's boxes, good or bad, which may be made while it trains."""
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {})
    for name, content in changes.items():
        (root / name).unlink()
        if content:
            (root / name).write_text(content)
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [f'DATASET.ROOT={root}'])
    check_validation(cfg)


def test_a_tested_box_must_have_a_size(synthetic_coco, tmp_path, monkeypatch, capsys):
    """Where the annotated boxes are what is tested: then training looks at them too."""
    root = coco_with(synthetic_coco, tmp_path / 'COCO', {GT: change('annotations', bbox=[5, 5, 0, 9])})
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [f'DATASET.ROOT={root}'])
    check_validation(cfg)
    settings = ['--set', *small(root, tmp_path / 'out'), "DATASET.VAL_BOXES=''"]
    error = refused(capsys, experiment(engine.train, monkeypatch), *settings)
    names_all(error, root / GT, 'bbox = [5, 5, 0, 9] should be wider and higher than 0')


def test_things_beside_people_are_left_alone(synthetic_coco, tmp_path, monkeypatch, capsys):
    """Boxes of other categories, with empty lists of joints or none."""

    def add_things(content):
        thing = {'category_id': 2, 'iscrowd': 0, 'bbox': [1, 2, 3, 4], 'area': 12}
        thing['image_id'] = content['images'][0]['id']
        more = [{**thing, 'id': 10**6}, {**thing, 'id': 10**6 + 1, 'keypoints': []}]
        content['categories'].append({'id': 2, 'keypoints': ['handle', 'blade']})
        return {**content, 'annotations': [*more, *content['annotations']]}

    root = coco_with(synthetic_coco, tmp_path / 'COCO', {TRAIN: add_things, GT: add_things})
    check_data.main(['--dataset', 'coco', '--root', str(root)])
    assert re.search(': 0 findings that', capsys.readouterr().out)
    dataset, same = COCO.at(root), COCO.at(synthetic_coco)
    assert len(CocoReader(dataset).train_records(1)) == len(CocoReader(same).train_records(1))
    for gt_boxes in (False, True):
        assert len(CocoReader(dataset).test_set('val', gt_boxes).records) == len(
            CocoReader(same).test_set('val', gt_boxes).records
        )
