"""A function of batches on a GPU, captured once as a CUDA graph and replayed: one launch instead of thousands."""

import contextlib
import gc
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from cvpack.errors import InputError

Batch = dict[str, torch.Tensor]
Function = Callable[..., torch.Tensor]
# Records a function's kernels without running them; returns a function that replays them, and its output tensor.
Capture = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]


class Graph(NamedTuple):
    """A captured function: its input tensors, the call that replays it, and the tensor that every replay writes to."""

    inputs: tuple[Batch, ...]
    replay: Callable[[], None]
    output: torch.Tensor


def capture_graph(run: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """Records what `run` launches on the current stream, which must not be the default one."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, which pin a loader's memory or watch nccl, may keep calling CUDA.
    recording = torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode='thread_local')
    with _without_collector(), recording:
        output = run()
    return graph.replay, output


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keeps Python's collector from freeing an earlier graph inside, which would break a capture."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Inside, work is launched on the stream; it runs after the caller's earlier work and before its later work."""
    if stream is None:
        yield
        return
    caller = torch.cuda.current_stream(stream.device)
    stream.wait_stream(caller)
    with torch.cuda.stream(stream):
        yield
    caller.wait_stream(stream)


class CudaGraph:
    """Calls a function of batches of tensors: eagerly until its memory and kernels have settled, then as a graph.

    function: (*batches) -> a tensor on the device. Its work on the host is done in eager calls and in the capture, but
              not in replays
    warm_up:  eager calls before the capture
    option:   the setting that turns this on, for messages
    report:   called with a line if all calls stay eager because the function draws random numbers on the host
    capture:  replaced in tests

    The next call overwrites the returned tensor. Batches of other shapes than the captured ones run eagerly, with the
    same results. Everything runs on `stream`, by default a new one, and the caller's stream waits for it. Raises
    InputError for a function that cannot be captured, for example because it reads a number from the device; torch's
    allocator cannot be used after that.
    """

    def __init__(
        self,
        function: Function,
        device: torch.device,
        warm_up: int,
        option: str,
        report: Callable[[str], None],
        stream: torch.cuda.Stream | None = None,
        capture: Capture = capture_graph,
    ) -> None:
        self.function, self.warm_up, self.capture = function, warm_up, capture
        self.option, self.report = option, report
        self.device = device
        self.stream = torch.cuda.Stream(device) if stream is None and device.type == 'cuda' else stream
        self.calls = 0
        self.is_eager = False
        self.graph: Graph | None = None

    def __call__(self, *batches: Batch) -> torch.Tensor:
        with on_stream(self.stream):
            if self.graph is None and not self.is_eager:
                self.calls += 1
                if self.calls <= self.warm_up:
                    return self._warm_up(batches)
                self.graph = self._capture(batches)
            if self.graph is None or _shapes(batches) != _shapes(self.graph.inputs):
                return self.function(*batches)
            _copy(self.graph.inputs, batches)
            self.graph.replay()
            return self.graph.output

    def release(self) -> None:
        """Frees the graph: nccl's communicators cannot be closed while a graph refers to them."""
        self.graph, self.is_eager = None, True

    def _warm_up(self, batches: tuple[Batch, ...]) -> torch.Tensor:
        before = _host_random_state()
        output = self.function(*batches)
        if self.calls == self.warm_up and _host_random_state() != before:
            self.is_eager = True
            self.report(f'{self.option}: no CUDA graph, because the network draws random numbers on the host')
        return output

    def _capture(self, batches: tuple[Batch, ...]) -> Graph:
        inputs = tuple(
            {name: torch.empty_like(value, device=self.device) for name, value in batch.items()} for batch in batches
        )
        _copy(inputs, batches)
        try:
            return Graph(inputs, *self.capture(lambda: self.function(*inputs)))
        except RuntimeError as error:
            reason = str(error).strip().partition('\n')[0]
            raise InputError(
                f'{self.option}: the network cannot be captured as a CUDA graph ({reason[:200]}): set it to False'
            ) from None


def _shapes(batches: tuple[Batch, ...]) -> list[dict[str, Any]]:
    return [{name: (value.shape, value.dtype) for name, value in batch.items()} for batch in batches]


def _copy(inputs: tuple[Batch, ...], batches: tuple[Batch, ...]) -> None:
    for own, batch in zip(inputs, batches):
        for name, value in batch.items():
            own[name].copy_(value, non_blocking=True)


def _host_random_state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), pickle.dumps(np.random.get_state())
