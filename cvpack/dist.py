"""Processes and devices. One process is world size 1, not another code path.

The launcher (torchrun, `python -m torch.distributed.launch`, Slurm wrappers) describes the world in environment
variables; without them the world is this process alone. The global rank decides shards of data and who writes
files; the local rank decides the device.
"""

import argparse
import contextlib
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as torch_dist

from cvpack.errors import Ending, InputError, PeerLost

# Seconds.
DEFAULT_TIMEOUT = 600
POLL = 0.5
# Below the ports that systems give to outgoing connections, one of which could take it first.
FREE_PORTS = range(20000, 30000)
# How gloo, nccl and the store say that the other side is gone.
LOST = re.compile(r'timed? ?out|closed by peer|connection (reset|refused|closed)|broken pipe|nccl', re.IGNORECASE)

# Where GPUs have nccl between them: the same processes, joined by gloo.
_host_group: torch_dist.ProcessGroup | None = None


def free_port() -> int:
    """A port of this machine that nobody listens on, for processes that are about to meet there."""
    while True:
        port = random.choice(FREE_PORTS)
        with contextlib.suppress(OSError), socket.create_server(('127.0.0.1', port)):
            return port


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Accepts the rank argument that torch.distributed.launch passes, in both of its spellings."""
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def setup(device_type: str, local_rank: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> torch.device:
    """Joins the process group that the launcher described, if it did, and returns this process's device.

    device_type: 'cuda' or 'cpu'; nccl serves the first, gloo the second.
    local_rank:  the launcher's argument; the environment's LOCAL_RANK goes before it.
    timeout:     seconds that a process waits for the others before it gives them up
    Raises InputError where the others cannot be met.
    """
    global _host_group
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
        on_gpu = device.type == 'cuda'
        limit = timedelta(seconds=timeout)
        try:
            torch_dist.init_process_group(
                'nccl' if on_gpu else 'gloo', timeout=limit, device_id=device if on_gpu else None
            )
        except (RuntimeError, ValueError) as error:
            address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
            reason = str(error).strip().partition('\n')[0][:200]
            raise InputError(
                f'MASTER_ADDR:MASTER_PORT = {address}: cannot meet the other processes ({reason}): '
                'check that all were started, and that the port is free'
            ) from None
        _host_group = torch_dist.new_group(backend='gloo', timeout=limit) if on_gpu else None
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


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag whether it is set on any rank, the same on all. Waits for the hosts, not for their GPUs."""
    if not is_distributed():
        return flags
    states = torch.tensor(flags, dtype=torch.uint8)
    torch_dist.all_reduce(states, torch_dist.ReduceOp.MAX, group=_host_group)
    return tuple(map(bool, states.tolist()))


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not is_distributed():
        return value
    values = [value]
    torch_dist.broadcast_object_list(values)
    return values[0]


@contextlib.contextmanager
def lost_peers_end_the_job(remedy: str) -> Iterator[None]:
    """Turns the many errors of a collective whose other side died or hangs into PeerLost, which ends in `remedy`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition('\n')[0]
        if not is_distributed() or not LOST.search(str(error)):
            raise
        raise PeerLost(
            f'rank {rank()}: another process died or hangs ({reason[:200]}): see what that one said; {remedy}'
        ) from None


def gather(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on rank 0; an empty list on the others."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size() if is_main() else []
    torch_dist.gather_object(value, values if is_main() else None)
    return values


def on_main(work: Callable[[], Any]) -> Any:
    """What `work` returns, which rank 0 alone does, however long it takes; None on the others.

    Meanwhile all ranks meet every `POLL` seconds, so that nobody waits in vain for as long as the timeout.
    """
    if not is_distributed():
        return work()
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work) if is_main() else None
        while any_rank(future is not None and bool(wait([future], timeout=POLL).not_done))[0]:
            pass
    return future.result() if future is not None else None


def agree(work: Callable[[], Any]) -> Any:
    """What `work`, which rank 0 alone does, returns or raises as an Ending: the same on every rank."""
    result, error = None, None
    if is_main():
        try:
            result = work()
        except Ending as ending:
            error = ending
    result, error = broadcast((result, error))
    if error is not None:
        raise error
    return result


def cleanup() -> None:
    """Leaves the process group, so that the launcher sees a clean end.

    gloo's thread may still have a tensor to free, for which it needs Python's lock. torch 2.4 holds that while it waits
    for the thread, forever: a moment without the lock lets the thread end before.
    """
    if is_distributed():
        time.sleep(0.2)
        torch_dist.destroy_process_group()
