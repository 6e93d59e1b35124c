"""Compiling a network block by block: blocks of the same shapes share compiled code (SOLVER.COMPILE)."""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.torch_version import TorchVersion

from lib.models.mspn import UpsampleUnit
from lib.models.resnet import BasicBlock, Bottleneck, ConvBNReLU, ResNetStem

# In each of these the elementwise work between two convolutions becomes one or two passes.
BLOCKS = ResNetStem, BasicBlock, Bottleneck, UpsampleUnit, ConvBNReLU


def compile_blocks(model: nn.Module, backend: str | Callable = 'inductor') -> int:
    """Makes torch compile each block of the network on its first call; returns the number of blocks.

    A block is an outermost module of a class in BLOCKS, or derived from one. Compile time then depends on how many
    kinds of blocks there are, not on the number of stages. In DistributedDataParallel a block's gradients are exchanged
    as early as without compiling. A network without such blocks is compiled in one piece (0).

    Tensor names do not change; copies of the network are not compiled. CUDA graphs are left to the caller.
    """
    blocks = list(_outermost(model))
    if blocks:
        _share_code(len(blocks))
    for block in blocks or [model]:
        block.compile(backend=backend, dynamic=False)
    return len(blocks)


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, BLOCKS):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _share_code(blocks: int) -> None:
    """Process-wide settings that compile equal blocks once, and allow for that many different ones."""
    from torch._dynamo import config  # takes a second

    limits = 'recompile_limit', 'accumulated_recompile_limit'
    if not hasattr(config, limits[0]):  # before torch 2.6
        limits = 'cache_size_limit', 'accumulated_cache_size_limit'
    for name in limits:
        # Per class; beyond the limit torch runs further kinds of blocks uncompiled.
        setattr(config, name, getattr(config, name) + blocks)
    # It splits compiled code where a bucket of gradients ends, to exchange them early: blocks are small enough.
    config.optimize_ddp = False
    if TorchVersion(torch.__version__) < '2.5':  # the default since then
        config.inline_inbuilt_nn_modules = True
