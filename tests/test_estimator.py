"""Crops -> input, and what a checkpoint does not hold of it."""

import torch
from conftest import load_config

from lib.config import override
from lib.inference import build_estimator
from lib.models.mspn import build_mspn
from lib.models.normalize import Normalize


def test_normalized_by_channel():
    crops = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8)
    means, stds = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    for form in (torch.contiguous_format, torch.channels_last):
        images = Normalize(means.tolist(), stds.tolist(), form)(crops)
        expected = ((crops / 255 - means) / stds).permute(0, 3, 1, 2)
        torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
        assert images.is_contiguous(memory_format=form)


def test_an_estimator_moves_as_a_whole():
    """No tensor of it stays behind, and its joints are on the device."""
    cfg = load_config('mspn.1xstg.coco')
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.WIDTH=8', 'INPUT_SHAPE=[64,64]'])
    estimator = build_estimator(cfg, build_mspn(cfg), torch.device('cpu')).to('meta')
    assert {'permutation', 'normalize.factor', 'decode.center'} <= dict(estimator.named_buffers()).keys()
    assert all(value.is_meta for value in estimator.state_dict().values())
