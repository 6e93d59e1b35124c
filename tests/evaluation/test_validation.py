"""Validation of a run while it trains: it changes nothing of the run, and the best checkpoint stays."""

import json
import logging
import os
import shutil
import signal
import sys
import time

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cvpack import checkpoint
from cvpack.files import read_json
from cvpack.logger import TrainLog
from cvpack.trainer import TrainStep
from lib import engine
from lib.config import override
from lib.datasets.coco import CocoReader
from lib.datasets.image_names import image_path
from lib.datasets.mpii import MpiiReader
from lib.datasets.records import select
from lib.evaluation import coco, validation
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.curves import read_scalars
from lib.evaluation.evaluator import evenly_spaced, rank
from lib.evaluation.formats import EVALUATORS
from lib.evaluation.mpii import SUBMISSION, MpiiEvaluator
from lib.evaluation.sample_sheet import sample_sheet
from lib.inference import build_estimator, predict
from lib.loader import dataset_of
from lib.loader import test_samples as crops_of
from lib.models.mspn import build_mspn
from lib.utils.codec import CODECS
from lib.utils.heatmap import encode
from lib.utils.transforms import crop_matrix
from tests.support.checkpoints import assert_same_checkpoints
from tests.support.commands import call, world
from tests.support.ports import free_port
from tests.support.settings import load_config, tiny_settings

EXPERIMENT = 'mspn.2xstg.coco'


def settings(root, output, *more: str) -> list[str]:
    """16 iterations on one process, a checkpoint at the 8th and at the last."""
    run = ['MODEL.WIDTH=8', 'SOLVER.MAX_ITER=2', 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.EMA=0.9']
    return ['--set', *tiny_settings(root, output), *run, *more]


def rows(folder) -> list[dict]:
    return validation.read_rows(folder, 'AP')


@pytest.fixture(scope='module')
def run(synthetic_coco, tmp_path_factory):
    """A validated run's output folder; no random number was taken, and the network stayed as it was."""
    folder, count = tmp_path_factory.mktemp('validated'), 0
    real = validation.Validation.__call__

    def watched(self, iteration):
        nonlocal count
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        real(self, iteration)
        assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
        assert all(module.training for module in self.trainer.model.modules())
        assert not any(isinstance(module, torch.nn.Identity) for module in self.trainer.model.modules())
        count += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.Validation, '__call__', watched)
        call(patch, engine.train, *settings(synthetic_coco, folder, 'VALIDATION.PERIOD=1'))
    assert count == 3
    return folder


def test_training_is_the_same_to_the_bit(synthetic_coco, run, tmp_path, monkeypatch):
    call(monkeypatch, engine.train, *settings(synthetic_coco, tmp_path))
    assert_same_checkpoints(run / 'iter-16.pth', tmp_path / 'iter-16.pth')
    one, other = (checkpoint.load(folder / 'iter-16.pth')['ema'] for folder in (run, tmp_path))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not (tmp_path / 'validation').exists()


def test_figures_are_those_of_a_test(synthetic_coco, run, tmp_path, monkeypatch):
    """Of the moving average, person by person; 'best' names a checkpoint."""
    assert [row['iteration'] for row in rows(run)] == [8, 16]
    call(monkeypatch, engine.test, '-i', 'best', '16', '--ema', *settings(synthetic_coco, run))
    assert read_json(run / 'test_dir/iter-16.ema/results.json') == read_json(run / 'validation/results.json')
    best = max(rows(run), key=lambda row: row['metrics']['AP'])
    tested = read_json(run / f'test_dir/iter-{best["iteration"]}.ema/metrics.json')
    assert tested['metrics'] == best['metrics']
    assert (run / 'iter-best.pth').resolve().name == f'iter-{best["iteration"]}.pth'


