"""The test loop: files read once, results in the records' order, both flips together, a device never waited for."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvpack import dist
from lib import inference as testing
from lib.config import override
from lib.datasets import joints
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.joints import TestSamples
from lib.inference import build_estimator, predict, predict_shard
from lib.loader import test_loader as loader_of
from lib.models.mspn import build_mspn
from lib.tools.benchmark.parts import many_boxes
from lib.utils.codec import CODECS
from tests.support.settings import load_config, tiny_settings

BOXES, IMAGES = 20, 5
CPU = torch.device('cpu')


class Brightness(torch.nn.Module):
    """A network whose every heatmap is the image's brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(images.mean(1, keepdim=True), 4).expand(-1, 17, -1, -1)


@pytest.fixture
def people(synthetic_coco):
    """20 boxes in each of 5 images, mixed as a detector's."""
    return many_boxes(CocoReader(COCO.at(synthetic_coco)).test_set('val', gt_boxes=True).records, IMAGES, BOXES)


@pytest.fixture
def config(synthetic_coco, tmp_path):
    def make(*settings: str):
        cfg = load_config('mspn.2xstg.coco')
        override(
            cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0', 'TEST.IMS_PER_GPU=7', *settings]
        )
        return cfg

    return make


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """A function that lists the files read so far, by workers too. Whoever changes an image fails."""
    log, real = tmp_path / 'reads', joints.read_image

    def read(path: Path) -> np.ndarray:
        with log.open('a') as file:
            file.write(f'{path}\n')
        image = real(path)
        image.flags.writeable = False
        return image

    monkeypatch.setattr(joints, 'read_image', read)
    return lambda: log.read_text().splitlines()


@pytest.mark.parametrize('workers', [0, 1, 2])
@pytest.mark.parametrize('settings', [(), ('TEST.SCALES=[0.9,1,1.1]',)], ids=['plain', 'scales'])
def test_a_file_is_read_once(people, config, reads, monkeypatch, workers, settings):
    """However many boxes it has, or twice where two workers' parts meet; the rows keep the records' order."""
    monkeypatch.setattr('os.sched_getaffinity', lambda _: range(8), raising=False)
    cfg = config(f'DATALOADER.NUM_WORKERS={workers}', *settings)
    found = np.concatenate(predict(cfg, [build_estimator(cfg, Brightness(), CPU)], people, CPU), axis=2)
    assert len(people) == BOXES * IMAGES and len(set(reads())) == IMAGES
    assert len(reads()) <= IMAGES + max(workers - 1, 0)

    monkeypatch.setattr(np, 'argsort', lambda values, **_: np.arange(len(values)))  # as the records come
    np.testing.assert_allclose(
        found, np.concatenate(predict(cfg, [build_estimator(cfg, Brightness(), CPU)], people, CPU), axis=2), rtol=1e-6
    )
    assert len(set(map(tuple, found[:, 0]))) == len(people)


def test_a_file_that_changes_hands_is_read_again(people, reads):
    """Samples asked for in any order are those of their own image."""
    order = np.argsort(people.paths, kind='stable')
    samples, by_image = (TestSamples(people, (0.1, 0.1), (64, 48)) for _ in range(2))
    crops = {index: by_image[index]['image'] for index in order}
    assert len(reads()) == IMAGES
    for index in range(len(people)):
        np.testing.assert_array_equal(samples[index]['image'], crops[index])


def test_ranks_share_out_the_people_by_image(people, config, monkeypatch):
    monkeypatch.setattr(dist, 'world_size', lambda: 3)
    order = []
    for rank in range(3):
        monkeypatch.setattr(dist, 'rank', lambda rank=rank: rank)
        order += [index for batch in loader_of(config(), people).batch_sampler for index in batch]
    assert sorted(order) == list(range(len(people)))
    paths = people.paths[order]
    assert (paths[1:] != paths[:-1]).sum() == IMAGES - 1


def test_nobody_to_test(people, config):
    cfg, nobody = config(), joints.Records(people.root, *([people.paths[:0]] * 3))
    keypoints, scores = predict(cfg, [build_estimator(cfg, Brightness(), CPU)], nobody, CPU)
    assert keypoints.shape == (0, 17, 2) and scores.shape == (0, 17, 1)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_flips_together_are_those_one_by_one(config, monkeypatch, precision):
    cfg = config(f'TEST.PRECISION={precision}')
    torch.manual_seed(0)
    estimator, sizes = build_estimator(cfg, build_mspn(cfg), CPU), []
    estimator.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    crops = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        one_by_one = estimator.heatmaps(crops)
        monkeypatch.setattr(testing, 'FLIPS_TOGETHER', ('cpu',))
        together = estimator.heatmaps(crops)
    assert sizes == [3, 3, 6]
    torch.testing.assert_close(together, one_by_one)


@pytest.mark.parametrize('codec', CODECS)
@pytest.mark.parametrize('together', [(), ('meta',)], ids=['one by one', 'together'])
def test_no_batch_is_looked_at_by_the_host(people, config, monkeypatch, codec, together):
    """Of an ensemble, at several scales: on a device without memory there is nothing to read or to wait for."""
    monkeypatch.setattr(testing, 'autocast', lambda *_: contextlib.nullcontext())  # knows no such device
    monkeypatch.setattr(testing, 'FLIPS_TOGETHER', together)
    cfg = config(f'CODEC={codec}', 'TEST.SCALES=[0.9,1,1.1]', 'TEST.IMS_PER_GPU=60')
    meta = torch.device('meta')
    estimators = [build_estimator(own, Brightness(), meta) for own in (cfg, config('INPUT_SHAPE=[96,96]'))]
    indices, rows = predict_shard(cfg, estimators, people, meta)
    assert rows.is_meta and rows.shape == (len(people), 17, 3) and sorted(indices) == list(range(len(people)))


def test_an_estimator_moves_as_a_whole():
    """No tensor of it stays behind, and its joints are on the device."""
    cfg = load_config('mspn.1xstg.coco')
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.WIDTH=8', 'INPUT_SHAPE=[64,64]'])
    estimator = build_estimator(cfg, build_mspn(cfg), torch.device('cpu')).to('meta')
    assert {'permutation', 'normalize.factor', 'decode.center'} <= dict(estimator.named_buffers()).keys()
    assert all(value.is_meta for value in estimator.state_dict().values())
