"""Section gpu: every measurement of a GPU, the most important first, within the given minutes.

A piece that fails, hangs or does not fit into the remaining time becomes a row that says so, and the next one follows.
Pieces share a process, which saves start-up time; after one that fails, hangs or dies there is a new one.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from cvpack.device import configure_device
from cvpack.errors import CleanExit
from lib.tools.benchmark.gpu_pieces import (
    EAGER,
    EXACT,
    FASTEST,
    GRAPH,
    LEAN,
    PLAIN,
    Failed,
    Known,
    StepKind,
    floors,
    gpu_tests,
    many_tested,
    steps_of,
    training,
)
from lib.tools.benchmark.measure import Options, Row

RATIO_OF_TESTS = 1 / 4  # of all the time
OTHER_SECONDS = 12.0  # to import what is used, before the clock starts, and to end the process
MAX_TIMES = 3.0  # as long as expected may a piece take
MIN_LIMIT = 60.0


@dataclass(frozen=True)
class Piece:
    """What is measured in one go.

    seconds: about how long that takes, on an H100
    measure: (options, known) -> rows; of a command of its own (options, known, limit in seconds)
    command: whether it is that
    """

    name: str
    seconds: float
    measure: Callable[..., Iterator[Row]]
    command: bool = False


def _of(stages: int, precision: str, batch: int, *how: str) -> list[Piece]:
    """A piece for each kind of step, by how it is run."""
    pieces = []
    for kind in (StepKind(stages, precision, batch, one) for one in how):
        # These come first, for whom cuDNN looks for its fastest algorithms; kernels are compiled.
        getting_ready = {PLAIN: 20, FASTEST: 12}.get(kind.how, 0)
        seconds = 4 + getting_ready + stages * (2 if batch <= 32 else 4)
        pieces.append(Piece(str(kind), seconds, partial(steps_of, kind=kind)))
    return pieces


def plan(options: Options) -> list[Piece]:
    """Everything, the most important first."""
    tests = Piece('GPU tests', 45, gpu_tests, command=True)
    return [
        *([tests] if options.tests else []),
        Piece('floors', 15, floors),
        *_of(2, 'fp32', 32, PLAIN),
        *_of(2, 'bf16', 32, FASTEST, EAGER, GRAPH, LEAN),
        *_of(2, 'bf16', 128, FASTEST, LEAN),
        Piece('training from JPEGs, batch 32', 45, partial(training, batch=32), command=True),
        Piece('test, bf16, batch 32', 25, partial(many_tested, precision='bf16', batch=32)),
        *_of(4, 'bf16', 32, FASTEST),
        *_of(1, 'bf16', 32, FASTEST),
        *_of(2, 'bf16', 32, EXACT),
        *_of(2, 'fp32', 32, FASTEST),
        Piece('training from JPEGs, batch 128', 60, partial(training, batch=128), command=True),
        Piece('test, bf16, batch 128', 25, partial(many_tested, precision='bf16', batch=128)),
        *(piece for stages in (4, 1) for piece in _of(stages, 'bf16', 128, FASTEST)),
        *_of(2, 'fp32', 128, FASTEST),
        *_of(2, 'fp32', 32, EAGER, GRAPH, LEAN),
        *_of(2, 'bf16', 128, EAGER, GRAPH),
        *(piece for stages in (4, 1) for piece in _of(stages, 'bf16', 32, EAGER, GRAPH, LEAN)),
        *(piece for stages in (4, 1) for piece in _of(stages, 'fp32', 32, FASTEST, PLAIN)),
        Piece('test, fp32, batch 32', 30, partial(many_tested, precision='fp32', batch=32)),
    ]


def gpu(options: Options) -> Iterator[Row]:
    """The rows of a piece as soon as it is measured."""
    end = time.monotonic() + 60 * options.minutes - OTHER_SECONDS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and so ends what it started
    known: Known = {}
    with contextlib.closing(Worker(options.device, options.scratch)) as worker:
        for piece in plan(options):
            left = end - time.monotonic()
            if piece.seconds > left:
                yield Row('gpu', f'{piece.name}: skipped, takes about {piece.seconds:.0f} s, {max(left, 0):.0f} left')
                continue
            limit = min(left, max(MAX_TIMES * piece.seconds, MIN_LIMIT))
            if piece.measure is gpu_tests:
                limit = min(limit, RATIO_OF_TESTS * 60 * options.minutes)
            measure = partial(piece.measure, options, dict(known))
            try:
                for row in measure(limit) if piece.command else worker.rows(measure, limit):
                    known |= {row.name: row.value}
                    yield row
            except (Failed, CleanExit, OSError) as error:
                yield Row('gpu', f'{piece.name}: failed: {error}')


class Worker:
    """A process that measures, started when it is needed; a new one after one that failed, hung or died."""

    def __init__(self, device: torch.device, scratch: Path) -> None:
        self.device, self.scratch = device, scratch
        self.pool: ProcessPoolExecutor | None = None
        self.pid: int | None = None

    def rows(self, measure: Callable[[], Iterator[Row]], limit: float) -> Iterator[Row]:
        """What is measured there. Raises Failed with the reason why there is no more, after `limit` seconds too."""
        if self.pool is None:
            context = multiprocessing.get_context('spawn')
            self.pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self.device, self.scratch))
        start = time.monotonic()
        try:
            self.pid = self.pid or self.pool.submit(os.getpid).result(limit)
            left = limit - (time.monotonic() - start)
            rows, reason = self.pool.submit(_measure, measure, self.device).result(max(left, 0))
        except TimeoutError:
            self.close()
            raise Failed(f'took longer than {limit:.0f} s') from None
        except BrokenProcessPool:
            self.close()
            raise Failed('its process died') from None
        yield from rows
        if reason:
            self.close()  # a failed capture, and many an error, leave a process's GPU unusable
            raise Failed(reason)

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.pid = None, None


def _begin(device: torch.device, scratch: Path) -> None:
    # Compiled anew: what an earlier run left would hide how long that takes.
    os.environ['TRITON_CACHE_DIR'] = str(scratch / 'compiled')
    torch.zeros(1, device=device)  # memory cannot be asked about before


def _measure(measure: Callable[[], Iterator[Row]], device: torch.device) -> tuple[list[Row], str]:
    """In the worker: the rows, and why there are no more or ''."""
    rows, reason = [], ''
    torch.use_deterministic_algorithms(False)  # the piece before may have asked for them
    configure_device(device)
    try:
        for row in measure():
            rows.append(row)
    except CleanExit as error:
        reason = str(error)
    except Exception as error:  # whatever a GPU, a compiler or a network may do
        if not isinstance(error, torch.cuda.OutOfMemoryError):
            print(traceback.format_exc()[-3000:], file=sys.stderr, flush=True)
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    gc.collect()
    if device.type == 'cuda' and not reason:
        torch.cuda.empty_cache()
    return rows, reason