def test_the_best_outlives_a_resume_and_the_newest(synthetic_coco, run, tmp_path, monkeypatch, capsys):
    """And what was validated beyond the place that a run goes on from does not count."""
    shutil.copy(run / 'iter-8.pth', tmp_path)
    first, last = rows(run)
    first['metrics']['AP'] = 0.9
    doctored = {'metric': 'AP', 'rows': [first, {**last, 'metrics': {'AP': 2.0}}]}
    (tmp_path / 'validation.json').write_text(json.dumps(doctored))
    more = ['VALIDATION.PERIOD=1', 'SOLVER.KEEP_CHECKPOINTS=1', 'SOLVER.MAX_ITER=3']
    call(monkeypatch, engine.train, '--resume', 'auto', *settings(synthetic_coco, tmp_path, *more))
    assert [row['iteration'] for row in rows(tmp_path)] == [8, 16, 24]
    assert rows(tmp_path)[1]['metrics']['AP'] < 0.9
    assert checkpoint.iterations(tmp_path) == [8, 24]
    assert (tmp_path / 'iter-best.pth').resolve() == tmp_path / 'iter-8.pth'
    assert 'best checkpoint so far: iteration 8' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('form', 'worse', 'better', 'metric'),
    [
        ('COCO', {'AP': 0.0, 'PCK@0.1': 0.054}, {'AP': 0.0, 'PCK@0.1': 0.060}, 'PCK@0.1'),
        ('COCO', {'AP': 2e-5, 'PCK@0.1': 0.054}, {'AP': 0.0, 'PCK@0.1': 0.060}, 'PCK@0.1'),
        ('COCO', {'AP': 0.0, 'AR': 0.01}, {'AP': 0.0, 'AR': 0.02}, 'AR'),
        ('COCO', {'AP': 0.5, 'PCK@0.1': 0.9}, {'AP': 0.51, 'PCK@0.1': 0.8}, 'AP'),
        ('COCO', {'AP': 0.50001}, {'AP': 0.50002}, 'AP'),
        ('MPII', {'Mean': 0.0, 'Mean@0.1': 0.010}, {'Mean': 0.0, 'Mean@0.1': 0.015}, 'Mean@0.1'),
    ],
)
def test_the_metric_that_tells_checkpoints_apart(form, worse, better, metric):
    ordered, names = [{'metrics': worse}, {'metrics': better}, {'metrics': worse}], EVALUATORS[form].main_metrics
    assert max(ordered, key=lambda row: rank(row['metrics'], names)) is ordered[1]
    assert validation.deciding_metric(ordered, names) == metric


@pytest.mark.parametrize(
    ('key', 'written', 'meant'),
    [
        (
            'figure',
            [{'Mean': 0.8, 'Mean@0.1': 0.0}, {'Mean': 85.5}],
            [{'Mean': 0.008, 'Mean@0.1': 0.0}, {'Mean': 0.855}],
        ),
        ('metric', [{'Mean': 0.8}, {'Mean': 0.855}], [{'Mean': 0.8}, {'Mean': 0.855}]),
        ('figure', [{'AP': 0.8, 'APM': -1}], [{'AP': 0.8, 'APM': -1}]),
    ],
    ids=['MPII before', 'MPII now', 'COCO before'],
)
def test_rows_in_per_cent_count_as_they_were_meant(tmp_path, key, written, meant):
    """Earlier versions, whose file has a `figure`, wrote PCKh in per cent; one row alone cannot tell."""
    name = next(iter(written[0]))
    told = [{'iteration': i, 'boxes': 5, 'metrics': metrics} for i, metrics in enumerate(written)]
    (tmp_path / 'validation.json').write_text(json.dumps({key: name, 'rows': told}))
    found = [row['metrics'] for row in validation.read_rows(tmp_path, name)]
    assert found == [pytest.approx(metrics) for metrics in meant]


def test_the_best_of_an_ap_of_nothing(synthetic_coco, run, tmp_path, monkeypatch):
    """Validated on annotated boxes, where PCK tells what AP does not; the other way round, too."""
    for shares, best in (((0.054, 0.060), 16), ((0.060, 0.054), 8)):
        for iteration in (8, 16):
            shutil.copy(run / f'iter-{iteration}.pth', tmp_path)
        told = [{**row, 'metrics': {'AP': 0.0, 'PCK@0.1': share}} for row, share in zip(rows(run), shares)]
        (tmp_path / 'validation.json').write_text(json.dumps({'metric': 'AP', 'rows': told}))
        call(
            monkeypatch,
            engine.train,
            '-c',
            'iter-16.pth',
            *settings(synthetic_coco, tmp_path, 'VALIDATION.PERIOD=1'),
        )
        assert (tmp_path / 'iter-best.pth').resolve().name == f'iter-{best}.pth'


