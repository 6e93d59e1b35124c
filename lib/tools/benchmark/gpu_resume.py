"""Of the section gpu: resuming to the bit under deterministic algorithms, and what they cost."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator

import torch

from cvpack import checkpoint
from lib.tools.benchmark.gpu_steps import DIFFERENT_BATCHES, Issue, Known, seconds_of_a_step, wait_for
from lib.tools.benchmark.measure import Options, Row, compare
from lib.tools.benchmark.step import Steps

RESUMED_AFTER = 8  # steps: a graph is captured by then


def resumed(options: Options, known: Known, kinds: tuple[Issue, ...]) -> Iterator[Row]:
    """Weights of an unbroken run against those of one that stopped and went on, under deterministic algorithms."""
    first = None
    with _deterministic():
        for kind in kinds:
            own = kind.options(options)
            steps = Steps(own, kind.settings, DIFFERENT_BATCHES)
            _take(steps, 2 * RESUMED_AFTER)
            unbroken = _weights(steps)
            start = time.perf_counter()
            steps()
            wait_for(options.device)
            seconds = seconds_of_a_step(steps, options.device, about=time.perf_counter() - start)
            del steps
            different = _different(unbroken, _stopped_and_resumed(own, kind))
            yield Row('gpu', f'{kind}, numbers that differ after resuming', different, reach='<= 0')
            if usual := known.get(f'{kind}, ms'):
                yield compare('gpu', f'{kind}, deterministic against usual, ms', 1000 * seconds, usual)
            if first is None:
                first = unbroken
            else:
                name = f'{kind}, numbers that differ from {kinds[0].how}'
                yield Row('gpu', name, _different(first, unbroken), reach='<= 0')


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Of the same numbers the same results, in this process and the next: no algorithm is chosen by its speed."""
    os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'  # of use only before this process first multiplies matrices
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


def _take(steps: Steps, count: int) -> None:
    for _ in range(count):
        steps()


def _weights(steps: Steps) -> dict[str, torch.Tensor]:
    """Copies in host memory."""
    return {name: value.cpu().clone() for name, value in steps.trainer.model.state_dict().items()}


def _stopped_and_resumed(options: Options, kind: Issue) -> dict[str, torch.Tensor]:
    """The weights of a run of the same length whose second half another trainer takes, from a checkpoint."""
    path = options.scratch / 'stopped.pth'
    steps = Steps(options, kind.settings, DIFFERENT_BATCHES)
    _take(steps, RESUMED_AFTER)
    checkpoint.write(path, steps.trainer.state(RESUMED_AFTER))
    del steps
    steps = Steps(options, kind.settings, DIFFERENT_BATCHES)
    steps.trainer.resume(path, logging.getLogger('benchmark'))
    steps.iteration = RESUMED_AFTER
    _take(steps, RESUMED_AFTER)
    return _weights(steps)


def _different(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> int:
    """How many numbers differ."""
    return sum(int((value != b[name]).sum()) for name, value in a.items())
