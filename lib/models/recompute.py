"""RUN_EFFICIENT: blocks whose activations are recomputed in the backward pass, which saves their memory."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., torch.Tensor], *inputs: object, owner: nn.Module, efficient: bool) -> torch.Tensor:
    """block(*inputs); if `efficient`, the activations inside it are recomputed in the backward pass.

    owner: the module that contains all that block runs; block itself if it is a module
    """
    if not (efficient and torch.is_grad_enabled()):
        return block(*inputs)
    return checkpoint(
        block,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _frozen_statistics(owner)),
    )


@contextlib.contextmanager
def _frozen_statistics(owner: nn.Module) -> Iterator[None]:
    """Gives BatchNorms copies of their running statistics, so that recomputing does not update these a second time."""
    norms = [module for module in owner.modules() if isinstance(module, _BatchNorm)]
    statistics = [dict(norm.named_buffers()) for norm in norms]
    for norm, own in zip(norms, statistics):
        for name, buffer in own.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, own in zip(norms, statistics):
            for name, buffer in own.items():
                setattr(norm, name, buffer)
