"""Processes and devices. A single process has world size 1, and takes the same code path.

The launcher (torchrun, `python -m torch.distributed.launch`, Slurm wrappers) describes the world in environment
variables; without them the world is this process alone. The global rank determines the shard of the data, and rank 0
writes the files; the local rank determines the device.
"""

import argparse
import contextlib
import inspect
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as torch_dist
from torch import nn

from cvpack.errors import CleanExit, InputError, PeerLost

# How a launcher describes the world.
LAUNCHED = 'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'
# Seconds.
DEFAULT_TIMEOUT = 600
POLL = 0.5
# Between two looks at a GPU, which is at an iteration for much longer.
GPU_POLL = 0.0005
# By which nccl waits longer: it ends the process without a word.
NCCL_MARGIN = 60
# How gloo, nccl and the store report that the other side is gone.
LOST = re.compile(r'timed? ?out|closed by peer|connection (reset|refused|closed)|broken pipe|nccl', re.IGNORECASE)

# On GPUs, whose processes use nccl: the same processes, joined by gloo.
_host_group: torch_dist.ProcessGroup | None = None
# Seconds to wait for another process.
_timeout: float = DEFAULT_TIMEOUT


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Accepts the rank argument of torch.distributed.launch, in both spellings."""
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def setup(device_type: str, local_rank: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> torch.device:
    """Joins the process group that the launcher described, if it did, and returns this process's device.

    device_type: 'cuda' (with nccl) or 'cpu' (with gloo)
    local_rank:  the launcher's argument; the environment's LOCAL_RANK takes precedence
    timeout:     seconds to wait for another process before giving up

    Raises InputError if the other processes cannot be reached, or the description is incomplete.
    """
    global _host_group, _timeout
    _timeout = timeout
    index = int(os.environ.get('LOCAL_RANK', local_rank or 0))
    device = torch.device('cuda', index) if device_type == 'cuda' else torch.device(device_type)
    if device.type == 'cuda':
        if index >= torch.cuda.device_count():
            raise InputError(
                f'process {index} has no GPU: there are {torch.cuda.device_count()}; start fewer processes'
            )
        torch.cuda.set_device(device)
    missing = [name for name in LAUNCHED if name not in os.environ]
    if missing and os.environ.get('WORLD_SIZE', '1') != '1':  # each process would train alone, in the same folder
        raise InputError(
            f'WORLD_SIZE is {os.environ["WORLD_SIZE"]}, but the environment lacks {", ".join(missing)}: set them too'
        )
    if not missing and not torch_dist.is_initialized():
        on_gpu = device.type == 'cuda'
        limit = timedelta(seconds=timeout)
        try:
            if on_gpu:
                longer = limit + timedelta(seconds=NCCL_MARGIN)
                torch_dist.init_process_group('nccl', timeout=longer, device_id=device)
            else:
                torch_dist.init_process_group('gloo', timeout=limit)
        except (RuntimeError, ValueError) as error:
            address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
            reason = str(error).strip().partition('\n')[0][:200]
            raise InputError(
                f'MASTER_ADDR:MASTER_PORT = {address}: cannot meet the other processes ({reason}): '
                'check that all were started, and that the port is free'
            ) from None
        if on_gpu:  # every rank is in it
            _host_group = cast(torch_dist.ProcessGroup, torch_dist.new_group(backend='gloo', timeout=limit))
    return device


def is_distributed() -> bool:
    """Whether a launcher started this process, even as the only one."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """Global rank; 0 when alone."""
    return torch_dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes on all nodes; 1 when alone."""
    return torch_dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes the files and the messages."""
    return rank() == 0


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, in DistributedDataParallel in a distributed run; each process keeps its own BatchNorm statistics."""
    if not is_distributed():
        return model
    ddp = nn.parallel.DistributedDataParallel
    # torch 2.14 renamed the option.
    names = inspect.signature(ddp).parameters
    buffers = 'forward_sync_buffers' if 'forward_sync_buffers' in names else 'broadcast_buffers'
    options: dict[str, Any] = {buffers: False, 'device_ids': [device.index] if device.type == 'cuda' else None}
    return ddp(model, gradient_as_bucket_view=True, **options)


def barrier() -> None:
    """Waits until every process has arrived here."""
    if is_distributed():
        torch_dist.barrier(group=_host_group)


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set on any rank; the same on all ranks. Waits for the hosts, not for their GPUs."""
    if not is_distributed():
        return flags
    states = torch.tensor(flags, dtype=torch.uint8)
    torch_dist.all_reduce(states, torch_dist.ReduceOp.MAX, group=_host_group)
    return tuple(map(bool, states.tolist()))


def wait_for_gpu(event: torch.cuda.Event) -> None:
    """Waits until this process's GPU has come to the event.

    Raises RuntimeError after the timeout in a distributed run: the GPU may be waiting for that of a process that died
    or hangs, forever in a CUDA graph, whose collectives nccl does not watch.
    """
    if not is_distributed():
        event.synchronize()
        return
    end = time.monotonic() + _timeout
    while not event.query():
        if time.monotonic() > end:
            raise RuntimeError(f'timed out: the GPU was not done after {_timeout:g} s')
        time.sleep(GPU_POLL)


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not is_distributed():
        return value
    values = [value]
    torch_dist.broadcast_object_list(values, group=_host_group)
    return values[0]


@contextlib.contextmanager
def reporting_lost_peers(remedy: str) -> Iterator[None]:
    """Turns the errors of a collective whose other side died or hangs into PeerLost, whose message ends in `remedy`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition('\n')[0]
        if not is_distributed() or not LOST.search(str(error)):
            raise
        raise PeerLost(
            f'rank {rank()}: another process died or hangs ({reason[:200]}): see its output; {remedy}'
        ) from None


def gather(value: Any) -> list[Any]:
    """Every process's value, by rank, on rank 0; an empty list on the others."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size() if is_main() else []
    torch_dist.gather_object(value, values if is_main() else None, group=_host_group)
    return values


def on_main(work: Callable[[], Any]) -> Any:
    """Runs `work` on rank 0 alone, however long it takes; returns its result there, None on the others.

    Meanwhile all ranks exchange a flag every `POLL` seconds, so that none runs into the timeout.
    """
    if not is_distributed():
        return work()
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work) if is_main() else None
        while any_rank(future is not None and bool(wait([future], timeout=POLL).not_done))[0]:
            pass
    return future.result() if future is not None else None


def agree(work: Callable[[], Any]) -> Any:
    """Runs `work` on rank 0 alone; every rank returns its result or raises its CleanExit."""
    result, error = None, None
    if is_main():
        try:
            result = work()
        except CleanExit as raised:
            error = raised
    result, error = broadcast((result, error))
    if error is not None:
        raise error
    return result


def cleanup() -> None:
    """Leaves the process group.

    gloo's thread may still have to free a tensor, for which it needs the GIL. torch 2.4 holds the GIL while it waits
    for that thread, forever: sleeping first, without the GIL, lets the thread finish.
    """
    if is_distributed():
        time.sleep(0.2)
        torch_dist.destroy_process_group()
