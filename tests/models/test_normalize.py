"""Crops -> the network's input."""

import torch

from lib.models.normalize import Normalize


def test_normalized_by_channel():
    crops = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8)
    means, stds = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    for form in (torch.contiguous_format, torch.channels_last):
        images = Normalize(means.tolist(), stds.tolist(), form)(crops)
        expected = ((crops / 255 - means) / stds).permute(0, 3, 1, 2)
        torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
        assert images.is_contiguous(memory_format=form)
