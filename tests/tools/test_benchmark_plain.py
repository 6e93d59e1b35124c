"""The straightforward programs of the benchmark compute what this code does: else they would be no peers."""

import dataclasses

import numpy as np
import pytest
import torch

from lib.loader import train_samples
from lib.models.normalize import build_normalize
from lib.tools.benchmark.plain import PlainSamples, plain_decode
from lib.utils import heatmap
from tests.support.joints import plain_sample
from tests.support.settings import load_config


@pytest.fixture
def cfg(synthetic_coco):
    cfg = load_config('mspn.2xstg.coco')
    cfg.DATASET.ROOT = str(synthetic_coco)
    return cfg


@pytest.mark.parametrize('changes', [{}, {'rotation': 30.0}, {'flip': True}], ids=['plain', 'rotated', 'flipped'])
def test_a_plain_sample_is_the_same(cfg, changes):
    """Pixels differ by interpolation, and by the joints' truncation in integer data sets."""
    ours = train_samples(cfg)
    ours.records = dataclasses.replace(ours.records, integer=None)
    sampled = plain_sample(**changes)
    own, plain = ours.sample(0, sampled), PlainSamples(cfg, ours).sample(0, sampled)
    image = build_normalize(cfg)(torch.from_numpy(own['image'])[None])[0].flip(0)
    assert image.shape == plain['image'].shape and (image - plain['image']).abs().mean() < 0.05 * image.std()
    joints, visibility = torch.from_numpy(own['keypoints'])[None].split([2, 1], dim=-1)
    shapes = cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE
    targets = heatmap.encode(joints, visibility, *shapes, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS)[0].numpy()
    np.testing.assert_array_equal(visibility[0].numpy(), plain['visibility'])
    same = [np.allclose(a, b, atol=0.01) for a, b in zip(targets.swapaxes(0, 1), plain['targets'].swapaxes(0, 1))]
    assert np.mean(same) > 0.9 and targets.max() > 254  # float32 may carry a joint into the next cell


def test_plain_decoding_is_the_same(cfg):
    random = torch.Generator().manual_seed(0)
    maps = 255 * torch.rand(3, 17, 64, 48, generator=random)
    maps[0, 0] = -1  # nothing to find
    center, scale = 100 * torch.rand(3, 2, generator=random), torch.rand(3, 2, generator=random)
    kernel, shifts = cfg.TEST.GAUSSIAN_KERNEL, cfg.TEST.SHIFT_RATIOS
    joints, scores = heatmap.decode(maps, center, scale, cfg.INPUT_SHAPE, kernel, shifts)
    for i, found in enumerate(torch.cat([joints, scores], dim=2)):
        plain = plain_decode(maps[i].numpy(), center[i].numpy(), scale[i].numpy(), cfg)
        np.testing.assert_allclose(found, plain, atol=2e-3)
