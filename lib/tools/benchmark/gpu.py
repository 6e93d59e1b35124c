"""Section gpu: all figures of a GPU in the order of their importance, in so many minutes.

A piece that fails, hangs or does not fit into the time left is a row that says so; the others go on. Pieces share a
process, so that they start at once; one that was ended or whose GPU no longer answers is followed by a new process.
"""

import contextlib
import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cvpack.device import configure_device
from cvpack.errors import CleanExit
from lib.tools.benchmark.gpu_resume import resumed
from lib.tools.benchmark.gpu_runs import Failed, gpu_tests, test_run, training
from lib.tools.benchmark.gpu_steps import COMPILED, EAGER, GRAPH, LEAN, PLAIN, WHOLE, Issue, Known, floors, steps_of
from lib.tools.benchmark.measure import Options, Row

SHARE_OF_TESTS = 1 / 4
OTHER_SECONDS = 12.0  # to import what is used, before the clock starts, and to end the process
MAX_TIMES = 3.0  # as long as expected may a piece take
MIN_LIMIT = 60.0


@dataclass(frozen=True)
class Piece:
    """What is measured in one go.

    seconds: about how long that takes, on an H100
    measure: (options, known) -> rows; of a command of its own (options, known, limit in seconds)
    command: whether it is that; alone: whether it needs a process that did nothing before
    """

    name: str
    seconds: float
    measure: Callable[..., Iterator[Row]]
    command: bool = False
    alone: bool = False


def of(*kinds: Issue) -> list[Piece]:
    """A piece for each kind of step."""
    return [Piece(str(kind), _seconds(kind), partial(steps_of, kind=kind)) for kind in kinds]


def _seconds(kind: Issue) -> float:
    if kind.how == WHOLE:
        return 60.0 * kind.stages
    # Plain and eager ones come first, for whom cuDNN looks for its fastest algorithms.
    getting_ready = {PLAIN: 20, EAGER: 10, COMPILED: 100}.get(kind.how, 0)
    return 4 + getting_ready + kind.stages * (2 if kind.batch <= 32 else 4)


def kinds(stages: int, precision: str, batch: int, *how: str) -> list[Issue]:
    """Kinds of step, by how they are run; the most interesting first."""
    return [Issue(stages, precision, batch, one) for one in how or (LEAN, GRAPH, EAGER)]


FIRST = [*kinds(2, 'fp32', 32, PLAIN), *kinds(2, 'bf16', 32, EAGER, GRAPH, LEAN), *kinds(2, 'bf16', 128)]
NEXT = [
    *kinds(2, 'bf16', 32, COMPILED),
    *kinds(2, 'bf16', 128, COMPILED),
    *kinds(4, 'bf16', 32),
    *kinds(1, 'bf16', 32),
    *kinds(2, 'fp32', 32),
    *kinds(2, 'fp32', 128),
]
LAST = [*kinds(4, 'bf16', 128), *kinds(1, 'bf16', 128), *kinds(4, 'fp32', 32), *kinds(1, 'fp32', 32)]
LAST += [*kinds(4, 'fp32', 128), *kinds(1, 'fp32', 128), *kinds(2, 'bf16', 32, WHOLE)]


def plan(options: Options) -> list[Piece]:
    """Everything, the most important first."""
    tests = Piece('GPU tests', 30, gpu_tests, command=True)
    return [
        *([tests] if options.tests else []),
        Piece('floors', 15, floors),
        *of(*FIRST),
        Piece('training from JPEGs, batch 32', 45, partial(training, batch=32), command=True),
        Piece('test, bf16, batch 32', 25, partial(test_run, precision='bf16', batch=32)),
        Piece('resuming', 35, partial(resumed, kinds=tuple(kinds(2, 'bf16', 32, EAGER, GRAPH))), alone=True),
        *of(*NEXT),
        Piece('test, fp32, batch 32', 30, partial(test_run, precision='fp32', batch=32)),
        Piece('training from JPEGs, batch 128', 60, partial(training, batch=128), command=True),
        Piece('test, bf16, batch 128', 25, partial(test_run, precision='bf16', batch=128)),
        *of(*LAST),
    ]


