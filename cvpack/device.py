"""The device that a process computes on: made ready, and how much of its memory was used."""

import ctypes
import resource

import torch

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
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_back_freed_memory() -> None:
    """Gives up what is free by now, once: in a forked process its share of what its parent had freed.

    As long as they share a page, the parent's next write to it is a copy.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'malloc_trim'):
        libc.malloc_trim(0)


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of this process in GB (1e9 bytes): the GPU's allocations, or the resident set on a CPU."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
