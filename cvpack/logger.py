"""Progress on the console, in a file and in TensorBoard, by rank 0 alone.

The line written every `PERIOD` iterations:
    iter 2400/96000 | lr 4.000e-03 | total_loss 101.3127 | 310.4 img/s | data 2% | mem 9.8 GB | left 11:32:10
"""

import contextlib
import io
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cvpack import dist
from cvpack.device import peak_memory_gb

PERIOD = 20
SAMPLES = 'samples'
LOGGER = 'cvpack'


class _ConsoleHandler(logging.Handler):
    """Writes above a progress bar instead of through it. A run outlives its console."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:  # nobody reads it any more, or its disk is full
            with open(os.devnull, 'w') as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            logging.getLogger(LOGGER).error(f'the console cannot be written to ({error.strerror}): continuing without')


class _FileHandler(logging.FileHandler):
    """Says once that it cannot write, instead of a traceback for every line; tries again with each."""

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.has_failed:
            self.has_failed = True
            with contextlib.suppress(OSError):  # which may be on the same full disk
                print(f'{self.baseFilename} cannot be written ({sys.exc_info()[1]}): continuing', file=sys.stderr)


def get_logger(file: Path | None = None) -> logging.Logger:
    """The run's logger, to the console and, if given, a file that is appended to. Silent on ranks other than 0."""
    logger = logging.getLogger(LOGGER)
    logger.propagate = False
    logger.setLevel(logging.INFO if dist.is_main() else logging.ERROR)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # paths may hold characters that the console lacks
    handlers: list[logging.Handler] = [_ConsoleHandler()]
    if file is not None and dist.is_main():
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_FileHandler(file, encoding='utf-8', errors='backslashreplace'))
    for handler in handlers:
        handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%Y-%m-%d %H:%M:%S'))
        logger.addHandler(handler)
    return logger


class DataTimer:
    """Iterates over a loader and adds up the seconds spent waiting for it."""

    def __init__(self, loader: Iterable) -> None:
        self.loader = loader
        self.seconds = 0.0

    def __iter__(self) -> Iterator:
        iterator = iter(self.loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.seconds += time.perf_counter() - start
            yield batch


class TrainLog:
    """Reports a training run: a line and TensorBoard scalars every PERIOD iterations, a bar on a terminal.

    samples:  iteration -> how many samples all processes have seen by its end
    replaces: TensorBoard hides what earlier runs wrote after `start`; their iterations have to be of the same size
    """

    def __init__(
        self,
        logger: logging.Logger,
        tensorboard_dir: Path,
        start: int,
        max_iter: int,
        samples: Callable[[int], int],
        timer: DataTimer,
        device: torch.device,
        replaces: bool = True,
    ) -> None:
        self.logger, self.timer, self.device = logger, timer, device
        self.max_iter, self.samples = max_iter, samples
        self.thread_hook, threading.excepthook = threading.excepthook, self._thread_failed
        purge_step = start + 1 if replaces else None
        self.writer = SummaryWriter(tensorboard_dir, purge_step=purge_step) if dist.is_main() else None
        show_bar = dist.is_main() and sys.stdout.isatty()
        self.bar = tqdm(total=max_iter, initial=start, disable=not show_bar, unit='it', dynamic_ncols=True)
        self.mark = (start, time.perf_counter(), 0.0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time spent inside out of the speed."""
        begin = time.perf_counter()
        yield
        iteration, last_time, wait = self.mark
        self.mark = (iteration, last_time + time.perf_counter() - begin, wait)

    def __call__(self, iteration: int, lr: float, losses: dict[str, float]) -> None:
        """To be called for every iteration (1, 2, ...), once its losses are known."""
        self.bar.update()
        if not dist.is_main() or (iteration % PERIOD and iteration != self.max_iter):
            return
        last_iteration, last_time, last_wait = self.mark
        now, wait = time.perf_counter(), self.timer.seconds
        elapsed, count = now - last_time, iteration - last_iteration
        self.mark = (iteration, now, wait)
        speed = (self.samples(iteration) - self.samples(last_iteration)) / elapsed
        data_share = (wait - last_wait) / elapsed
        memory = peak_memory_gb(self.device)
        left = timedelta(seconds=round((self.max_iter - iteration) * elapsed / count))
        terms = ' | '.join(f'{name} {value:.4f}' for name, value in losses.items())
        self.logger.info(
            f'iter {iteration}/{self.max_iter} | lr {lr:.3e} | {terms} | {speed:.1f} img/s | data {data_share:.0%} | '
            f'mem {"unknown" if math.isnan(memory) else f"{memory:.1f} GB"} | left {left}'
        )
        scalars = {'lr': lr, 'images_per_second': speed, 'data_share': data_share, 'memory_gb': memory}
        self.add(iteration, losses | scalars | {SAMPLES: self.samples(iteration)})

    def add(self, iteration: int, scalars: dict[str, float], images: dict[str, np.ndarray] | None = None) -> None:
        """Adds scalars and images, (H, W, 3) uint8 RGB, to TensorBoard, on rank 0."""
        if self.writer is None:
            return
        try:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, iteration)
            for name, image in (images or {}).items():
                self.writer.add_image(name, image, iteration, dataformats='HWC')
        except OSError as error:  # training continues on a full disk
            self._disable(error)

    def close(self) -> None:
        """Ends the bar and flushes TensorBoard's file."""
        self.bar.close()
        if self.writer is not None:
            try:
                self.writer.close()
            except OSError as error:
                self._disable(error)
        threading.excepthook = self.thread_hook

    def _disable(self, error: OSError) -> None:
        self.logger.error(f'TensorBoard cannot write ({error.strerror}): continuing without it')
        self.writer = None

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """As threading.excepthook: silent about an OSError in TensorBoard's thread, which its next use raises too."""
        is_its = type(failure.thread).__module__.startswith('tensorboard.')
        if not is_its or not issubclass(failure.exc_type, OSError):
            self.thread_hook(failure)
