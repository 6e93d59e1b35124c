"""The losses of a batch: the forward pass of a training step."""

import contextlib
from collections.abc import Iterator

import torch
from easydict import EasyDict
from torch import nn

from cvpack.batch_counters import FusedCounters
from cvpack.errors import InputError
from cvpack.precision import autocast
from cvpack.trainer import Losses
from lib.models.conv_bn import zero_gradients
from lib.models.loss import build_loss
from lib.models.normalize import build_normalize
from lib.utils import heatmap


class BatchLosses:
    """A batch of train_loader -> the losses. Targets are rendered here, on the device.

    model:    the network, on the device
    unbiased: biases that the forward pass does not use (SOLVER.DROP_BIAS)
    """

    def __init__(self, cfg: EasyDict, model: nn.Module, device: torch.device, unbiased: list[torch.Tensor]) -> None:
        self.cfg, self.model, self.device, self.unbiased = cfg, model, device, unbiased
        self.counters = FusedCounters(model)
        self.normalize, self.criterion = build_normalize(cfg).to(device), build_loss(cfg)

    def __call__(self, batch: dict[str, torch.Tensor]) -> Losses:
        cfg, device = self.cfg, self.device
        image, keypoints = (batch[name].to(device, non_blocking=True) for name in ('image', 'keypoints'))
        joints, visibility = keypoints.split([2, 1], dim=-1)
        labels = heatmap.encode(
            joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS, cfg.CODEC
        )
        with autocast(device.type, cfg.SOLVER.PRECISION), _refusing_single_values(cfg), self.counters:
            outputs = self.model(self.normalize(image))
        losses = self.criterion(outputs, visibility, labels)
        if self.unbiased:
            losses['total_loss'] = zero_gradients(losses['total_loss'], self.unbiased)
        return losses


@contextlib.contextmanager
def _refusing_single_values(cfg: EasyDict) -> Iterator[None]:
    """Raises InputError where any BatchNorm of the network gets a single value per channel."""
    try:
        yield
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        shape, images = list(cfg.INPUT_SHAPE), cfg.SOLVER.IMS_PER_GPU
        raise InputError(
            f'INPUT_SHAPE = {shape} and SOLVER.IMS_PER_GPU = {images} leave a BatchNorm a single value per channel, '
            'which cannot be normalised: increase one of them'
        ) from None
