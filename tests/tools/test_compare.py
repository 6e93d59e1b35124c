"""Whether a difference is told from noise, and what cannot be compared."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.stats

from cvpack.files import read_json
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.evaluation import bootstrap, coco
from lib.evaluation.coco import CocoEvaluator
from lib.tools.compare.__main__ import main
from lib.tools.compare.runs import read_run
from tests.support.commands import refused
from tests.support.evaluation import SIGMAS, pckh_in_percent, person

IMAGES = 60


@pytest.fixture
def world(tmp_path):
    """A truth of a person an image, and a maker of tests: how far off the joints are in each image."""
    random = np.random.default_rng(0)
    points = random.uniform(20, 220, (IMAGES, 17, 2)).round()
    people = [person(points[i], i + 1, i + 1, np.full(17, 2), area=2e4) for i in range(IMAGES)]
    images = [{'id': i + 1, 'file_name': f'{i}.jpg'} for i in range(IMAGES)]
    ground_truth = tmp_path / 'truth.json'
    ground_truth.write_text(json.dumps({'images': images, 'annotations': people, 'categories': [{'id': 1}]}))
    directions = random.normal(size=(IMAGES, 17, 2))
    scores = random.uniform(0.2, 1, IMAGES)

    def make(name: str, pixels: np.ndarray, *more: str):
        folder = tmp_path / name
        folder.mkdir()
        found = points + directions * np.reshape(pixels, (-1, 1, 1))
        rows = [
            {
                'image_id': i + 1,
                'category_id': 1,
                'score': s,
                'keypoints': np.column_stack([p, np.ones(17)]).ravel().tolist(),
            }
            for i, (p, s) in enumerate(zip(found, scores))
        ]
        (folder / 'results.json').write_text(json.dumps(rows))
        content = {
            'metrics': dict.fromkeys(('AP', *more), 0.5),
            'results': 'results.json',
            'truth': str(ground_truth),
            'sigmas': SIGMAS.tolist(),
        }
        return with_metrics(folder / 'metrics.json', content)

    return make


def with_metrics(path, content):
    """Writes a metrics.json with the metrics that its results have: COCO's ten, and PCK if it has that."""
    ground_truth, results = Path(content['truth']), path.parent / 'results.json'
    metrics = coco.keypoint_metrics(read_json(ground_truth), read_json(results), content['sigmas'])
    if 'PCK@0.1' in content['metrics']:
        dataset = dataclasses.replace(COCO, root=ground_truth.parent, val_json=ground_truth.name, val_boxes='')
        metrics = CocoEvaluator(dataset, CocoReader(dataset).test_set('val', True)).evaluate(read_json(results))
    path.write_text(json.dumps({**content, 'metrics': metrics}))
    return path


def tables(capsys, *paths, images=IMAGES, resamples='200') -> dict[str, list[list[str]]]:
    """The cells of the printed tables' rows below their heads, by metric."""
    main([*map(str, paths), '--resamples', resamples])
    *blocks, last = capsys.readouterr().out.strip().split('\n\n')
    assert last == f'{resamples} resamples of {images} images'
    found = {}
    for block in blocks:
        (name, *head), *rows = [re.split(r'\s{2,}', line) for line in block.splitlines()]
        assert head[:3] == ['95 %', 'difference', '95 %'] and len(rows) == len(paths)
        found[name] = rows
    return found


def test_better_worse_and_noise(world, capsys):
    """A tenth of a pixel in some images, up here and down there, is noise; four pixels everywhere are not."""
    base = np.full(IMAGES, 12.0)
    first = world('first', base)
    flicker = world('flicker', base + np.random.default_rng(1).choice([-1.5, 1.5], IMAGES))
    good, bad = world('good', base - 4), world('bad', base + 4)
    found = tables(capsys, first, flicker, good, bad, first)
    assert list(found) == [name for name in coco.METRICS if name not in ('APM', 'ARM')]  # nobody is of medium size
    rows = found['AP']
    assert [row[-1] for row in rows[1:]] == ['noise', 'better', 'worse', 'no difference']
    assert rows[0][0] == str(first.parent) and len(rows[0]) == 3
    figures = [100 * read_json(path)['metrics']['AP'] for path in (first, flicker, good, bad)]
    assert [float(row[1]) for row in rows[:4]] == pytest.approx(figures, abs=0.051)
    for row, figure in zip(rows[1:4], figures[1:]):
        low, high = map(float, row[4].split(' .. '))
        assert float(row[3]) == pytest.approx(figure - figures[0], abs=0.0051) and low <= float(row[3]) <= high
    assert rows[4][3:5] == ['+0.00', '+0.00 .. +0.00']


