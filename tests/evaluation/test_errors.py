"""Where predictions err: figures equal to COCOeval's, kinds of error by hand, what mending them gives back."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cvpack.files import read_json
from lib.evaluation import breakdown, errors
from lib.evaluation.ground_truth import parse_detections, parse_ground_truth
from lib.evaluation.oks import THRESHOLDS, Evaluation
from lib.evaluation.precision import Tally, coco_metrics, tally
from tests.support.evaluation import SIGMAS, evaluation, random_files

# Nose; left and right wrist.
PERMUTATION = np.array([0, 2, 1])
JOINTS = np.array([[50, 20, 2], [10, 100, 2], [90, 100, 2]])


def ap(tallied: Tally) -> float:
    return float(tallied.precision().mean())


def coco_eval(ground_truth, results) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(ground_truth))
        judge = COCOeval(gt, gt.loadRes(str(results)), 'keypoints')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def load(ground_truth, results) -> Evaluation:
    people = parse_ground_truth(read_json(ground_truth), ground_truth, len(SIGMAS))
    return Evaluation(people, parse_detections(read_json(results), results, people), SIGMAS)


@pytest.mark.parametrize('seed', range(4))
def test_figures_are_those_of_pycocotools(tmp_path, seed):
    """Of all people, of medium and of large ones: precision at every recall, and the recall."""
    ground_truth, results = random_files(tmp_path, seed)
    judge, ours = coco_eval(ground_truth, results), load(ground_truth, results)
    assert 0.05 < judge.stats[0] < 0.95
    for column, area in enumerate([(0, 1e10), (32**2, 96**2), (96**2, 1e10)]):
        figures = tally(ours, area=area)
        np.testing.assert_allclose(figures.precision(), judge.eval['precision'][:, :, 0, column, 0], atol=1e-9)
        np.testing.assert_allclose(figures.measure()[1], judge.eval['recall'][:, 0, column, 0], atol=1e-9)


def test_a_part_of_the_people_is_as_if_the_others_were_ignored(tmp_path):
    """COCOeval ignores whom num_keypoints = 0 says to, and still measures by the joints."""
    ground_truth, results = random_files(tmp_path, seed=5)
    ours = load(ground_truth, results)
    only = np.arange(len(ours.ground_truth)) % 3 > 0
    part = tally(ours, only)
    content = read_json(ground_truth)
    people = sorted(content['annotations'], key=lambda row: row['image_id'])
    for row, chosen in zip(people, only):
        row['num_keypoints'] *= int(chosen)
    ground_truth.write_text(json.dumps(content))
    judge = coco_eval(ground_truth, results)
    np.testing.assert_allclose(part.precision(), judge.eval['precision'][:, :, 0, 0, 0], atol=1e-9)
    assert abs(ap(part) - ap(tally(ours))) > 1e-3


def test_weights_are_repeated_images(tmp_path):
    """An image that counts twice is as two copies of it; one that counts nothing is none."""
    ground_truth, results = random_files(tmp_path, seed=6)
    content, rows = read_json(ground_truth), read_json(results)
    for number, row in enumerate(rows):  # of equal scores the earlier image's comes first, which copies would change
        row['score'] += number * 1e-6
    results.write_text(json.dumps(rows))
    weights = np.random.default_rng(0).integers(0, 4, 40)
    figures = coco_metrics(load(ground_truth, results))
    images, people, found = [], [], []
    for copy in range(weights.max()):
        chosen = [image for image, weight in enumerate(weights, 1) if weight > copy]
        images += [{'id': image + 100 * copy, 'file_name': f'{image}.jpg'} for image in chosen]
        for old, new in ((content['annotations'], people), (rows, found)):
            new += [{**row, 'image_id': row['image_id'] + 100 * copy} for row in old if row['image_id'] in chosen]
    people = [{**row, 'id': number} for number, row in enumerate(people, 1)]
    ground_truth.write_text(json.dumps({**content, 'images': images, 'annotations': people}))
    results.write_text(json.dumps(found))
    np.testing.assert_allclose(figures(weights), coco_eval(ground_truth, results).stats, atol=1e-9)
    assert (np.abs(figures(weights) - figures(np.ones(40, np.int64))) > 1e-3).all()


def moved(**joints: tuple[float, float]) -> np.ndarray:
    """The person's joints (3, 2) with some elsewhere."""
    places = {'nose': 0, 'left': 1, 'right': 2}
    points = JOINTS[:, :2].astype(float)
    for name, place in joints.items():
        points[places[name]] = place
    return points


