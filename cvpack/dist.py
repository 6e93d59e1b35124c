"""Processes and devices. One process is world size 1, not another code path.

The launcher (torchrun, `python -m torch.distributed.launch`, Slurm wrappers) describes the world in environment
variables; without them the world is this process alone. The global rank decides shards of data and who writes
files; the local rank decides the device.
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as torch_dist

from cvpack.errors import InputError


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Accepts the rank argument that torch.distributed.launch passes, in both of its spellings."""
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def setup(device_type: str, local_rank: int | None = None) -> torch.device:
    """Joins the process group that the launcher described, if it did, and returns this process's device.

    device_type: 'cuda' or 'cpu'; nccl serves the first, gloo the second.
    local_rank:  the launcher's argument; the environment's LOCAL_RANK goes before it.
    """
    index = int(os.environ.get('LOCAL_RANK', local_rank or 0))
    device = torch.device(device_type, index if device_type == 'cuda' else None)
    if device.type == 'cuda':
        if index >= torch.cuda.device_count():
            raise InputError(
                f'process {index} has no GPU: there are {torch.cuda.device_count()}; start fewer processes'
            )
        torch.cuda.set_device(device)
    launched = {'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'} <= os.environ.keys()
    if launched and not torch_dist.is_initialized():
        backend = 'nccl' if device.type == 'cuda' else 'gloo'
        torch_dist.init_process_group(backend, device_id=device if device.type == 'cuda' else None)
    return device


def is_distributed() -> bool:
    """Whether a launcher started this process, be it the only one of its world."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """Global rank; 0 when alone."""
    return torch_dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes on all nodes; 1 when alone."""
    return torch_dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes the files and speaks to the user."""
    return rank() == 0


def barrier() -> None:
    """Waits until every process is here."""
    if is_distributed():
        torch_dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Its body runs on rank 0 alone, then on the others, which find what that one left on the disk."""
    if not is_main():
        barrier()
    try:
        yield
    finally:
        if is_main():
            barrier()


def gather(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on rank 0; an empty list on the others."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size() if is_main() else []
    torch_dist.gather_object(value, values if is_main() else None)
    return values


def cleanup() -> None:
    """Leaves the process group, so that the launcher sees a clean end."""
    if is_distributed():
        torch_dist.destroy_process_group()
