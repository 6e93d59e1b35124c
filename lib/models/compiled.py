"""Compiling a network by its repeated blocks: blocks of the same shapes share their code (SOLVER.COMPILE)."""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.torch_version import TorchVersion

from lib.models.mspn import UpsampleUnit
from lib.models.resnet import BasicBlock, Bottleneck, ConvBNReLU, ResNetStem

# In each of these the passes over the maps between two convolutions become one or two.
BLOCKS = ResNetStem, BasicBlock, Bottleneck, UpsampleUnit, ConvBNReLU


def compile_blocks(model: nn.Module, backend: str | Callable = 'inductor') -> int:
    """Has torch compile each block of the network when it is first called; returns how many blocks there are.

    A block is the outermost module that is one of BLOCKS, or derived from one. So the time until a network is ready
    follows from the kinds of its blocks, and not from its stages. In DistributedDataParallel the gradients of a block
    come, and are exchanged, as without. A network that has no such block is compiled as a whole (0).

    Names of tensors stay; copies of the network are not compiled. CUDA graphs are left to the caller.
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
    """Settings of the process by which blocks that are alike are compiled once, and so many different ones at all."""
    from torch._dynamo import config  # takes a second

    limits = 'recompile_limit', 'accumulated_recompile_limit'
    if not hasattr(config, limits[0]):  # before torch 2.6
        limits = 'cache_size_limit', 'accumulated_cache_size_limit'
    for name in limits:
        # Of one class's code; beyond it torch runs further kinds of blocks uncompiled.
        setattr(config, name, getattr(config, name) + blocks)
    # It would split a block where a bucket of gradients ends, for them to come early: from blocks they do.
    config.optimize_ddp = False
    if TorchVersion(torch.__version__) < '2.5':  # since then it is always so
        config.inline_inbuilt_nn_modules = True
