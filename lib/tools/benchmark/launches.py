"""Section launches: the operations that a training step dispatches; on a GPU the host launches each one's kernels."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.tools.benchmark.measure import Options, Row
from lib.tools.benchmark.step import BF16, FP32, Steps

# The number depends on neither, but for the time that counting takes.
BATCH, INPUT = 2, 'INPUT_SHAPE=[32,32]'
# Besides views.
WITHOUT_KERNEL = {'empty', 'empty_like', 'empty_strided', 'new_empty', 'promote_types'}
LOW = torch.bfloat16, torch.float16
# Groups by the file of the project, or of PyTorch, that asks for an operation.
GROUPS = {'lib/utils/heatmap.py': 'targets', 'lib/models/loss.py': 'loss', 'torch/optim/': 'optimiser'}
COUNTERS, COPIES, BACKWARD, FORWARD = "BatchNorm's counters", "autocast's copies", 'backward pass', 'forward pass'


class Dispatched(TorchDispatchMode):
    """Counts operations while it is entered: `all`, and by group in `launching` those that launch kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.launching = 0, Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.all += 1
        if has_kernel(func):
            self.launching[_group(func, args, result)] += 1
        return result


def has_kernel(func: torch._ops.OpOverload) -> bool:
    """Whether an operation computes: it is no view, reads no mere properties and not only allocates."""
    name = func.overloadpacket.__name__
    return func.namespace != 'profiler' and not func.is_view and name not in WITHOUT_KERNEL


def _group(func: torch._ops.OpOverload, args: tuple, result: Any) -> str:
    name = func.overloadpacket.__name__
    first = args[0][0] if name == '_foreach_add_' else args[0] if args else None
    if name in ('add_', '_foreach_add_') and first.dtype == torch.int64:
        return COUNTERS
    if name == '_to_copy' and (first.dtype in LOW or result.dtype in LOW):
        return COPIES
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename.replace('\\', '/')
        for part, group in GROUPS.items():
            if part in file:
                return group
        if file.endswith('torch/autograd/graph.py'):  # where the engine is called from
            return BACKWARD
        frame = frame.f_back
    return FORWARD


def launches_of_a_step(options: Options, settings: tuple[str, ...]) -> Dispatched:
    """What a step of the trainer dispatches, once what is kept from step to step is there."""
    small = dataclasses.replace(options, device=torch.device('cpu'), batch=BATCH, settings=(*options.settings, INPUT))
    steps = Steps(small, settings)
    steps()
    with Dispatched() as counted:
        steps()
    return counted


def launches(options: Options) -> Iterator[Row]:
    """The eager step in fp32 and in bf16: all operations, those that launch kernels, and these by group."""
    for precision, settings in (('fp32', FP32), ('bf16', BF16)):
        counted = launches_of_a_step(options, settings)
        what = f'{options.stages} stages, {precision}, an eager step'
        yield Row('launches', f'{what}: operations dispatched', counted.all)
        total = counted.launching.total()
        yield Row('launches', f'{what}: of these launch kernels', total)
        for group, count in counted.launching.most_common():
            yield Row('launches', f'{what}: {group}', count, total, count / total)