def gpu(options: Options) -> Iterator[Row]:
    """Each row as soon as it is measured."""
    end = time.monotonic() + 60 * options.minutes - OTHER_SECONDS
    known: Known = {}
    with contextlib.closing(Worker(options.device, options.scratch)) as worker:
        for piece in plan(options):
            left = end - time.monotonic()
            if piece.seconds > left:
                yield Row('gpu', f'{piece.name}: skipped, takes about {piece.seconds:.0f} s, {max(left, 0):.0f} left')
                continue
            limit = min(left, max(MAX_TIMES * piece.seconds, MIN_LIMIT))
            try:
                for row in _rows(piece, options, known, worker, limit):
                    known |= {row.name: row.value}
                    yield row
            except (Failed, CleanExit, OSError) as error:
                yield Row('gpu', f'{piece.name}: failed: {error}')


def _rows(piece: Piece, options: Options, known: Known, worker: 'Worker', limit: float) -> Iterator[Row]:
    if not piece.command:
        return worker.rows(partial(piece.measure, options, dict(known)), limit, piece.alone)
    if piece.measure is gpu_tests:
        limit = min(limit, SHARE_OF_TESTS * 60 * options.minutes)
    return piece.measure(options, known, limit)


class Worker:
    """A process that measures, started when it is needed; a new one after one that had to be ended."""

    def __init__(self, device: torch.device, scratch: Path) -> None:
        self.device, self.scratch = device, scratch
        self.process, self.pipe = None, None

    def rows(self, measure: Callable[[], Iterator[Row]], limit: float, alone: bool = False) -> Iterator[Row]:
        """What is measured there, row by row. Raises Failed with the reason why no more come, after `limit` seconds."""
        end = time.monotonic() + limit
        if alone:
            self.close()
        if self.process is None:
            self._start()
        try:
            self.pipe.send(measure)
            while self.pipe.poll(max(end - time.monotonic(), 0)):
                match self.pipe.recv():
                    case Row() as row:
                        yield row
                    case reason, usable:
                        if not usable or alone:
                            self.close()
                        if reason:
                            raise Failed(reason)
                        return
            self.close(wait=0)
            raise Failed(f'took longer than {limit:.0f} s')
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self.close()
            raise Failed(f'its process ended with exit code {code}') from None

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.device, self.scratch))
        self.process.start()
        other.close()

    def close(self, wait: float = 5.0) -> None:
        """Ends the process: by itself within `wait` seconds, or whatever it is at."""
        if self.process is not None:
            self.pipe.close()
            self.process.join(wait)
            self.process.kill()
            self.process.join()
            self.process = None


def _serve(pipe: Connection, device: torch.device, scratch: Path) -> None:
    """The worker: measures what it is sent until the pipe is closed. After the rows it sends (why no more came or '',
    whether it can go on)."""
    # Compiled anew: what an earlier run left would hide how long that takes.
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = str(scratch / 'compiled')
    configure_device(device)
    torch.zeros(1, device=device)  # memory cannot be asked about before
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            measure, reason = pipe.recv(), ''
            try:
                for row in measure():
                    pipe.send(row)
            except BrokenPipeError:
                return
            except CleanExit as error:
                reason = str(error)
            except Exception as error:  # whatever a GPU, a compiler or a network may do
                if not isinstance(error, torch.cuda.OutOfMemoryError):
                    print(traceback.format_exc()[-3000:], file=sys.stderr, flush=True)
                reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            del measure
            pipe.send((reason, _clean(device)))


def _clean(device: torch.device) -> bool:
    """Frees the memory of what was measured; whether the device still answers."""
    if compiler := sys.modules.get('torch._dynamo'):
        compiler.reset()
    gc.collect()
    if device.type != 'cuda':
        return True
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.zeros(1, device=device).item()
    except RuntimeError:
        return False
    return True