def test_a_run_that_is_stopped_validates_when_it_goes_on(synthetic_coco, run, tmp_path, monkeypatch):
    """It ends at once; every figure and weight is that of a run that nobody stopped."""
    real = TrainStep.__call__

    def struck(self, iteration, *batches):
        if iteration == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, iteration, *batches)

    arguments = ['--resume', 'auto', *settings(synthetic_coco, tmp_path, 'VALIDATION.PERIOD=1')]
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, '__call__', struck)
        with pytest.raises(SystemExit) as stop:
            call(patch, engine.train, *arguments)
    assert stop.value.code == 75
    assert checkpoint.iterations(tmp_path) == [8] and rows(tmp_path) == []
    call(monkeypatch, engine.train, *arguments)
    assert rows(tmp_path) == rows(run)
    assert_same_checkpoints(run / 'iter-16.pth', tmp_path / 'iter-16.pth')
    assert read_json(tmp_path / 'validation/results.json') == read_json(run / 'validation/results.json')


def test_a_full_disk_stops_no_training(synthetic_coco, tmp_path, monkeypatch, capsys):
    def full(path, _):
        raise OSError(28, 'No space left on device', str(path))

    monkeypatch.setattr(validation, 'write_json', full)
    more = ['VALIDATION.PERIOD=1', 'SOLVER.MAX_ITER=1']
    call(monkeypatch, engine.train, *settings(synthetic_coco, tmp_path, *more))
    said = capsys.readouterr().out
    assert f'validation at iteration 8 cannot be saved (No space left on device: {tmp_path}/validation.json)' in said
    assert checkpoint.load(tmp_path / 'iter-last.pth')['iteration'] == 8


def test_tensorboard_has_pictures_and_figures(run):
    events = EventAccumulator(str(run / 'tb_dir'), size_guidance={'images': 0, 'scalars': 0}).Reload()
    pictures = events.Images('samples')
    assert [picture.step for picture in pictures] == [8, 16]
    first, last = (cv2.imdecode(np.frombuffer(p.encoded_image_string, np.uint8), cv2.IMREAD_COLOR) for p in pictures)
    height, width = validation.PICTURES * (320 + 4), 4 * 320
    assert first.shape == last.shape == (height, width, 3)
    assert np.array_equal(first[:, :640], last[:, :640])  # the same samples: truth and targets
    # Peaks of targets are bright over the faded input.
    assert last[:, 320:640].max() > 200 and last[:, 320:640].std() > 10
    assert [event.step for event in events.Scalars('validation/AP')] == [8, 16]


class Oracle(torch.nn.Module):
    """A network that answers with given heatmaps (N, K, h, w)."""

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images):
        return self.maps


@pytest.mark.parametrize('codec', CODECS)
def test_pictures_of_right_answers_are_those_of_the_truth(synthetic_coco, tmp_path, codec):
    cfg = load_config(EXPERIMENT)
    override(
        cfg, [*tiny_settings(synthetic_coco, tmp_path), f'CODEC={codec}', 'INPUT_SHAPE=[320,256]', 'TEST.FLIP=False']
    )
    people = select(CocoReader(dataset_of(cfg)).test_set('val', True).records, np.arange(2))
    people.visibility[:] = 2
    joints = np.stack([_in_crop(cfg, people, index) for index in range(2)])
    maps = encode(torch.from_numpy(joints).float(), torch.ones(2, 17, 1), [320, 256], [80, 64], [5], codec)[:, 0]
    assert (maps.amax(dim=(2, 3)) > 200).all()  # nobody's joint is outside the crop
    device = torch.device('cpu')
    oracle = build_estimator(cfg, Oracle(maps), device)
    sheet = sample_sheet(cfg, oracle, people, device).astype(int)
    ground_truth, target, predicted, prediction = (sheet[:, i * 256 : (i + 1) * 256] for i in range(4))
    assert np.array_equal(target, predicted)
    people.visibility[:] = 0
    bare = sample_sheet(cfg, oracle, people, device)[:, :256]
    one, other = ((panel != bare).any(axis=2) for panel in (ground_truth, prediction))
    assert (one & other).sum() > 0.6 * (one | other).sum() > 600


