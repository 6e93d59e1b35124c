"""What the sections share: options, rows of the report, functions timed in turns, commands with a time limit."""

import contextlib
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from easydict import EasyDict

from cvpack.device import configure_device
from cvpack.errors import InputError
from cvpack.precision import cpu_multiplies
from lib.config import REPOSITORY, coco_defaults, override


@dataclass(frozen=True)
class Options:
    """What the command line chose.

    root:    folder of a data set in COCO's published layout
    scratch: an empty folder to work in
    stages, batch: of the network in the sections step, test and launches
    repeats: of every measurement; medians are reported
    settings: more of the configuration's, before a section's own
    minutes, tests: of the section gpu: how long it may take, and whether it runs the GPU tests
    """

    root: Path
    scratch: Path
    device: torch.device
    stages: int
    batch: int
    repeats: int
    settings: tuple[str, ...] = ()
    minutes: float = 8.0
    tests: bool = True

    def config(self, *settings: str) -> EasyDict:
        """The COCO configuration, with the options' network and data."""
        cfg = coco_defaults()
        data = f'DATASET.ROOT={self.root}', f'OUTPUT_DIR={self.scratch}'
        network = f'MODEL.STAGE_NUM={self.stages}', f'SOLVER.IMS_PER_GPU={self.batch}'
        override(cfg, [*data, *network, *self.settings, *settings])
        return cfg

    @property
    def fastest(self) -> str:
        """The precision that the device is fastest in: a CPU without bf16 instructions takes minutes for a step."""
        return 'bf16' if self.device.type == 'cuda' or cpu_multiplies('bf16') else 'fp32'

    def needs_data(self) -> None:
        """Raises InputError unless there is a data set."""
        if not (self.root / 'gt_json').is_dir():
            raise InputError(
                f'{self.root} has no data set in the published layout: prepare COCO (python -m lib.tools.prepare -h), '
                'name another one with --root, or choose sections that need none'
            )


@dataclass(frozen=True)
class Row:
    """A line of the report.

    value, against: in the unit that `name` gives; against is the floor measured in the same run, if there is one.
        Without a value the name says what was not measured, and why
    ratio: value / against unless stated otherwise in the name
    reach: '<= x' or '>= x', for the ratio, or for the value where there is no ratio; '' for a mere report
    """

    section: str
    name: str
    value: float | None = None
    against: float | None = None
    ratio: float | None = None
    reach: str = ''

    @property
    def met(self) -> bool | None:
        """Whether the aim was reached; None where there is none."""
        measured = self.value if self.ratio is None else self.ratio
        if not self.reach or measured is None:
            return None
        sign, bound = self.reach.split()
        return measured <= float(bound) if sign == '<=' else measured >= float(bound)


def compare(section: str, name: str, value: float, against: float, reach: str = '') -> Row:
    """A row whose ratio is value / against."""
    return Row(section, name, value, against, value / against, reach)


def take_turns(
    repeats: int, *functions: Callable[[], object], device: torch.device | None = None, warm_up: int = 1
) -> list[float]:
    """The median seconds of each function. They take turns, so that what else the machine does strikes all alike.

    device:  where the functions leave work behind; a GPU's is waited for
    warm_up: turns before, which do not count
    """
    wait = torch.cuda.synchronize if device is not None and device.type == 'cuda' else lambda: None
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(warm_up + repeats):
        for function, own in zip(functions, times):
            wait()
            start = time.perf_counter()
            function()
            wait()
            if turn >= warm_up:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch and OpenCV on a single thread each."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def in_a_process(section: Callable[[Options], Iterable[Row]], options: Options) -> list[Row]:
    """A section's rows, measured in a process of its own: what one does to memory is not to show in the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(_run, section, options).result()


def _run(section: Callable[[Options], Iterable[Row]], options: Options) -> list[Row]:
    configure_device(options.device)  # as in training
    return list(section(options))


def machine(device: torch.device) -> str:
    """The machine in a line: processor, cores, GPU, versions."""
    names = [platform.processor() or platform.machine()]
    with contextlib.suppress(OSError):  # only Linux has it
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        names = [line.partition(': ')[2] for line in lines if line.startswith('model name')][:1] or names
    names.append(f'{os.cpu_count()} cores')
    if device.type == 'cuda':
        names.append(torch.cuda.get_device_name(device))
    return ', '.join([*names, f'torch {torch.__version__}', f'OpenCV {cv2.__version__}'])


def finish(command: list[str], folder: Path, limit: float) -> tuple[str, int | None]:
    """Runs a command to its end, or for `limit` seconds: it and what it started are ended. Its output and exit code.

    The code is None if it was ended.
    """
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get('PYTHONPATH', ''))))
    environment = {**os.environ, 'PYTHONPATH': paths, 'PYTHONUNBUFFERED': '1'}
    pipe: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipe)
    try:
        return process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        return _end(process), None
    finally:
        if process.returncode is None:
            _end(process)


def _end(process: subprocess.Popen) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]