def test_what_ap_cannot_tell_apart(world, capsys):
    """Two tests of AP 0 on annotated boxes: nothing in COCO's ten, a clear difference in PCK."""
    boxes = 'PCK@0.1', 'PCK@0.05'
    first, second = (world(name, np.full(IMAGES, pixels), *boxes) for name, pixels in (('a', 90.0), ('b', 60.0)))
    detector = world('c', np.full(IMAGES, 60.0))
    found = tables(capsys, first, second, detector)
    assert list(found)[-2:] == list(boxes)
    for name, (one, other, third) in found.items():
        told = [100 * read_json(path)['metrics'].get(name, np.nan) for path in (first, second)]
        assert [float(row[1]) for row in (one, other)] == pytest.approx(told, abs=0.051)
        in_pck = name in boxes
        assert other[-1] == ('better' if in_pck else 'no difference') and (float(one[1]) > 0) == in_pck
        assert third[1:] == ['-'] if in_pck else third[-1] == 'no difference'


def test_pck_of_other_people(world, capsys):
    path = world('a', np.full(IMAGES, 60.0), 'PCK@0.1', 'PCK@0.05')
    content = read_json(path)
    change(path, metrics={**content['metrics'], 'PCK@0.05': 0.9})
    assert 'has PCK@0.05' in refused(capsys, main, path)
    (path.parent / 'results.json').write_text(json.dumps(read_json(path.parent / 'results.json')[1:]))
    change(path, metrics=content['metrics'])
    assert '59 people' in refused(capsys, main, path)


def trainings(world, name: str, pixels: list[float]) -> list[str]:
    """Tests of several trainings of a setting, off by so many pixels."""
    paths = [world(f'{name}.{seed}', np.full(IMAGES, off)) for seed, off in enumerate(pixels)]
    for path in paths:
        change(path, weights_sha256=str(path))
    return [str(path) for path in paths]


def training_rows(capsys, *arguments: str, name: str = 'AP') -> list[list[str]]:
    """The cells of a metric's table of trainings, below its head."""
    main([*arguments, '--resamples', '200'])
    legend, *blocks, last = capsys.readouterr().out.strip().split('\n\n')
    assert last == f'200 resamples of {IMAGES} images'
    head, *rows = next(block for block in blocks if block.startswith(f'{name} ')).splitlines()
    assert re.split(r'\s{2,}', head) == [name, 'mean', 'trainings', 'difference', '95 %, images', '95 %, seeds']
    assert legend.splitlines()[0] == f'setting 1: {Path(arguments[0]).parent}, {Path(arguments[1]).parent}'
    return [re.split(r'\s{2,}', row) for row in rows]


def test_a_setting_is_better_only_if_seeds_do_not_explain_it(world, capsys):
    """The same mean gain, told by seeds that agree, and not by seeds that spread as far as the gain."""
    plain = trainings(world, 'plain', [12.0, 12.1])
    steady, lucky = trainings(world, 'steady', [9.0, 9.1]), trainings(world, 'lucky', [11.9, 6.5])
    found = training_rows(capsys, *plain, '--versus', *steady)
    assert found[1][-1] == 'better'
    first, second = (100 * np.array([read_json(Path(p))['metrics']['AP'] for p in paths]) for paths in (plain, steady))
    expected = scipy.stats.ttest_ind(second, first).confidence_interval(0.95)
    low, high = map(float, found[1][5].split(' .. '))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.0051)
    assert float(found[1][3]) == pytest.approx(second.mean() - first.mean(), abs=0.0051)
    assert [float(value) for value in found[1][2].split(' ')] == pytest.approx(second, abs=0.051)
    found = training_rows(capsys, *plain, '--versus', *lucky)
    low, high = map(float, found[1][4].split(' .. '))
    assert low > 0 and found[1][-1] == 'noise'
    worse = training_rows(capsys, *steady, '--versus', *plain, '--versus', *lucky)
    assert [row[0] for row in worse] == ['setting 1', 'setting 2', 'setting 3'] and len(worse[0]) == 3
    assert [row[-1] for row in worse[1:]] == ['noise', 'noise']  # the third setting's spread counts for all


