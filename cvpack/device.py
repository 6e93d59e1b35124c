"""The device that a process computes on: made ready, and how much of its memory was used."""

import ctypes
import math
import sys
from collections.abc import Callable

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def make_ready(device: torch.device, spare_memory: bool = False) -> None:
    """Settings of this process with which the device computes fastest; no result depends on them.

    spare_memory: where the memory that a CPU would use for that is needed
    """
    torch.backends.cudnn.benchmark = True
    if device.type == 'cpu' and not spare_memory:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Has this process, and what it forks, use again the memory that it frees; nothing where malloc is not glibc's.

    glibc gives large blocks back to the system, and a step that takes the same blocks as the last one has them cleared
    again, page by page: nearly half of its time on a CPU. What lies free between blocks takes up to a quarter
    more memory, with activation checkpointing 40 %.
    """
    if mallopt := c_function('mallopt'):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back_freed_memory() -> None:
    """Gives up what is free by now, once: in a forked process its share of what its parent had freed.

    As long as they share a page, the parent's next write to it is a copy.
    """
    if malloc_trim := c_function('malloc_trim'):
        malloc_trim(0)


def c_function(name: str) -> Callable | None:
    """A function of the system's C library; None where it has none of that name, or cannot be asked, as on Windows."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of this process in GB (1e9 bytes): the GPU's allocations, or the resident set on a CPU.

    NaN where the system does not tell, as on Windows.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e9
    if resource is None:
        return math.nan
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
