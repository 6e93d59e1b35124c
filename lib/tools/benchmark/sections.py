"""The sections by name, and how one is run."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from cvpack.device import configure_device
from lib.tools.benchmark.codec import decode, loss, targets
from lib.tools.benchmark.data import data
from lib.tools.benchmark.gpu import gpu
from lib.tools.benchmark.inference import test
from lib.tools.benchmark.launches import launches
from lib.tools.benchmark.measure import Options, Row
from lib.tools.benchmark.step import step

DEFAULT = (data, targets, loss, decode, launches, step, test)
SECTIONS = {function.__name__: function for function in (*DEFAULT, gpu)}


def run(name: str, options: Options) -> Iterator[Row]:
    """A section's rows, measured in a process of its own: what one does to memory is not to show in the next."""
    if SECTIONS[name] is gpu:  # which has processes of its own, and gives each row at once
        yield from gpu(options)
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        yield from process.submit(_run, name, options).result()


def _run(name: str, options: Options) -> list[Row]:
    configure_device(options.device)  # as in training
    return list(SECTIONS[name](options))
