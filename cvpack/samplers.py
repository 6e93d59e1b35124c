"""Which sample comes when, as a pure function of the seed and the position in the run.

There is no sampler state to save: a run that continues at iteration k asks for the positions from k on and gets
what an uninterrupted run would have got, with any number of workers.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils.data import Sampler

Batch = TypeVar('Batch')


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, length: int) -> list[int]:
    """The order of one epoch: a permutation of range(length)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator).tolist()


class TrainBatchSampler(Sampler):
    """So many of one rank's batches, from the position `first` of the run on.

    The run is one endless row of positions, epoch after epoch; `batch_size * world_size` of them after each other
    make a batch on every rank, a block of `batch_size` each. A batch is a list of (index in the data set, position
    in the run): the position seeds the sample's augmentation.
    """

    def __init__(
        self, length: int, batch_size: int, first: int, batches: int, seed: int, rank: int, world_size: int
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.first, self.batches = first, batches
        self.seed = seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, range(self.batches))

    def batch(self, number: int) -> list[tuple[int, int]]:
        """The batch of this number, from 0."""
        first = self.first + (number * self.world_size + self.rank) * self.batch_size
        return [
            (epoch_order(self.seed, position // self.length, self.length)[position % self.length], position)
            for position in range(first, first + self.batch_size)
        ]


def shard(length: int, rank: int, world_size: int) -> range:
    """This rank's contiguous part of range(length): the parts hold every index exactly once."""
    return range(length * rank // world_size, length * (rank + 1) // world_size)


def worker_by_worker(batches: Sequence[Batch], workers: int) -> list[Batch]:
    """The batches in such an order that each worker of a DataLoader, which take turns, gets a contiguous part of them.

    workers: 0 if there are none
    """
    workers = max(workers, 1)
    least, longer = divmod(len(batches), workers)  # of the parts the first ones are longer by one
    turns = (divmod(number, workers) for number in range(len(batches)))
    return [batches[worker * least + min(worker, longer) + turn] for turn, worker in turns]
