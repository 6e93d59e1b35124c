"""The network as others use it: in goes the crop of a person as OpenCV gives it, out come heatmaps or joints."""

import copy
from collections.abc import Sequence

import torch
from easydict import EasyDict
from torch import nn

from lib.inference import prepare_for_inference
from lib.utils import heatmap
from lib.utils.codec import CODECS
from lib.utils.transforms import PIXELS_PER_SCALE


class Exportable(nn.Module):
    """Normalisation, network and, if wanted, decoding as one graph; no flip test inside.

    network:      in eval mode
    means, stds:  of BGR pixels / 255
    with_decode:  joints instead of heatmaps
    input_shape:  (H, W) of the crops; kernel, shifts, codec: see heatmap.decode

    Means and crop geometry are buffers, so that the graph moves to another device as a whole.
    """

    def __init__(
        self,
        network: nn.Module,
        means: list[float],
        stds: list[float],
        with_decode: bool,
        input_shape: tuple[int, int],
        kernel: int,
        shifts: list[float],
        codec: str,
    ) -> None:
        super().__init__()
        self.network, self.with_decode = network, with_decode
        self.input_shape, self.kernel, self.shifts, self.codec = input_shape, kernel, shifts, codec
        mean, std = torch.tensor(means), torch.tensor(stds)
        self.register_buffer('factor', 1 / (255 * std))
        self.register_buffer('offset', -mean / std)
        center, scale = _crop_itself(input_shape, codec)
        self.register_buffer('center', center)
        self.register_buffer('scale', scale)
        self.dtype = next(network.parameters()).dtype

    def forward(self, crops: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """crops (N, H, W, 3) uint8, BGR.

        Returns heatmaps (N, K, H/4, W/4) float32, trained towards peaks of 255; or with_decode keypoints (N, K, 2),
        x and y in pixels of the crop, and scores (N, K, 1), both float32.
        """
        images = (crops.float() * self.factor + self.offset).permute(0, 3, 1, 2)
        heatmaps = self.network(images.to(self.dtype))
        heatmaps = heatmaps if heatmaps.dtype == torch.float32 else heatmaps.float()
        if not self.with_decode:
            return heatmaps
        return heatmap.decode(
            heatmaps, self.center, self.scale, self.input_shape, self.kernel, self.shifts, self.codec, traced=True
        )


def _crop_itself(input_shape: Sequence[int], codec: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The center and scale (1, 2) with which heatmap.decode gives pixels of the crop."""
    size = torch.tensor([[float(CODECS[codec].length(count)) for count in input_shape[::-1]]])
    return size / 2, size / PIXELS_PER_SCALE


def build_exportable(cfg: EasyDict, model: nn.Module, with_decode: bool, half: bool) -> Exportable:
    """The deployed form, on the CPU, of a network as it is loaded, which stays as it is.

    half: float16 weights and activations but for the normalisation and from the heatmaps on
    """
    network = prepare_for_inference(cfg, copy.deepcopy(model), torch.device('cpu'))
    network = network.half() if half else network
    exportable = Exportable(
        network,
        cfg.INPUT.MEANS,
        cfg.INPUT.STDS,
        with_decode,
        tuple(cfg.INPUT_SHAPE),
        cfg.TEST.GAUSSIAN_KERNEL,
        cfg.TEST.SHIFT_RATIOS,
        cfg.CODEC,
    )
    return exportable.eval().requires_grad_(False)


def decode_in_crop(cfg: EasyDict, heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps (N, K, h, w) -> keypoints (N, K, 2) in pixels of the crop and scores (N, K, 1)."""
    center, scale = (value.to(heatmaps.device) for value in _crop_itself(cfg.INPUT_SHAPE, cfg.CODEC))
    return heatmap.decode(
        heatmaps, center, scale, cfg.INPUT_SHAPE, cfg.TEST.GAUSSIAN_KERNEL, cfg.TEST.SHIFT_RATIOS, cfg.CODEC
    )
