"""Several networks, or several extents of the box, in one test."""

import numpy as np
import pytest
import torch

from cvpack.files import read_json, sha256
from lib import engine
from lib import inference as testing
from lib.config import override, to_plain
from lib.evaluation.ensemble import MAX_NAME_LENGTH, ensemble_name
from lib.models.mspn import build_mspn
from lib.utils import heatmap
from lib.utils.codec import aspect_ratio
from lib.utils.transforms import crop_matrix
from lib.utils.views import View, mean_onto
from tests.support import commands
from tests.support import settings as support_settings
from tests.support.commands import call
from tests.support.settings import load_config, tiny_settings

BASE = View((128, 96))


@pytest.fixture
def experiment(synthetic_coco, tmp_path, monkeypatch):
    """A function that saves a random network of the tiny experiment under other settings, and the test command."""
    settings = [*tiny_settings(synthetic_coco, tmp_path / 'out'), 'DATALOADER.NUM_WORKERS=0', 'MODEL.STAGE_NUM=1']

    def save(name: str, *changes: str, seed: int = 0, config: bool = True):
        cfg = load_config('mspn.2xstg.coco')
        override(cfg, [*settings, *changes])
        torch.manual_seed(seed)
        path = tmp_path / f'{name}.pth'
        torch.save({'model': build_mspn(cfg).state_dict()} | ({'config': to_plain(cfg)} if config else {}), path)
        return str(path)

    def test(*arguments: str, changes: tuple[str, ...] = ()):
        call(monkeypatch, engine.test, *arguments, '--set', *settings, *changes)

    return save, test, tmp_path / 'out/test_dir'


def rows(folder) -> np.ndarray:
    return np.array([row['keypoints'] for row in read_json(folder / 'results.json')])


@pytest.mark.parametrize('codec', ['dark', 'udp'])
@pytest.mark.parametrize('view', [View((128, 96), 0.8), View((128, 96), 1.2), View((192, 144)), View((64, 48), 1.1)])
def test_a_view_shows_joints_where_they_are(view, codec):
    """A joint's perfect map on the view, brought onto the base, is decoded to the joint's place in the image."""
    center, width = np.array([210.0, 130.0]), 96 / 200
    scale = np.array([width, width / aspect_ratio(BASE.input_shape, codec)])
    joints = np.array([[210.0, 130.0], [185.3, 98.6], [229.1, 160.4], [227.7, 104.2]])
    matrix = crop_matrix(center, scale * view.zoom, 0.0, view.input_shape, codec)
    in_crop = torch.from_numpy(joints @ matrix[:, :2].T + matrix[:, 2])[None]
    map_shape = [size // 4 for size in view.input_shape]
    maps = heatmap.encode(in_crop, torch.ones(1, 4, 1), view.input_shape, map_shape, [11], codec)[:, 0]
    moved = mean_onto(BASE, (32, 24), [view], [maps], codec)
    assert moved.shape == (1, 4, 32, 24)
    center, scale = (torch.from_numpy(values)[None] for values in (center, scale))
    found, _ = heatmap.decode(moved, center, scale, BASE.input_shape, 5, [], codec)
    np.testing.assert_allclose(found[0], joints, atol=0.15)  # a cell is 4 pixels


def test_only_views_that_reach_a_cell_count_there():
    ones = torch.ones(1, 1, 32, 24)
    narrow = View(BASE.input_shape, 0.5)
    alone = mean_onto(BASE, (32, 24), [narrow], [ones], 'standard')[0, 0]
    assert alone.sum() == 16 * 12 and alone[8:24, 6:18].min() == 1
    both = mean_onto(BASE, (32, 24), [BASE, narrow], [ones, 3 * ones], 'standard')[0, 0]
    assert both[0, 0] == 1 and both[16, 12] == 2


def test_an_ensemble_of_one_network_is_that_network(experiment):
    """Of an experiment's own file and of one without configuration, to the bit."""
    save, test, folder = experiment
    one, same = save('one'), save('same', config=False)
    test('--weights', one)
    test('--weights', one, same)
    assert (folder / 'one/results.json').read_bytes() == (folder / 'ensemble.one+same/results.json').read_bytes()


def test_an_ensemble_across_sizes_and_stages(experiment):
    """One result; metrics.json and the report name all files; another order changes nothing but rounding."""
    save, test, folder = experiment
    files = [save('a', seed=1), save('b', 'INPUT_SHAPE=[128,128]', 'MODEL.STAGE_NUM=2', 'CODEC=dark', seed=2)]
    for order in (files, files[::-1]):
        test('--weights', *order)
    result = rows(folder / 'ensemble.a+b')
    np.testing.assert_allclose(result[:, 2::3], rows(folder / 'ensemble.b+a')[:, 2::3], atol=2e-4)
    test('--weights', files[0])
    assert not np.allclose(result, rows(folder / 'a'))
    metrics = read_json(folder / 'ensemble.a+b/metrics.json')
    assert metrics['weights'] == files and metrics['weights_sha256'] == [sha256(file) for file in files]
    page = (folder / 'ensemble.a+b/report.html').read_text()
    assert all(text in page for text in [*files, *metrics['weights_sha256']])


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (['INPUT_SHAPE=[128,96]'], ('[128, 96]', 'aspect ratio', '[64, 64]')),
        (['CODEC=udp'], ("CODEC 'udp'", 'do not mix')),
        ([f'{key}={value}' for key, value in support_settings.keypoints(17).items()], ('KEYPOINT.NAMES',)),
        ([f'{key}={value}' for key, value in support_settings.keypoints(9).items()], ('predicts 9 joints',)),
    ],
)
def test_unlike_networks_are_refused(experiment, capsys, changes, said):
    save, test, _ = experiment
    files = [save('fits'), save('unlike', *changes)]
    error = commands.refused(capsys, lambda arguments: test(*arguments), '--weights', *files)
    commands.names_all(error, 'unlike.pth', *said)