def test_more_trainings_tell_more(world, capsys):
    """Each setting adds to what is known about the spread; a single training has none, but can be compared."""
    plain, one = trainings(world, 'plain', [12.0, 12.4]), trainings(world, 'one', [9.0])
    others = trainings(world, 'others', [14.0, 14.4, 14.2])
    widths = []
    for more in ([], ['--versus', *others]):
        low, high = map(float, training_rows(capsys, *plain, '--versus', *one, *more)[1][5].split(' .. '))
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_trainings_that_cannot_be_compared(world, capsys):
    first, second = trainings(world, 'a', [12.0, 12.4])
    (other,) = trainings(world, 'b', [9.0])
    assert 'does not tell how far seeds spread' in refused(capsys, main, first, '--versus', other)
    assert 'tested the same weights as' in refused(capsys, main, first, first, '--versus', other)
    change(Path(second), weights_sha256=first)
    assert 'tested the same weights as' in refused(capsys, main, first, second, '--versus', other)


def test_pairing_narrows_the_interval(world):
    """Images are as hard for one test as for the other: their difference varies less than each of them."""
    hard = np.random.default_rng(2).choice([2.0, 25.0], IMAGES)
    runs = [read_run(world(name, hard + plus), None) for name, plus in (('a', 0), ('b', 1))]
    resamples, again = (bootstrap.resample([run.test.metrics for run in runs], IMAGES, 200) for _ in range(2))
    assert np.std(resamples[1][:, 0] - resamples[0][:, 0]) < 0.3 * np.std(resamples[0][:, 0])
    np.testing.assert_array_equal(resamples, again)


def test_the_interval_of_a_mean():
    """Of a mean of 400 coin flips: standard error .025."""
    flips = np.arange(400) % 2
    low, high = bootstrap.interval(bootstrap.resample([lambda w: flips @ w / w.sum()], 400, 2000)[0])
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.006)


def test_a_truth_that_moved(world, tmp_path, capsys):
    path = world('a', np.full(IMAGES, 8.0))
    moved = (tmp_path / 'truth.json').rename(tmp_path / 'moved.json')
    assert 'truth.json does not exist' in refused(capsys, main, str(path))
    main([str(path), '--truth', str(moved), '--resamples', '5'])
    assert '5 resamples of 60 images' in capsys.readouterr().out


def change(path, **fields) -> None:
    path.write_text(json.dumps({**read_json(path), **fields}))


REFUSALS = {
    'absent': (lambda path: path.unlink(), 'metrics.json does not exist'),
    'no json': (lambda path: path.write_text('{'), 'metrics.json is not valid json'),
    'a list': (lambda path: path.write_text('[]'), 'is not a metrics.json of this project'),
    'foreign': (lambda path: path.write_text('{"AP": 1}'), 'is not a metrics.json of this project'),
    'of test-dev': (lambda path: change(path, metrics=None), 'is of a test without ground truth'),
    'of old': (lambda path: change(path, truth=None), 'no valid truth'),
    'sigmas': (lambda path: change(path, sigmas=['x']), 'sigmas should be numbers'),
    'words': (lambda path: change(path, metrics={'AP': 'high'}), 'metrics should be numbers'),
    'figures': (lambda path: change(path, metrics={'AR': 1}), 'of another test'),
    'another AP': (lambda path: change(path, metrics={'AP': 0.99}), 'of another test'),
    'no results': (lambda path: (path.parent / 'results.json').unlink(), 'results.json does not exist'),
    'results': (
        lambda path: (path.parent / 'results.json').write_text('[{"image_id": 1}]'),
        'results file of 17 joints',
    ),
    'NaN': (
        lambda path: (path.parent / 'results.json').write_text(
            json.dumps([{'image_id': 1, 'score': float('nan'), 'keypoints': [1.0] * 51}])
        ),
        'results file of 17 joints',
    ),
    'other images': (
        lambda path: (path.parent / 'results.json').write_text(
            json.dumps([{'image_id': 77, 'score': 1, 'keypoints': [1.0] * 51}])
        ),
        'image 77 is not listed',
    ),
    'truth': (lambda path: (path.parents[1] / 'truth.json').write_text('{}'), 'is not a COCO annotation file'),
}


