"""The order of samples, as a pure function of the seed and the position in the run.

There is no sampler state to save: a run that resumes at iteration k asks for the positions from k on and gets what an
uninterrupted run would have got, with any number of workers.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Sampler

Batch = TypeVar('Batch')


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, length: int) -> list[int]:
    """The order of one epoch: a permutation of range(length)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator).tolist()


class TrainBatchSampler(Sampler[list[tuple[int, int]]]):
    """One rank's batches, from position `first` of the run on.

    The run is an endless sequence of positions, epoch after epoch. Each iteration takes the next
    `batch_size * world_size` of them, a block of `batch_size` for each rank. A batch is a list of (index in the data
    set, position in the run); the position seeds the sample's augmentation.

    batches: how many
    """

    def __init__(
        self, length: int, batch_size: int, first: int, batches: int, seed: int, rank: int, world_size: int
    ) -> None:
        self.length, self.batch_size = length, batch_size
        self.first, self.batches = first, batches
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, range(self.batches))

    def batch(self, number: int) -> list[tuple[int, int]]:
        """Batch `number`, counted from 0."""
        first = self.first + (number * self.world_size + self.rank) * self.batch_size
        return [
            (epoch_order(self.seed, position // self.length, self.length)[position % self.length], position)
            for position in range(first, first + self.batch_size)
        ]


def shard(length: int, rank: int, world_size: int) -> range:
    """This rank's contiguous shard of range(length); the shards contain every index exactly once."""
    return range(length * rank // world_size, length * (rank + 1) // world_size)


def worker_by_worker(batches: Sequence[Batch], workers: int) -> list[Batch]:
    """Reorders batches so that each worker of a DataLoader, which deals them out in turn, gets contiguous ones.

    workers: 0 if there are none
    """
    parts = np.array_split(np.arange(len(batches)), max(workers, 1))  # the first ones may be longer by one
    return [batches[part[turn]] for turn in range(len(parts[0])) for part in parts if turn < len(part)]
