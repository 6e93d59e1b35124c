"""From crops of people to their joints: one module, and what it predicts for a data set."""

import logging
from collections.abc import Callable, Sequence

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
from lib.datasets.records import Records
from lib.loader import test_loader
from lib.models.conv_bn import fold_batch_norm
from lib.models.normalize import Normalize, build_normalize, memory_format
from lib.utils import heatmap
from lib.utils.codec import CODECS
from lib.utils.transforms import PIXELS_PER_SCALE, mirror_permutation
from lib.utils.views import View, mean_onto

# Batches before one is captured.
WARM_UP = 2
# Where the images and the mirrored ones are one batch, with half the launches; a CPU gains nothing by it, and needs
# twice the memory.
FLIPS_TOGETHER = ('cuda',)

# What computes (N, K, 3) from a batch: x and y in pixels of the whole images, and scores.
Predict = Callable[[dict[str, torch.Tensor]], torch.Tensor]


class Decoder(nn.Module):
    """Heatmaps -> joints.

    input_shape: (H, W) of the crops; kernel, shifts, codec: see heatmap.decode
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, input_shape: Sequence[int], kernel: int, shifts: Sequence[float], codec: str) -> None:
        super().__init__()
        height, width = input_shape
        self.input_shape, self.kernel, self.shifts, self.codec = (height, width), kernel, shifts, codec
        size = torch.tensor([[float(CODECS[codec].length(count)) for count in self.input_shape[::-1]]])
        self.register_buffer('center', size / 2)
        self.register_buffer('scale', size / PIXELS_PER_SCALE)

    def forward(
        self, heatmaps: torch.Tensor, center: torch.Tensor | None = None, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Heatmaps (N, K, h, w) -> (N, K, 3): x, y and score of each joint.

        center, scale: (N, 2), of the crops in the images that x and y are in pixels of; None: in pixels of the crops
        """
        if center is None or scale is None:
            center, scale = self.center, self.scale
        keypoints, scores = heatmap.decode(
            heatmaps, center, scale, self.input_shape, self.kernel, self.shifts, self.codec
        )
        return torch.cat([keypoints, scores], dim=2)


