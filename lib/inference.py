"""A network ready to use: from crops of people to their joints; predictions of a data set."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from easydict import EasyDict
from torch import nn
from tqdm import tqdm

from cvpack import dist
from cvpack.cuda_graph import CudaGraph
from cvpack.logger import LOGGER
from cvpack.precision import autocast
from cvpack.prefetch import Prefetch
from lib.datasets.joints import Records
from lib.loader import memory_format, normalize, test_loader
from lib.models.resnet import fold_batch_norm
from lib.utils import heatmap
from lib.utils.transforms import mirror_permutation
from lib.utils.views import View, mean_onto

# Batches before one is captured.
WARM_UP = 2
# Where the images and the mirrored ones are one batch, with half the launches; a CPU gains nothing by it, and needs
# twice the memory.
FLIPS_TOGETHER = ('cuda',)

# What computes (N, K, 3) from a batch: x and y in pixels of the whole images, and scores.
Predict = Callable[[dict[str, torch.Tensor]], torch.Tensor]


@dataclass
class Member:
    """A network of an ensemble, as ready_to_test leaves it, and the configuration of its input."""

    cfg: EasyDict
    model: nn.Module


def prepare_for_inference(cfg: EasyDict, model: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, in eval mode, BatchNorm folded into the convolutions; changed in place."""
    return fold_batch_norm(model.eval()).to(device, memory_format=memory_format(cfg))


def flip_permutation(cfg: EasyDict, device: torch.device) -> torch.Tensor:
    """(K,) int64, for every joint the index of its mirror joint, on the device."""
    keypoint = cfg.DATASET.KEYPOINT
    return torch.from_numpy(mirror_permutation(keypoint.NUM, keypoint.FLIP_PAIRS)).to(device)


def predict_heatmaps(cfg: EasyDict, model: nn.Module, images: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """(N, K, h, w) float32 heatmaps of normalised images; with TEST.FLIP the mean with the mirrored images'.

    permutation: flip_permutation on the images' device
    """
    with autocast(images.device.type, cfg.TEST.PRECISION):
        if not cfg.TEST.FLIP:
            return model(images)
        if images.device.type in FLIPS_TOGETHER:
            heatmaps, mirrored = model(torch.cat([images, images.flip(-1)])).chunk(2)
        else:
            heatmaps, mirrored = model(images), model(images.flip(-1))
        return (heatmaps + heatmap.mirror(mirrored, permutation)) / 2


def predict_batch(
    cfg: EasyDict, model: nn.Module, batch: dict[str, torch.Tensor], permutation: torch.Tensor
) -> torch.Tensor:
    """(N, K, 3) of a batch of crops: joints' x and y in pixels of the whole images, and scores.

    batch: what lib.datasets.joints.crop_person returns, stacked; on the model's device, as the result is
    model: as ready_to_test leaves it; permutation: flip_permutation
    """
    return _decode(cfg, predict_heatmaps(cfg, model, normalize(batch['image'], cfg), permutation), batch)


def _decode(cfg: EasyDict, heatmaps: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(N, K, 3) of the heatmaps of a batch's crops, as predict_batch returns it."""
    keypoints, scores = heatmap.decode(
        heatmaps,
        batch['center'],
        batch['scale'],
        cfg.INPUT_SHAPE,
        cfg.TEST.GAUSSIAN_KERNEL,
        cfg.TEST.SHIFT_RATIOS,
        cfg.CODEC,
    )
    return torch.cat([keypoints, scores], dim=2)


def predict(
    cfg: EasyDict, model: nn.Module | Sequence[Member], records: Records, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, K, 2) in image pixels and scores (n, K, 1) of all records, on rank 0; empty on the others.

    model: as ready_to_test leaves it; or the members of an ensemble
    Heatmaps are the mean over the members and over TEST.SCALES.
    """
    members = [Member(cfg, model)] if isinstance(model, nn.Module) else model
    indices, rows = predict_own(cfg, members, records, device)
    parts = dist.gather((indices, rows.double().cpu().numpy()))
    found = np.empty((len(records) if parts else 0, *rows.shape[1:]))
    for indices, rows in parts:
        found[indices] = rows
    return found[..., :2], found[..., 2:]


@torch.inference_mode()
def predict_own(
    cfg: EasyDict, members: Sequence[Member], records: Records, device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """This rank's part of the records: their indices, and x, y and score (n, K, 3) of each, still on the device.

    From the second batch on the host waits for nothing that the device computes, so that this is never out of work.
    """
    predict_all, views = batch_predictor(cfg, members, device)
    if cfg.TEST.CUDA_GRAPH and device.type == 'cuda':
        predict_all = _replayed(predict_all, device)
    loader = test_loader(cfg, records, views)
    rows = [torch.empty(0, cfg.DATASET.KEYPOINT.NUM, 3, device=device)]
    for batch in tqdm(
        Prefetch(loader, device), desc='test', total=len(loader), disable=None if dist.is_main() else True
    ):
        rows.append(predict_all(batch))
    return [index for batch in loader.batch_sampler for index in batch], torch.cat(rows)


def batch_predictor(cfg: EasyDict, members: Sequence[Member], device: torch.device) -> tuple[Predict, list[View]]:
    """The function that predicts a batch on the device, and the views that the batch has to hold besides the base's."""
    permutation = flip_permutation(cfg, device)
    base = View(tuple(cfg.INPUT_SHAPE))
    taken = [(member, View(tuple(member.cfg.INPUT_SHAPE), zoom)) for member in members for zoom in cfg.TEST.SCALES]
    names = {base: 'image'}
    for _, view in taken:
        names.setdefault(view, f'image{len(names)}')
    views = [view for _, view in taken]

    def predict_all(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = ((member, normalize(batch[names[view]], member.cfg)) for member, view in taken)
        maps = [predict_heatmaps(cfg, member.model, images, permutation) for member, images in inputs]
        mean = maps[0] if views == [base] else mean_onto(base, cfg.OUTPUT_SHAPE, views, maps, cfg.CODEC)
        return _decode(cfg, mean, batch)

    return predict_all, list(names)[1:]


def _replayed(predict_all: Predict, device: torch.device) -> Predict:
    """The same function as a CUDA graph."""
    replay = CudaGraph(predict_all, device, WARM_UP, 'TEST.CUDA_GRAPH', logging.getLogger(LOGGER).info)
    return lambda batch: replay(batch).clone()