@pytest.mark.parametrize('case', REFUSALS.values(), ids=REFUSALS)
def test_refusals(world, capsys, case):
    spoil, expected = case
    path = world('a', np.full(IMAGES, 8.0))
    spoil(path)
    assert expected in refused(capsys, main, str(path))


def mpii_test(folder, seed: int, pixels: float, names=None, scale=100):
    """A metrics.json of 40 people in 20 images, with heads of which half is 30 pixels. scale: of earlier versions, 1"""
    folder.mkdir(parents=True)
    ground_truth = folder / 'valid.mat'
    positions = np.random.default_rng(0).uniform(50, 150, (16, 2, 40))
    heads = np.zeros((2, 2, 40))
    heads[1, 0] = 100
    fields = {'pos_gt_src': positions, 'jnt_missing': np.zeros((16, 40)), 'headboxes_src': heads}
    scipy.io.savemat(ground_truth, fields)
    noise = np.random.default_rng(seed).normal(size=(40, 16, 2)) * pixels
    found = np.dstack([positions.transpose(2, 0, 1) - 1 + noise, np.ones((40, 16))])
    names = names or [f'{i // 2}.jpg' for i in range(40)]
    rows = [{'image': name, 'keypoints': person.tolist()} for name, person in zip(names, found)]
    (folder / 'results.json').write_text(json.dumps(rows))
    content = {
        'metrics': {name: value / scale for name, value in pckh_in_percent(found, ground_truth).items()},
        'results': 'results.json',
        'truth': str(ground_truth),
        'sigmas': [],
        'config': {} if scale == 1 else {'VALIDATION': {}},
    }
    (folder / 'metrics.json').write_text(json.dumps(content))
    return folder / 'metrics.json'


def test_mpii(tmp_path, capsys):
    """Mean PCKh over images, of which each has two people here."""
    first, second = mpii_test(tmp_path / 'a', 1, 18), mpii_test(tmp_path / 'b', 2, 18)
    better = mpii_test(tmp_path / 'c', 1, 14, scale=1)  # as earlier versions wrote it: in per cent
    found = tables(capsys, first, second, better, images=20)
    assert list(found) == list(read_json(first)['metrics'])
    for name, figure in read_json(first)['metrics'].items():
        assert float(found[name][0][1]) == pytest.approx(100 * figure, abs=0.051)
    for name in ('Mean', 'Mean@0.1'):
        assert [row[-1] for row in found[name][1:]] == ['noise', 'better']


def test_nobody_to_measure(tmp_path, capsys):
    path = mpii_test(tmp_path / 'a', 1, 18)
    truth = scipy.io.loadmat(tmp_path / 'a/valid.mat')
    fields = {name: truth[name] for name in ('pos_gt_src', 'headboxes_src')}
    scipy.io.savemat(tmp_path / 'a/valid.mat', {**fields, 'jnt_missing': np.ones((16, 40))})
    change(path, metrics=dict.fromkeys(read_json(path)['metrics'], -1))
    assert 'there is nothing to compare' in refused(capsys, main, str(path))


def test_tests_on_other_images(tmp_path, world, capsys):
    first = mpii_test(tmp_path / 'a', 1, 18)
    others = mpii_test(tmp_path / 'b', 1, 18, [f'{i}.jpg' for i in range(40)])
    for path in (others, world('c', np.full(IMAGES, 8.0))):
        assert 'was tested on other images than' in refused(capsys, main, str(first), str(path))


def test_tests_by_other_sigmas_or_another_truth(world, tmp_path, capsys):
    """The same predictions under larger sigmas have a higher AP, and are no better."""
    base = np.full(IMAGES, 12.0)
    first, lenient, other = world('first', base), world('lenient', base), world('other', base)
    with_metrics(lenient, {**read_json(lenient), 'sigmas': (2 * SIGMAS).tolist()})
    moved = tmp_path / 'other truth.json'
    ground_truth = read_json(Path(read_json(other)['truth']))
    ground_truth['annotations'][0]['area'] = 1e4
    moved.write_text(json.dumps(ground_truth))
    with_metrics(other, {**read_json(other), 'truth': str(moved)})
    for second in (lenient, other):
        assert 'used another ground truth or other sigmas than' in refused(capsys, main, first, second)