class PoseEstimator(nn.Module):
    """Crops of people -> their heatmaps, or their joints.

    network:     in eval mode, from images as `normalize` returns them to heatmaps (N, K, h, w)
    permutation: (K,) int64, for every joint the index of its mirror joint, for the flip test; None: no flip test
    precision:   of the network, a name of cvpack.precision
    """

    permutation: torch.Tensor | None

    def __init__(
        self,
        normalize: Normalize,
        network: nn.Module,
        decoder: Decoder,
        permutation: torch.Tensor | None = None,
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        self.normalize, self.network, self.decode, self.precision = normalize, network, decoder, precision
        self.register_buffer('permutation', permutation)

    def heatmaps(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (N, H, W, 3) uint8 BGR -> (N, K, h, w) float32; in the flip test the mean with the mirrored crops'."""
        images = self.normalize(crops)
        with autocast(images.device.type, self.precision):
            if self.permutation is None:
                return _full_precision(self.network(images))
            if images.device.type in FLIPS_TOGETHER:
                heatmaps, mirrored = self.network(torch.cat([images, images.flip(-1)])).chunk(2)
            else:
                heatmaps, mirrored = self.network(images), self.network(images.flip(-1))
            return _full_precision((heatmaps + heatmap.mirror(mirrored, self.permutation)) / 2)

    def forward(
        self, crops: torch.Tensor, center: torch.Tensor | None = None, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        """crops (N, H, W, 3) uint8 BGR -> (N, K, 3): x, y and score of each joint; center, scale: see Decoder."""
        return self.decode(self.heatmaps(crops), center, scale)


def _full_precision(heatmaps: torch.Tensor) -> torch.Tensor:
    """In float32 at least, which MSPN's are; a network of an experiment's own may return half precision."""
    return heatmaps.to(torch.promote_types(heatmaps.dtype, torch.float32))


def build_estimator(cfg: EasyDict, network: nn.Module, device: torch.device, half: bool = False) -> PoseEstimator:
    """A configuration's network as it is tested, on the device.

    network: as it is trained or loaded; changed in place: eval mode, BatchNorm folded into the convolutions
    half:    float16 weights and activations, but for the normalisation and from the heatmaps on
    """
    keypoint, test = cfg.DATASET.KEYPOINT, cfg.TEST
    network = fold_batch_norm(network.eval()).to(memory_format=memory_format(cfg))
    return (
        PoseEstimator(
            build_normalize(cfg, torch.float16 if half else torch.float32),
            network.half() if half else network,
            build_decoder(cfg),
            torch.from_numpy(mirror_permutation(keypoint.NUM, keypoint.FLIP_PAIRS)) if test.FLIP else None,
            test.PRECISION,
        )
        .to(device)
        .eval()
    )


def build_decoder(cfg: EasyDict) -> Decoder:
    """The decoding of a configuration's tests."""
    return Decoder(cfg.INPUT_SHAPE, cfg.TEST.GAUSSIAN_KERNEL, cfg.TEST.SHIFT_RATIOS, cfg.CODEC)


def predict(
    cfg: EasyDict, estimators: Sequence[PoseEstimator], records: Records, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, K, 2) in image pixels and scores (n, K, 1) of all records, on rank 0; empty on the others.

    Heatmaps are the mean over the estimators, on the device, and over TEST.SCALES.
    """
    indices, rows = predict_shard(cfg, estimators, records, device)
    parts = dist.gather((indices, rows.double().cpu().numpy()))
    found = np.empty((len(records) if parts else 0, *rows.shape[1:]))
    for indices, rows in parts:
        found[indices] = rows
    return found[..., :2], found[..., 2:]


@torch.inference_mode()
def predict_shard(
    cfg: EasyDict, estimators: Sequence[PoseEstimator], records: Records, device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """This rank's part of the records: their indices, and x, y and score (n, K, 3) of each, still on the device.

    From the second batch on the host waits for nothing that the device computes, so that this is never out of work.
    """
    predict_all, views = batch_predictor(cfg, estimators, device)
    if cfg.TEST.CUDA_GRAPH and device.type == 'cuda':
        predict_all = _replayed(predict_all, device)
    loader = test_loader(cfg, records, views)
    rows = [torch.empty(0, cfg.DATASET.KEYPOINT.NUM, 3, device=device)]
    for batch in tqdm(
        Prefetch(loader, device), desc='test', total=len(loader), disable=None if dist.is_main() else True
    ):
        rows.append(predict_all(batch))
    assert loader.batch_sampler is not None
    return [index for batch in loader.batch_sampler for index in batch], torch.cat(rows)


def batch_predictor(
    cfg: EasyDict, estimators: Sequence[PoseEstimator], device: torch.device
) -> tuple[Predict, list[View]]:
    """The function that predicts a batch on the device, and the views that the batch has to hold besides the base's.

    cfg: of the test, whose crops are the base's; estimators may take crops of other sizes
    """
    base, decoder = View(tuple(cfg.INPUT_SHAPE)), build_decoder(cfg).to(device)
    taken = [(one, View(one.decode.input_shape, zoom)) for one in estimators for zoom in cfg.TEST.SCALES]
    names = {base: 'image'}
    for _, view in taken:
        names.setdefault(view, f'image{len(names)}')
    views = [view for _, view in taken]

    def predict_all(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        maps = [estimator.heatmaps(batch[names[view]]) for estimator, view in taken]
        mean = maps[0] if views == [base] else mean_onto(base, cfg.OUTPUT_SHAPE, views, maps, cfg.CODEC)
        return decoder(mean, batch['center'], batch['scale'])

    return predict_all, list(names)[1:]


def _replayed(predict_all: Predict, device: torch.device) -> Predict:
    """The same function as a CUDA graph."""
    replay = CudaGraph(predict_all, device, WARM_UP, 'TEST.CUDA_GRAPH', logging.getLogger(LOGGER).info)
    return lambda batch: replay(batch).clone()
