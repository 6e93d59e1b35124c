"""The network as others use it: in goes the crop of a person as OpenCV gives it, out come heatmaps or joints."""

import copy

import torch
from easydict import EasyDict
from torch import nn

from lib.testing import ready_to_test
from lib.utils import heatmap
from lib.utils.transforms import PIXELS_PER_SCALE


class Deployed(nn.Module):
    """Normalisation, network and, if wanted, decoding as one graph; no flip test inside.

    network:      in eval mode; its heatmaps are float32 whatever its weights are
    means, stds:  of BGR pixels / 255
    with_decode:  joints instead of heatmaps
    input_shape:  (H, W) of the crops; kernel, shifts: see heatmap.decode

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
    ) -> None:
        super().__init__()
        self.network, self.with_decode = network, with_decode
        self.input_shape, self.kernel, self.shifts = input_shape, kernel, shifts
        mean, std, size = torch.tensor(means), torch.tensor(stds), torch.tensor(input_shape[::-1])
        self.register_buffer('factor', 1 / (255 * std))
        self.register_buffer('offset', -mean / std)
        self.register_buffer('center', size[None] / 2)
        self.register_buffer('scale', size[None] / PIXELS_PER_SCALE)
        self.dtype = next(network.parameters()).dtype

    def forward(self, crops: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """crops (N, H, W, 3) uint8, BGR.

        Returns heatmaps (N, K, H/4, W/4) float32, peaks near 255; or with_decode keypoints (N, K, 2), x and y in
        pixels of the crop, and scores (N, K, 1), both float32.
        """
        images = (crops.float() * self.factor + self.offset).permute(0, 3, 1, 2)
        heatmaps = self.network(images.to(self.dtype))
        if not self.with_decode:
            return heatmaps
        return heatmap.decode(
            heatmaps, self.center, self.scale, self.input_shape, self.kernel, self.shifts, traced=True
        )


def build_deployed(cfg: EasyDict, model: nn.Module, with_decode: bool, half: bool) -> Deployed:
    """The deployed form, on the CPU, of a network as it is loaded, which stays as it is.

    half: float16 weights and activations but for the normalisation and from the heatmaps on
    """
    network = ready_to_test(cfg, copy.deepcopy(model), torch.device('cpu'))
    network = network.half() if half else network
    shape, test = tuple(cfg.INPUT_SHAPE), cfg.TEST
    inputs = cfg.INPUT
    deployed = Deployed(network, inputs.MEANS, inputs.STDS, with_decode, shape, test.GAUSSIAN_KERNEL, test.SHIFT_RATIOS)
    return deployed.eval().requires_grad_(False)


def decode_in_crop(cfg: EasyDict, heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps (N, K, h, w) -> keypoints (N, K, 2) in pixels of the crop and scores (N, K, 1)."""
    size = torch.tensor(cfg.INPUT_SHAPE[::-1], dtype=torch.float32, device=heatmaps.device)[None]
    test = cfg.TEST
    return heatmap.decode(
        heatmaps, size / 2, size / PIXELS_PER_SCALE, cfg.INPUT_SHAPE, test.GAUSSIAN_KERNEL, test.SHIFT_RATIOS
    )
