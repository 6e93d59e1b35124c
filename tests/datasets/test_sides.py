"""Left and right joints by their names, and what is said of those that are no flip pair."""

import dataclasses

import pytest

from lib.config import coco_defaults, finalize
from lib.datasets.checks import Issue
from lib.datasets.description import COCO, MPII
from lib.datasets.sides import mirrors_by_name, unpaired_sides
from lib.engine import test as run_test
from lib.engine import train
from lib.tools.check_data import __main__ as check_data
from tests.support.check_data import first
from tests.support.commands import experiment, refused
from tests.support.settings import small

SPELLINGS = (
    ('LHip', 'RHip'),
    ('hip_left', 'hip_right'),
    ('L_Eye', 'R_Eye'),
    ('Eye_Left', 'Eye_Right'),
    ('mouth_left', 'mouth_right'),
    ('l.hip', 'r.hip'),
    ('left front paw', 'right front paw'),
    ('leftHip', 'rightHip'),
    ('hipL', 'hipR'),
    ('lhip', 'rhip'),
    ('LSHOULDER', 'RSHOULDER'),
    ('FL-paw', 'FR-paw'),
    ('Hip.L', 'Hip.R'),
    ('LeftEye', 'right_eye'),
    ('左肩', '右肩'),
    ('Hüfte links', 'Hüfte rechts'),
    ('linkes Knie', 'rechtes Knie'),
    ('hanche_gauche', 'hanche_droite'),
    ('genou gauche', 'genou droit'),
    ('cadera_izquierda', 'cadera_derecha'),
    ('gomito_sinistro', 'gomito_destro'),
    ('joelhoEsquerdo', 'joelhoDireito'),
)


@pytest.mark.parametrize('pair', SPELLINGS, ids=lambda pair: pair[0])
def test_sides_by_name(pair):
    others = 'nose', 'tail', 'collar', 'lower lip', 'pelvis'
    for names in ((*others, *pair), (*pair[::-1], *others)):
        left, right = map(names.index, pair)
        [(joint, mirrors)] = mirrors_by_name(names).items()
        assert joint == left and set(mirrors) == {right}


def test_no_sides_by_name():
    names = [f'k{i}' for i in range(20)] + [
        'nose',
        'tail',
        'rear',
        'lower_lip',
        'upper_lip',
        'collar',
        'level',
        'elbow',
    ]
    assert mirrors_by_name(names) == {}
    for facts in (COCO, MPII):
        found = {frozenset((a, b)) for a, rights in mirrors_by_name(facts.joint_names).items() for b in rights}
        assert found == {frozenset(pair) for pair in facts.flip_pairs}


def four_joints(names, flip_pairs=(), prob_flip=0.5, flip_test=True):
    description = dataclasses.replace(
        COCO, joint_names=names, flip_pairs=flip_pairs, upper_body_ids=(), skeleton=(), sigmas=(0.1,) * 4
    )
    cfg = coco_defaults(description)
    cfg.LOSS.TOPK, cfg.DATASET.TRAIN.PROB_FLIP, cfg.TEST.FLIP = 4, prob_flip, flip_test
    finalize(cfg, __file__)
    return cfg


def test_unpaired_sides():
    names = ('LEye', 'REye', 'LHip', 'RHip')
    by_name = 'are left and right by their names, but DATASET.KEYPOINT.FLIP_PAIRS'
    assert unpaired_sides(four_joints(names)) == [
        f'LEye and REye {by_name} lacks the pair (0, 1)',
        f'LHip and RHip {by_name} lacks the pair (2, 3)',
    ]
    assert unpaired_sides(four_joints(names, ((1, 0), (2, 3)))) == []
    assert unpaired_sides(four_joints(names, ((0, 2),))) == [
        f'LEye and REye {by_name} pairs LEye with LHip',
        f'LHip and RHip {by_name} pairs LHip with LEye',
    ]
    assert unpaired_sides(four_joints(names, prob_flip=0, flip_test=False)) == []
    assert unpaired_sides(four_joints(names, prob_flip=0)) and unpaired_sides(four_joints(names, flip_test=False))
    # Lower and upper, left and right: whichever is meant.
    assert unpaired_sides(four_joints(('LL', 'LR', 'RL', 'RR'), ((0, 1), (2, 3)))) == []
    assert unpaired_sides(four_joints(('LL', 'LR', 'RL', 'RR'), ((0, 2), (1, 3)))) == []


def test_sides_are_reported(synthetic_coco):
    """By check_data, each; by training and testing in a line."""
    names = [
        'nose',
        *(f'{side}{name}' for name in ('Eye', 'Ear', 'Arm', 'Hand', 'Hip', 'Knee', 'Toe', 'Heel') for side in 'LR'),
    ]
    cfg = coco_defaults(dataclasses.replace(COCO, root=synthetic_coco, joint_names=tuple(names), flip_pairs=()))
    findings = check_data.check(cfg, ('train',), 1)
    assert len(findings.messages[Issue.SIDES]) == 8
    assert 'LEye and REye are left and right' in first(findings, Issue.SIDES)


@pytest.mark.parametrize('entry', [train, run_test], ids=['train', 'test'])
def test_a_run_says_that_sides_are_unpaired(entry, synthetic_coco, tmp_path, monkeypatch, capsys):
    names = ['nose', *(f'{name}_{side}' for name in 'abcdefgh' for side in ('left', 'right'))]
    missing = tmp_path / 'missing.pth'
    arguments = [*small(synthetic_coco, tmp_path), f'MODEL.WEIGHT={missing}', f'DATASET.KEYPOINT.NAMES={names}']
    arguments += ['DATASET.KEYPOINT.FLIP_PAIRS=[[1,2]]']
    how = ['--weights', missing] if entry is run_test else []
    refused(capsys, experiment(entry, monkeypatch), *how, '--set', *arguments)
    lines = [line for line in (tmp_path / 'log.txt').read_text().splitlines() if 'warning' in line]
    assert len(lines) == 1 and 'b_left and b_right are left and right by their names' in lines[0]
    assert 'lacks the pair (3, 4): mirrored images will confuse the two' in lines[0]
