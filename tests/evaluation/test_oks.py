"""Two libraries, one set of figures."""

import importlib.util

import numpy as np
import pytest

from cvpack.files import read_json, write_json
from lib.datasets.coco_json import check_ground_truth
from lib.datasets.description import COCO
from lib.datasets.records import TestSet
from lib.evaluation import coco as coco_eval
from lib.evaluation.coco import FAST, METRICS, SLOW, CocoEvaluator, keypoint_metrics
from tests.support.evaluation import SIGMAS, random_files

needs_both = pytest.mark.skipif(
    importlib.util.find_spec('faster_coco_eval') is None, reason="needs faster-coco-eval: pip install '.[eval]'"
)


def of_files(ground_truth, results, *options) -> dict[str, float] | None:
    return keypoint_metrics(read_json(ground_truth), read_json(results), *options)


@needs_both
@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('sigmas', [SIGMAS, np.linspace(0.02, 0.3, 17)], ids=['COCO', 'own'])
def test_both_libraries_find_the_same(tmp_path, seed, sigmas):
    """Crowds, people without joints, more than 20 detections, equal scores, of which all are equal with seed 0."""
    ground_truth, results = random_files(tmp_path, seed)
    if seed == 0:
        write_json(results, [{**row, 'score': 0.5} for row in read_json(results)])
    slow, fast = (of_files(ground_truth, results, tuple(sigmas), library) for library in (SLOW, FAST))
    assert list(slow) == list(fast) == list(METRICS)
    assert 0 < slow['AP'] < 1
    assert fast == pytest.approx(slow, abs=1e-12)


@needs_both
def test_sigmas_count_in_both(tmp_path):
    ground_truth, results = random_files(tmp_path, 1)
    for library in (SLOW, FAST):
        strict, loose = (of_files(ground_truth, results, (sigma,) * 17, library)['AP'] for sigma in (0.03, 0.2))
        assert strict < loose


@needs_both
def test_nothing_to_measure_in_both(tmp_path):
    """No people of medium size are -1; no annotations at all are None."""
    ground_truth, results = random_files(tmp_path, 2)
    content = read_json(ground_truth)
    for person in content['annotations']:
        person['area'] = 1e5
    write_json(ground_truth, content)
    slow, fast = (of_files(ground_truth, results, tuple(SIGMAS), library) for library in (SLOW, FAST))
    assert slow == pytest.approx(fast) and slow['APM'] == slow['ARM'] == -1
    write_json(ground_truth, {**content, 'annotations': []})
    assert of_files(ground_truth, results, tuple(SIGMAS), SLOW) is None
    assert of_files(ground_truth, results, tuple(SIGMAS), FAST) is None


@pytest.mark.parametrize('library', [SLOW, pytest.param(FAST, marks=needs_both)])
def test_other_categories_are_left_alone(tmp_path, library):
    """Boxes of things beside people, with nothing of what an evaluation of keypoints needs."""
    ground_truth, results = random_files(tmp_path, 3)
    alone = of_files(ground_truth, results, tuple(SIGMAS), library)
    content = read_json(ground_truth)
    thing = {'image_id': content['images'][0]['id'], 'category_id': 2, 'bbox': [1, 2, 3, 4], 'area': 12, 'iscrowd': 0}
    content['annotations'] += [{**thing, 'id': 10**6}, {**thing, 'id': 10**6 + 1}]
    content['categories'].append({'id': 2, 'name': 'chair'})
    write_json(ground_truth, content)
    check_ground_truth(content, ground_truth, 17)
    assert of_files(ground_truth, results, tuple(SIGMAS), library) == pytest.approx(alone)


@pytest.mark.parametrize('library', [SLOW, pytest.param(FAST, marks=needs_both)])
def test_it_is_named(monkeypatch, library):
    monkeypatch.setattr(coco_eval, '_fastest', lambda: library)
    named = CocoEvaluator(COCO, TestSet('val', None, None)).library
    assert named.startswith(f'{library} ') and named[-1].isdigit()
