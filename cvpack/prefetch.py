"""Copying batches to a GPU while it computes."""

import contextlib
from collections.abc import Iterable, Iterator

import torch


class Prefetch:
    """Iterates over a loader's batches (dictionaries of tensors), moved to the device.

    On a GPU, batches in pinned memory are copied on a separate stream, while the previous iteration is still running.
    """

    def __init__(self, loader: Iterable[dict[str, torch.Tensor]], device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        copies = torch.cuda.Stream(self.device) if self.device.type == 'cuda' else None
        for batch in self.loader:
            with torch.cuda.stream(copies) if copies is not None else contextlib.nullcontext():
                moved = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
            if copies is not None:
                user = torch.cuda.current_stream(self.device)
                user.wait_stream(copies)
                for value in moved.values():
                    value.record_stream(user)
            yield moved