def kinds(points: np.ndarray, people=((0, JOINTS),)) -> list[str]:
    diagnosis = errors.diagnose(evaluation(list(people), [(0, points, 0.9)]), PERMUTATION)
    return [errors.KINDS[kind] if kind >= 0 else 'unknown' for kind in diagnosis.kinds[0]]


OTHER = JOINTS + [200, 0, 0]


@pytest.mark.parametrize(
    ('points', 'expected'),
    [
        (moved(), ['good', 'good', 'good']),
        (moved(left=(20, 100), right=(90, 115)), ['good', 'good', 'jitter']),
        (moved(left=(90, 100), right=(10, 100)), ['good', 'inversion', 'inversion']),
        (moved(right=(12, 103)), ['good', 'good', 'inversion']),
        (moved(left=(211, 100)), ['good', 'swap', 'good']),
        (moved(left=(289, 100)), ['good', 'swap', 'good']),  # near the other's right wrist
        (moved(left=(250, 20)), ['good', 'miss', 'good']),  # near the other's nose
        (moved(nose=(10, 100)), ['miss', 'good', 'good']),  # a wrist is no mirror of the nose
        (moved(nose=(50, 60)), ['miss', 'good', 'good']),
    ],
)
def test_kinds_of_error(points, expected):
    assert kinds(points, [(0, JOINTS), (0, OTHER)]) == expected


def test_unlabelled_joints_are_of_no_kind():
    """Neither is one wrong, nor does another joint lie near it."""
    unlabelled = [[0, 0, 0], [0, 0, 2], [0, 0, 0]]  # the left wrist's visibility
    assert kinds(moved(right=(10, 100)), [(0, JOINTS - unlabelled)]) == ['good', 'unknown', 'miss']
    assert kinds(moved(right=(210, 100)), [(0, JOINTS), (0, OTHER)])[2] == 'swap'
    assert kinds(moved(right=(210, 100)), [(0, JOINTS), (0, OTHER - unlabelled)])[2] == 'miss'
    assert kinds(moved(right=(210, 100)), [(0, JOINTS), (1, OTHER)])[2] == 'miss'  # who is in another image


def ap_of(oks: list[float]) -> float:
    """The AP of people found one by one, by falling score, with these OKS."""
    figures = []
    for threshold in THRESHOLDS:
        found = np.cumsum(np.array(oks) >= threshold)
        precision = found / np.arange(1, len(oks) + 1)
        # The best precision at which so many are found.
        figures += [precision[found / len(oks) >= recall].max(initial=0) for recall in np.arange(101) / 100]
    return float(np.mean(figures))


def test_mended_ap_by_hand():
    """Four people: one jitters, ks = exp(-.5), one has an inversion, one a miss, which leave an OKS of 2 / 3, one is
    right. Each kind mended gives its own joint back, and a sorting by OKS puts the last person first."""
    points = [moved(left=(10, 120)), moved(left=(90, 100)), moved(left=(10, 900)), moved()]
    people = [(image, JOINTS) for image in range(4)]
    ours = evaluation(people, [(i, joints, 0.9 - i / 10) for i, joints in enumerate(points)])
    jitter = (2 + np.exp(-0.5)) / 3
    expected = {
        'jitter': [1, 2 / 3, 2 / 3, 1],
        'inversion': [jitter, 1, 2 / 3, 1],
        'swap': [jitter, 2 / 3, 2 / 3, 1],
        'miss': [jitter, 2 / 3, 1, 1],
        'score': [1, jitter, 2 / 3, 2 / 3],
        'background': [jitter, 2 / 3, 2 / 3, 1],
    }
    corrected = errors.corrected(ours, errors.diagnose(ours, PERMUTATION))
    assert ap(tally(ours)) == pytest.approx(ap_of(expected['swap']), abs=1e-12)
    figures = {name: ap(tallied) for name, tallied in corrected.items()}
    assert figures == pytest.approx({name: ap_of(oks) for name, oks in expected.items()}, abs=1e-12)
    assert all(figures[name] > figures['swap'] + 0.05 for name in ('jitter', 'inversion', 'miss', 'score'))


