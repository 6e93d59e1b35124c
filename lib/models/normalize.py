"""Crops of people -> the network's input."""

import torch
from easydict import EasyDict
from torch import nn

# With fewer channels, channels last, PyTorch 2.14's 1x1 convolutions of stride 2 crash in the backward pass on a CPU.
MIN_WIDTH = 16


class Normalize(nn.Module):
    """(N, H, W, 3) uint8 BGR crops -> (N, 3, H, W), (x / 255 - mean) / std.

    means, stds:   of BGR pixels / 255
    memory_format: of the result
    dtype:         of the result; computed in float32
    """

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        means: list[float],
        stds: list[float],
        memory_format: torch.memory_format = torch.contiguous_format,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.memory_format, self.dtype = memory_format, dtype
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (means, stds))
        self.register_buffer('factor', 1 / (255 * std))
        self.register_buffer('offset', -mean / std)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        normalized = torch.addcmul(self.offset, crops.float(), self.factor).permute(0, 3, 1, 2)
        return normalized.contiguous(memory_format=self.memory_format).to(self.dtype)


def build_normalize(cfg: EasyDict, dtype: torch.dtype = torch.float32) -> Normalize:
    """The normalisation of a configuration, in its memory layout. dtype: of the result."""
    return Normalize(cfg.INPUT.MEANS, cfg.INPUT.STDS, memory_format(cfg), dtype)


def memory_format(cfg: EasyDict) -> torch.memory_format:
    """How the network and its input lie in memory; narrow networks never channels last."""
    fits = cfg.MODEL.WIDTH >= MIN_WIDTH
    return torch.channels_last if cfg.SOLVER.CHANNELS_LAST and fits else torch.contiguous_format
