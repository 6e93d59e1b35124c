"""People's scores, and people found twice."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from cvpack.errors import InputError
from cvpack.files import read_json
from lib import engine
from lib.config import mpii_defaults, override
from lib.datasets.description import COCO
from lib.datasets.records import Records, TestSet, pack_paths
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.nms import Scoring, instance_scores, oks_nms, scored, soft_oks_nms
from lib.models.mspn import build_mspn
from tests.support import annotations, commands
from tests.support.commands import call
from tests.support.settings import load_config, tiny_settings

SIGMAS = np.array([0.1, 0.1])
AREAS = np.full(4, 1e4)


def places(*offsets: float) -> np.ndarray:
    """People (n, 2, 2) that stand so many pixels to the right of the first."""
    return np.array([[[100 + x, 50], [100 + x, 150]] for x in offsets], float)


def oks(distance: float) -> float:
    """Of two people of area 10,000, all of whose joints are so far apart: 2 (2 * 0.1)^2 * 10,000 is 800."""
    return float(np.exp(-(distance**2) / 800))


def test_the_best_of_those_alike_stays():
    scores = np.array([0.5, 0.9, 0.7, 0.8])
    people = places(0, 4, 100, 10)
    assert oks(6) > 0.9 > oks(10) and oks(4) > 0.9
    assert oks_nms(people, scores, AREAS, SIGMAS, 0.9).tolist() == [False, True, True, False]
    # Who is removed removes nobody: 0 and 3 are 10 apart, but both near 1.
    assert oks_nms(people, scores, AREAS, SIGMAS, 0.97).tolist() == [False, True, True, True]
    assert oks_nms(people, np.full(4, 0.5), AREAS, SIGMAS, 0.9).tolist() == [True, False, True, True]
    assert oks_nms(people, scores, AREAS, SIGMAS, 1.0).all()


def test_the_area_of_a_pair_is_the_mean_of_its_two():
    """8 pixels: OKS .92 with 10,000 each, .87 with 2,000 and 10,000 (of 6,000)."""
    people, scores = places(0, 8), np.array([0.9, 0.8])
    assert np.exp(-64 / 480) == pytest.approx(0.875, abs=1e-3)
    for small, threshold, kept in ((1e4, 0.92, False), (2e3, 0.92, True), (2e3, 0.874, False), (2e3, 0.876, True)):
        assert oks_nms(people, scores, np.array([small, 1e4]), SIGMAS, threshold)[1] == kept


def test_soft_suppression_multiplies_by_what_is_new():
    people, scores = places(0, 4, 100, 10), np.array([0.5, 0.9, 0.7, 0.8])
    new = soft_oks_nms(people, scores, AREAS, SIGMAS, 0.9)
    # The order is that of the scores as they fall: 1, then 2, then 0 and 3, which are 10 apart and not alike.
    assert new == pytest.approx([0.5 * (1 - oks(4)), 0.9, 0.7, 0.8 * (1 - oks(6))])
    assert scores.tolist() == [0.5, 0.9, 0.7, 0.8]


def test_rescoring():
    joints = np.array([[1.5, 0.9, 0.6], [0.7, 0.69, 0.5]])  # peaks 1, .4, .1 and .2, .19, 0
    boxes = np.array([0.5, 1.0])
    assert instance_scores(boxes, joints, 'mean') == pytest.approx([0.5, 0.63])
    assert instance_scores(boxes, joints, 'confident') == pytest.approx([0.5 * 0.7, 0])


def records(ids: list[int]) -> Records:
    count = len(ids)
    scale = np.full((count, 2), 0.5, np.float32)  # 100 pixels
    return Records(
        Path(), pack_paths(['a'] * count), scale, scale, ids=np.array(ids), scores=np.linspace(0.9, 0.5, count)
    )


def test_images_know_nothing_of_each_other():
    people, joint_scores = places(0, 0, 0, 1), np.ones((4, 2))
    own = records([7, 3, 7, 5])
    assert scored(own, people, joint_scores, Scoring())[0].tolist() == [0, 1, 2, 3]
    kept, scores = scored(own, people, joint_scores, Scoring(nms='oks', sigmas=SIGMAS))
    assert kept.tolist() == [0, 1, 3] and scores.tolist() == own.scores.tolist()
    kept, scores = scored(own, people, joint_scores, Scoring(nms='soft', sigmas=SIGMAS))
    assert kept.tolist() == [0, 1, 2, 3]
    assert scores == pytest.approx([0.9, own.scores[1], 0, 0.5])
    nobody = dataclasses.replace(records([]), ids=np.zeros(0, np.int64))
    assert len(scored(nobody, people[:0], joint_scores[:0], Scoring(nms='oks', sigmas=SIGMAS))[0]) == 0
    evaluator = CocoEvaluator(COCO, TestSet('val', own, None))
    rows = evaluator.rows(people, joint_scores[..., None], Scoring(nms='oks', sigmas=SIGMAS))
    assert [row['image_id'] for row in rows] == [7, 3, 5]
    assert rows[2]['keypoints'][0] == 101


def test_what_mpii_does_not_use_is_refused():
    for change, why in (
        ('TEST.NMS=oks', 'MPII have no scores'),
        ('TEST.RESCORE=confident', 'MPII have no scores'),
        ('DATASET.KEYPOINT.LOAD_MIN_NUM=2', 'LOAD_MIN_NUM = 2 is not used'),
    ):
        cfg = mpii_defaults()
        cfg.OUTPUT_DIR = 'somewhere'
        with pytest.raises(InputError, match=why):
            override(cfg, [change])


def test_the_command(synthetic_coco, tmp_path, monkeypatch, capsys):
    """A detector that finds everyone twice; the keys say what is made of it. Annotated people are there once."""
    root = tmp_path / 'COCO'
    boxes = read_json(synthetic_coco / COCO.val_boxes)
    twice = [{**box, 'score': box['score'] * share} for box in boxes for share in (1, 0.5)]
    annotations.coco_with(synthetic_coco, root, {COCO.val_boxes: annotations.instead(twice)})
    settings = [*tiny_settings(root, tmp_path / 'out'), 'DATALOADER.NUM_WORKERS=0']
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, settings)
    torch.save({'model': build_mspn(cfg).state_dict()}, tmp_path / 'one.pth')

    def found(*changes: str) -> list[dict]:
        name = '+'.join(change.partition('=')[2] for change in changes) or 'plain'
        arguments = ('--weights', str(tmp_path / 'one.pth'), '--name', name, '--set', *settings, *changes)
        call(monkeypatch, engine.test, *arguments)
        return read_json(tmp_path / f'out/test_dir/one.{name}/results.json')

    plain, hard = found(), found('TEST.NMS=oks')
    assert len(plain) == 2 * len(hard) == len(twice)
    assert {row['score'] for row in hard} <= {row['score'] for row in plain}
    soft = found('TEST.NMS=soft')
    assert sum(row['score'] < 1e-6 for row in soft) == len(boxes)
    assert [row['score'] for row in found('TEST.RESCORE=confident')] != [row['score'] for row in plain]
    found('TEST.NMS=soft', 'TEST.RESCORE=confident', 'TEST.SCALES=[1, 0.9]')
    validated = ['MODEL.WIDTH=8', 'SOLVER.MAX_ITER=1', 'VALIDATION.PERIOD=1', 'TEST.NMS=oks']
    call(monkeypatch, engine.train, '--set', *settings, *validated)
    assert len(read_json(tmp_path / 'out/validation/results.json')) == len(hard)
    page = (tmp_path / 'out/test_dir/one.soft+confident+[1, 0.9]/report.html').read_text()
    assert all(text in page for text in ('soft, OKS above 0.9', 'from confident joints', '1, 0.9'))
    entry = commands.experiment(engine.test, monkeypatch)
    arguments = ('--weights', tmp_path / 'one.pth', '--gt-boxes', '--set', *settings, 'TEST.NMS=oks')
    assert 'TEST.NMS' in commands.refused(capsys, entry, *arguments)