def test_a_mended_swap():
    points = moved(left=(211, 100))
    ours = evaluation([(0, JOINTS), (0, OTHER)], [(0, points, 0.9), (0, moved() + [200, 0], 0.8)])
    corrected = errors.corrected(ours, errors.diagnose(ours, PERMUTATION))
    assert ap(tally(ours)) == pytest.approx(ap_of([2 / 3, 1])) and ap(corrected['swap']) == pytest.approx(1)


def test_background_and_missed():
    """Two people of whom one is found, and a sure detection of nobody."""
    nobody = moved() + 5000
    ours = evaluation([(0, JOINTS), (1, JOINTS)], [(0, moved(), 0.5), (1, nobody, 0.9)])
    diagnosis = errors.diagnose(ours, PERMUTATION)
    assert diagnosis.background.tolist() == [False, True] and diagnosis.missed.tolist() == [False, True]
    half = 51 / 101  # recalls 0 to .5
    assert ap(tally(ours)) == pytest.approx(half / 2)
    assert ap(tally(errors.without_background(ours, diagnosis))) == pytest.approx(half)


def test_scores_stay_within_the_matched():
    """The background's score, between the two, stays between them."""
    ours = evaluation(
        [(0, JOINTS), (1, JOINTS)], [(0, moved(left=(10, 130)), 0.9), (1, moved(), 0.3), (1, moved() + 5000, 0.6)]
    )
    changed = errors.corrected_scores(ours, errors.diagnose(ours, PERMUTATION)).detections
    assert changed.scores.tolist() == [0.3, 0.9, 0.6] and changed.image.tolist() == [0, 1, 1]


def test_an_ignored_person_is_neither_found_nor_background():
    unlabelled = JOINTS * [1, 1, 0]
    ours = evaluation([(0, unlabelled), (0, OTHER)], [(0, moved(), 0.5)])
    diagnosis = errors.diagnose(ours, PERMUTATION)
    assert diagnosis.person.tolist() == [-1] and not diagnosis.background.any()
    assert diagnosis.missed.tolist() == [False, True]


def test_groups_add_up(tmp_path):
    ground_truth, results = random_files(tmp_path, seed=7)
    ours = load(ground_truth, results)
    counted = int((~ours.ground_truth.ignored).sum())
    for groups in (breakdown.by_size(ours), breakdown.by_joints(ours), breakdown.by_crowding(ours)):
        assert sum(group.people for group in groups) == counted and len(groups) > 1
    judge = coco_eval(ground_truth, results)
    everybody = breakdown._group(ours, '', np.ones(len(ours.ground_truth), bool))
    assert (everybody.ap, everybody.ap50, everybody.ar) == pytest.approx(
        (judge.stats[0], judge.stats[1], judge.stats[5])
    )


def test_crowding_by_hand():
    """Boxes at 0, 50 (IoU 1/3 with the first), 95 (with the second alone) and far away; a crowd over all."""
    ours = evaluation([(0, JOINTS)] * 5 + [(1, JOINTS)], [(0, moved(), 0.5)])
    ours.ground_truth.boxes[:5, 0] = [0, 50, 95, 900, 0]
    ground_truth = replace(ours.ground_truth, crowd=np.array([False] * 4 + [True, False]))
    assert breakdown.crowding(ground_truth).tolist() == [1, 2, 1, 0, 0, 0]


def test_nobody_and_nothing(tmp_path):
    """Neither people who count nor detections are an error of the code."""
    ground_truth, results = random_files(tmp_path, seed=8)
    results.write_text('[]')
    figures = tally(load(ground_truth, results))
    assert ap(figures) == 0 and figures.measure()[1].sum() == 0
    ours = evaluation([(0, JOINTS * [1, 1, 0])], [(0, moved(), 0.5)])
    corrected = errors.corrected(ours, errors.diagnose(ours, PERMUTATION))
    assert np.isnan(ap(tally(ours))) and np.isnan(ap(corrected['miss']))