def _in_crop(cfg, people, index: int) -> np.ndarray:
    """(17, 2): a person's joints in pixels of its test crop."""
    crop = crops_of(cfg, people)[index]
    matrix = crop_matrix(crop['center'], crop['scale'], 0.0, cfg.INPUT_SHAPE, cfg.CODEC)
    return people.joints[index] @ matrix[:, :2].T + matrix[:, 2]


def test_curves(run):
    pytest.importorskip('matplotlib')
    picture = cv2.imread(str(run / 'curves.png'))
    assert picture.shape == (990, 880, 3)
    red = (picture[..., 2] > 150) & (picture[..., 0] < 80)
    blue = (picture[..., 0] > 130) & (picture[..., 2] < 80)
    assert (picture == 255).mean() > 0.8 and red.sum() > 50
    for third in np.array_split(blue, 3):  # a curve or point in every panel
        assert third.sum() > 20
    assert read_scalars(run / 'tb_dir', ('lr', 'absent'), lambda samples: samples // 2) == {'lr': ([24], [0.0])}


def test_what_was_trained_anew_counts_once(tmp_path, caplog):
    """Then it goes on in batches four times as large, twice, and nothing of what was there before is lost."""

    def larger(iteration: int) -> int:
        return 80 + 4 * (iteration - 20)

    for start, end, lr, samples in (
        (0, 60, 1.0, int),
        (40, 80, 2.0, int),
        (20, 60, 3.0, larger),
        (40, 60, 4.0, larger),
    ):
        timer, replaces = type('Timer', (), {'seconds': 0.0}), lr != 3
        log = TrainLog(logging.getLogger('quiet'), tmp_path, start, 80, samples, timer, torch.device('cpu'), replaces)
        for iteration in range(start + 1, end + 1):
            log(iteration, lr, {})
        log.close()
        if lr == 2:
            assert read_scalars(tmp_path, ('lr',), int) == {'lr': ([20, 40, 60, 80], [1.0, 1.0, 2.0, 2.0])}
        time.sleep(1.1)  # the names of TensorBoard's files count in seconds
    found = read_scalars(tmp_path, ('lr',), lambda samples: samples // 4)
    assert found == {'lr': ([5, 10, 15, 20, 40, 60], [1.0, 1.0, 2.0, 2.0, 3.0, 4.0])}
    assert not caplog.records


def test_a_finished_run_with_larger_batches_keeps_its_curves(synthetic_coco, run, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, 'matplotlib.figure')
    pytest.importorskip('matplotlib.figure')
    shutil.copytree(run, tmp_path / 'run')
    more = ['SOLVER.IMS_PER_GPU=6', 'SOLVER.MAX_ITER=1', 'VALIDATION.PERIOD=0']
    call(monkeypatch, engine.train, '--resume', 'auto', *settings(synthetic_coco, tmp_path / 'run', *more))
    said = capsys.readouterr().out
    assert 'iterations are done' in said and 'curves.png: loss, learning rate' in said


def test_predictions_that_are_not_finite_are_left_out(synthetic_coco, tmp_path, monkeypatch, capsys):
    """Training goes on: half precision may overflow in a test alone."""

    def overflowing(*arguments):
        keypoints, scores = predict(*arguments)
        return keypoints * np.inf, scores

    monkeypatch.setattr(validation, 'predict', overflowing)
    more = ['VALIDATION.PERIOD=1', 'SOLVER.MAX_ITER=1']
    call(monkeypatch, engine.train, *settings(synthetic_coco, tmp_path, *more))
    said = capsys.readouterr().out
    assert 'validation at iteration 8: predictions are not finite' in said and 'trained: ' in said
    assert rows(tmp_path) == []


def test_matplotlib_is_an_extra(synthetic_coco, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    more = ['VALIDATION.PERIOD=0', f'OUTPUT_DIR={tmp_path}', 'SOLVER.MAX_ITER=2']
    (tmp_path / 'iter-16.pth').symlink_to(run / 'iter-16.pth')
    call(monkeypatch, engine.train, '--resume', 'auto', *settings(synthetic_coco, tmp_path, *more))
    said = capsys.readouterr().out
    assert 'no curves.png: matplotlib is not installed: pip install matplotlib' in said
    assert not (tmp_path / 'curves.png').exists() and 'trained: ' in said


def test_a_subset_is_whole_images(synthetic_coco, tmp_path):
    cfg = load_config(EXPERIMENT)
    override(cfg, tiny_settings(synthetic_coco, tmp_path))
    dataset = dataset_of(cfg)
    all_images = CocoEvaluator(dataset, CocoReader(dataset).test_set('val', True))
    everybody = all_images.records
    ids = np.unique(everybody.ids)
    assert len(ids) == 5
    small = all_images.subset(2)
    records = small.records
    assert sorted(set(records.ids)) == [ids[0], ids[2]]
    assert len(records) == np.isin(everybody.ids, [ids[0], ids[2]]).sum() == len(records.joints)
    # Right answers on a part of the images are all that there is to find in it.
    perfect = small.rows(records.joints, np.ones((*records.joints.shape[:2], 1)))
    assert small.evaluate(perfect)['AP'] == pytest.approx(1)
    assert coco.keypoint_metrics(all_images.test_set.content, perfect, dataset.sigmas)['AR'] < 0.9
    assert [image['id'] for image in small.test_set.content['images']] == [ids[0], ids[2]]
    assert len(all_images.subset(9).records) == len(everybody)


def test_even_spacing():
    assert evenly_spaced(4, 10).tolist() == [0, 2, 5, 7]
    assert evenly_spaced(20, 3).tolist() == [0, 1, 2]
    assert evenly_spaced(3, 0).tolist() == []


def test_nobody_in_the_subset_is_refused(synthetic_coco, tmp_path, monkeypatch, capsys):
    root = tmp_path / 'COCO'
    shutil.copytree(synthetic_coco, root)
    file = root / 'gt_json/minival_2014.json'
    content = read_json(file)
    first = min(image['id'] for image in content['images'])
    content['annotations'] = [person for person in content['annotations'] if person['image_id'] != first]
    file.write_text(json.dumps(content))
    more = ['VALIDATION.PERIOD=1', 'VALIDATION.IMAGES=1']
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, engine.train, *settings(root, tmp_path / 'out', *more))
    assert stop.value.code == 2
    assert 'VALIDATION.IMAGES = 1: nobody is in these images' in capsys.readouterr().err


@pytest.mark.parametrize('content', ['{', '[]', '{"rows": [{"iteration": 1}]}'])
def test_a_damaged_record_is_refused(content, tmp_path):
    (tmp_path / 'validation.json').write_text(content)
    with pytest.raises(validation.InputError, match=r'validation\.json .*remove it'):
        rows(tmp_path)


@pytest.fixture(scope='module')
def drawn_mpii(synthetic_coco, tmp_path_factory):
    """The drawn test people in MPII's files, an ankle too few each."""
    root = tmp_path_factory.mktemp('mpii')
    (root / 'gt_json').mkdir()
    (root / 'images').symlink_to(synthetic_coco / 'images')
    content = read_json(synthetic_coco / 'gt_json/minival_2014.json')
    names = {image['id']: image_path(image['file_name']) for image in content['images']}
    people, joints = [], []
    for person in content['annotations']:
        if not person['num_keypoints']:
            continue
        points = np.reshape(person['keypoints'], (17, 3))[:16]
        x, y, width, height = person['bbox']
        record = {'image': names[person['image_id']], 'center': [x + width / 2, y + height / 2]}
        record |= {'scale': height / 200, 'joints': points[:, :2].tolist()}
        people.append(record | {'joints_vis': (points[:, 2] > 0).astype(int).tolist()})
        joints.append(points)
    for split in ('train', 'valid'):
        (root / f'gt_json/{split}.json').write_text(json.dumps(people))
    joints = np.array(joints, float)
    heads = np.zeros((2, 2, len(joints)))
    heads[1] = 30
    ground_truth = {'jnt_missing': (joints[..., 2] == 0).T * 1.0, 'pos_gt_src': joints[..., :2].transpose(1, 2, 0)}
    scipy.io.savemat(root / 'gt_json/valid.mat', {**ground_truth, 'headboxes_src': heads})
    return root


def test_mpii(drawn_mpii, tmp_path, monkeypatch, capsys):
    more = ['VALIDATION.PERIOD=1', 'VALIDATION.IMAGES=3', 'SOLVER.MAX_ITER=1', 'MODEL.DEVICE=cpu']
    arguments = settings(drawn_mpii, tmp_path, *more)
    call(monkeypatch, engine.train, *arguments, name='mspn.2xstg.mpii')
    (row,) = validation.read_rows(tmp_path, 'Mean')
    assert (tmp_path / 'iter-best.pth').resolve() == tmp_path / 'iter-8.pth'
    assert 'validation at iteration 8: Head ' in capsys.readouterr().out

    cfg = load_config('mspn.2xstg.mpii')
    override(cfg, arguments[1:])
    all_images = MpiiEvaluator(dataset_of(cfg), MpiiReader(dataset_of(cfg)).test_set('val', False))
    small = all_images.subset(3)
    records = small.records
    assert len(np.unique(records.paths)) == 3 and 0 < len(records) == row['boxes'] < len(all_images.records)
    assert small.evaluate(small.rows(records.joints, np.ones((*records.joints.shape[:2], 1))))['Mean'] == 1
    assert sorted(path.name for path in (tmp_path / 'validation').iterdir()) == [SUBMISSION, 'results.json']


def test_mpii_needs_its_truth(drawn_mpii, tmp_path, monkeypatch, capsys):
    root = tmp_path / 'MPII'
    shutil.copytree(drawn_mpii, root, ignore=shutil.ignore_patterns('*.mat'))
    with pytest.raises(SystemExit) as stop:
        call(
            monkeypatch,
            engine.train,
            *settings(root, tmp_path / 'out', 'VALIDATION.PERIOD=1'),
            name='mspn.2xstg.mpii',
        )
    assert stop.value.code == 2
    assert 'valid.mat does not exist' in capsys.readouterr().err


def _train_both(rank: int, folder: str, arguments: list[str], ports: list[int]) -> None:
    """One of two processes: a run without validation, and one whose first evaluation takes longer than the timeout."""
    torch.set_num_threads(1)
    real, seconds = coco.keypoint_metrics, [6, 0]

    def slow(*given):
        time.sleep(seconds.pop(0))
        return real(*given)

    coco.keypoint_metrics = slow
    for name, port, every in zip(('plain', 'validated'), ports, (0, 1)):
        os.environ.update(world(rank, 2, port))
        more = [f'OUTPUT_DIR={folder}/{name}', f'VALIDATION.PERIOD={every}', 'SOLVER.TIMEOUT=4']
        sys.argv = ['train.py', *arguments, *more]
        engine.train(load_config(EXPERIMENT), build_mspn)


@pytest.mark.slow
def test_two_processes(synthetic_coco, tmp_path, monkeypatch):
    """The same weights; rank 0's statistics, which are the checkpoint's; nobody gives a slow evaluation up.

    Slow: two processes that train twice, and an evaluation that takes six seconds on purpose.
    """
    arguments = settings(synthetic_coco, tmp_path)
    torch.multiprocessing.spawn(_train_both, (str(tmp_path), arguments, [free_port(), free_port()]), nprocs=2)
    plain, validated = tmp_path / 'plain', tmp_path / 'validated'
    assert_same_checkpoints(plain / 'iter-8.pth', validated / 'iter-8.pth')
    assert [row['iteration'] for row in rows(validated)] == [4, 8]
    call(monkeypatch, engine.test, '-i', '8', '--ema', *arguments, f'OUTPUT_DIR={validated}')
    assert read_json(validated / 'test_dir/iter-8.ema/metrics.json')['boxes'] == rows(validated)[1]['boxes']
    tested = read_json(validated / 'test_dir/iter-8.ema/results.json')
    for one, other in zip(read_json(validated / 'validation/results.json'), tested, strict=True):
        assert one['keypoints'] == pytest.approx(other['keypoints'], abs=1e-2)