def test_names_stay_short_and_different(tmp_path):
    assert ensemble_name([tmp_path / 'iter-1.pth', tmp_path / 'iter-2.pth']) == 'ensemble.iter-1+iter-2'
    twice = [[tmp_path / folder / 'iter-1.pth' for folder in pair] for pair in ('ab', 'ac')]
    assert ensemble_name(twice[0]) != ensemble_name(twice[1])
    assert len(ensemble_name([tmp_path / ('x' * 60 + str(i)) for i in range(9)])) == MAX_NAME_LENGTH


def test_scales_are_averaged(experiment, monkeypatch):
    """Alone, 1.0 is the test as ever; others change the result a little; flipped in each."""
    save, test, folder = experiment
    one = save('one')
    test('--weights', one)
    plain = rows(folder / 'one')
    test('--weights', one, '--name', 'same', changes=('TEST.SCALES=[1.0, 1.0]',))
    np.testing.assert_array_equal(rows(folder / 'one.same'), plain)
    test('--weights', one, '--name', 'three', changes=('TEST.SCALES=[0.9, 1, 1.1]',))
    assert not np.array_equal(rows(folder / 'one.three'), plain)

    seen = []
    real = testing.PoseEstimator.heatmaps
    monkeypatch.setattr(testing.PoseEstimator, 'heatmaps', lambda self, crops: seen.append(crops) or real(self, crops))
    test('--weights', one, '--name', 'two', changes=('TEST.SCALES=[0.9, 1.1]', 'TEST.IMS_PER_GPU=99'))
    assert len(seen) == 2 and not torch.equal(*seen)


def test_the_default_averages_nothing(experiment, monkeypatch):
    save, test, _ = experiment

    def never(*_):
        raise AssertionError('the maps of a plain test are touched')

    monkeypatch.setattr(testing, 'mean_onto', never)
    test('--weights', save('one'))


@pytest.mark.parametrize('scales', ['[]', '[0.0]', '[9.0]', '[float]', '1.0'])
def test_unfit_scales_are_refused(experiment, capsys, scales):
    save, test, _ = experiment
    test_with = lambda arguments: test(*arguments, changes=(f'TEST.SCALES={scales}',))  # noqa: E731
    assert 'TEST.SCALES' in commands.refused(capsys, test_with, '--weights', save('one'))


def test_several_shift_ratios():
    """A joint moves from its peak towards the runner-up, then from there towards the third, each by its share."""
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 5, 5], maps[0, 0, 5, 7], maps[0, 0, 9, 5] = 255, 200, 150
    center, scale = torch.tensor([[32.0, 32.0]]), torch.tensor([[0.32, 0.32]])

    def decoded(*shifts: float) -> list[float]:
        return (heatmap.decode(maps, center, scale, (64, 64), 1, shifts, 'standard')[0][0, 0] / 4 - 0.5).tolist()

    assert decoded() == pytest.approx([5, 5])
    assert decoded(0.25) == pytest.approx([5.25, 5])
    distance = np.hypot(0.25, 4)
    assert decoded(0.25, 0.5) == pytest.approx([5.25 - 0.5 * 0.25 / distance, 5 + 0.5 * 4 / distance], abs=1e-5)
