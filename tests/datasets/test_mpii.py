"""PCKh against the published code's figures and by hand."""

import json

import numpy as np
import pytest
import scipy.io

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.description import MPII
from lib.datasets.mpii import MpiiReader
from lib.evaluation.mpii import MpiiEvaluator
from tests.support.evaluation import pckh_in_percent


def test_pckh_is_the_published_one(golden):
    predictions = np.load(golden / 'pckh_preds.npz')['preds']
    figures = pckh_in_percent(predictions, golden / 'valid.mat')
    expected = read_json(golden / 'pckh.json')
    assert figures == pytest.approx(expected, abs=1e-9)
    assert list(figures) == list(expected)


@pytest.fixture
def ground_truth(tmp_path):
    """Ten people whose heads are 100 pixels across the diagonal, so that PCKh's 0.5 is 30 pixels; one wrist missing."""
    positions = np.random.default_rng(0).uniform(50, 150, (16, 2, 10))
    missing = np.zeros((16, 10), np.uint8)
    missing[10, 0] = 1
    heads = np.zeros((2, 2, 10))
    heads[1, 0] = 100
    path = tmp_path / 'valid.mat'
    scipy.io.savemat(path, {'pos_gt_src': positions, 'jnt_missing': missing, 'headboxes_src': heads})
    return path, positions


def test_pckh_by_hand(ground_truth):
    path, positions = ground_truth
    predictions = np.zeros((10, 16, 3))
    predictions[..., :2] = positions.transpose(2, 0, 1) - 1
    assert pckh_in_percent(predictions, path)['Mean'] == 100
    predictions[0, 10] = 1e6  # missing: not counted
    predictions[:, 6:8] = 1e6  # pelvis and thorax: not in the mean
    assert pckh_in_percent(predictions, path)['Mean'] == 100
    predictions[:5, 0, 0] += 30.1  # half of the right ankles are out by just over 0.5
    predictions[5:, 0, 0] += 29.9
    figures = pckh_in_percent(predictions, path)
    assert figures['Ankle'] == pytest.approx(75)
    # 14 joints of 10 people, one missing; five wrong.
    assert figures['Mean'] == pytest.approx(100 * (139 - 5) / 139)
    assert figures['Mean@0.1'] == pytest.approx(100 * (139 - 10) / 139)


def test_pckh_refuses_another_set(ground_truth):
    with pytest.raises(InputError, match=r'valid\.mat has 10 people, but valid\.json has 9'):
        pckh_in_percent(np.zeros((9, 16, 3)), ground_truth[0])


def test_the_test_split_writes_the_submission(tmp_path):
    """Every person of det_json/test.json, with its place in the official annotations, pixels counted from 1."""
    (tmp_path / 'det_json').mkdir()
    person = {'center': [50.0, 60.0], 'scale': 1.5}
    people = [{'image': f'{i}.jpg', 'image_index': 10 + i, 'person_index': 2, **person} for i in range(3)]
    (tmp_path / 'det_json/test.json').write_text(json.dumps(people))
    test_set = MpiiReader(MPII.at(tmp_path)).test_set('test', gt_boxes=False)
    records, evaluator = test_set.records, MpiiEvaluator(MPII.at(tmp_path), test_set)
    np.testing.assert_allclose(records.center, [[49, 60 + 15 * 1.5 - 1]] * 3)
    keypoints = np.arange(3 * 16 * 2, dtype=float).reshape(3, 16, 2)
    rows = evaluator.rows(keypoints, np.ones((3, 16, 1)))
    results = evaluator.write(rows, tmp_path)
    assert [row['image'] for row in json.loads(results.read_text())] == ['0.jpg', '1.jpg', '2.jpg']
    assert scipy.io.whosmat(tmp_path / 'pred_keypoints_mpii.mat') == [('pred', (1, 3), 'struct')]
    submitted = scipy.io.loadmat(tmp_path / 'pred_keypoints_mpii.mat', squeeze_me=True)['pred']
    assert [(row['image_index'], row['person_index']) for row in submitted] == [(10, 2), (11, 2), (12, 2)]
    assert submitted[2]['point'][15].tolist() == (15, keypoints[2, 15, 0] + 1, keypoints[2, 15, 1] + 1)
    assert evaluator.evaluate(rows) is None
