"""Which sample comes when, as a pure function of the seed and the position in the run.

There is no sampler state to save: a run that continues at iteration k asks for the positions from k on and gets
what an uninterrupted run would have got, with any number of workers.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


def epoch_order(seed: int, epoch: int, length: int) -> list[int]:
    """The order of one epoch: a permutation of range(length)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator).tolist()


class TrainBatchSampler(Sampler):
    """One rank's batches for the iterations `start` to `max_iter` (counted from 0, `max_iter` excluded).

    The run is one endless row of positions, epoch after epoch; each iteration takes the next
    `batch_size * world_size` of them and each rank its block of `batch_size`. A batch is a list of
    (index in the data set, position in the run): the position seeds the sample's augmentation.
    """

    def __init__(
        self, length: int, batch_size: int, start: int, max_iter: int, seed: int, rank: int, world_size: int
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.start, self.max_iter = start, max_iter
        self.seed = seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(self.max_iter - self.start, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, []
        for iteration in range(self.start, self.max_iter):
            first = (iteration * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = epoch_order(self.seed, epoch, self.length)
                batch.append((order[position % self.length], position))
            yield batch


def shard(length: int, rank: int, world_size: int) -> range:
    """This rank's contiguous part of range(length): the parts hold every index exactly once."""
    return range(length * rank // world_size, length * (rank + 1) // world_size)
