"""The compute device's settings for this process, and the memory used."""

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator

import torch

from cvpack.errors import InputError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# Configurations of cuBLAS whose results repeat.
CUBLAS_REPEATS = ':4096:8', ':16:8'
# How torch says that an operation cannot be repeated to the bit.
NOT_DETERMINISTIC = ' does not have a deterministic implementation'


def configure_device(device: torch.device, spare_memory: bool = False, deterministic: bool = False) -> None:
    """Settings of this process for speed. Results depend on them, by rounding, on a GPU alone.

    spare_memory:  do not trade a CPU's memory for speed
    deterministic: a GPU's algorithms are those that repeat to the bit, as a CPU's do anyway
    """
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = not deterministic  # which of its algorithms wins depends on the moment
        if deterministic:
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property
            if os.environ.get('CUBLAS_WORKSPACE_CONFIG') not in CUBLAS_REPEATS:
                os.environ['CUBLAS_WORKSPACE_CONFIG'] = CUBLAS_REPEATS[0]  # read when cuBLAS is first used
    elif not spare_memory:
        keep_freed_memory()


@contextlib.contextmanager
def refusing_nondeterminism(option: str) -> Iterator[None]:
    """Turns the error of an operation that has no deterministic algorithm, however wrapped, into InputError.

    option: the setting that asks for such algorithms, for the message
    """
    try:
        yield
    except (RuntimeError, InputError) as error:
        operation, found, _ = str(error).partition(NOT_DETERMINISTIC)
        if not found:
            raise
        raise InputError(f'{option}: {operation} does not repeat to the bit on a GPU: set it to False') from None


def keep_freed_memory() -> None:
    """Makes malloc keep freed memory for reuse, in this process and its forks. Does nothing without glibc.

    By default glibc returns large blocks to the system, which has to clear them, page by page, when the next step
    allocates the same blocks again: nearly half of a step's time on a CPU. Fragmentation costs up to 25 % more memory,
    with activation checkpointing 40 %.
    """
    if mallopt := c_function('mallopt'):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def trim_memory() -> None:
    """Returns free memory to the system, once: in a forked process, the pages that its parent had freed.

    The parent's next write to a page that is still shared would have to copy it.
    """
    if malloc_trim := c_function('malloc_trim'):
        malloc_trim(0)


def c_function(name: str) -> Callable | None:
    """A function of the system's C library; None if there is no such function, or no such library (Windows)."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of this process in GB (1e9 bytes): a GPU's allocations, or the resident set on a CPU.

    NaN where the system does not report it (Windows).
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e9
    if resource is None:
        return math.nan
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
