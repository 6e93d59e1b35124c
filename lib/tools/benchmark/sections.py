"""The sections by name, and how one is run."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from cvpack.device import make_ready
from lib.tools.benchmark.codec import decode, loss, targets
from lib.tools.benchmark.data import data
from lib.tools.benchmark.inference import test
from lib.tools.benchmark.measure import Options, Row
from lib.tools.benchmark.scaling import scaling
from lib.tools.benchmark.startup import startup
from lib.tools.benchmark.step import step

SECTIONS = {function.__name__: function for function in (data, targets, loss, decode, step, test, startup, scaling)}


def run(name: str, options: Options) -> list[Row]:
    """A section's rows, measured in a process of its own: what one does to memory is not to show in the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(_run, name, options).result()


def _run(name: str, options: Options) -> list[Row]:
    make_ready(options.device)  # as in training
    return list(SECTIONS[name](options))
