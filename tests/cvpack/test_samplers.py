"""Which sample comes when: every one once an epoch, whatever the ranks and workers, and resumed where it stopped."""

import pytest

from cvpack.samplers import TrainBatchSampler, shard, worker_by_worker


def batches(rank: int, world_size: int, start: int = 0, batch_size: int = 4) -> list:
    first = start * batch_size * world_size
    return list(TrainBatchSampler(10, batch_size, first, 12 - start, seed=5, rank=rank, world_size=world_size))


def test_every_epoch_holds_every_sample_once():
    pairs = [pair for batch in batches(0, 1) for pair in batch]
    assert [position for _, position in pairs] == list(range(48))
    for epoch in range(4):
        assert sorted(index for index, _ in pairs[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert [i for i, _ in pairs[:10]] != [i for i, _ in pairs[10:20]] != list(range(10))


def test_ranks_share_out_one_process_s_batches():
    together = [batch for step in zip(batches(0, 2), batches(1, 2)) for batch in step]
    alone = list(TrainBatchSampler(10, 4, 0, 24, seed=5, rank=0, world_size=1))
    assert together == alone


def test_a_resumed_sampler_goes_on_where_it_stopped():
    assert batches(1, 2, start=7) == batches(1, 2)[7:]
    assert len(TrainBatchSampler(10, 4, 48, 0, 5, 0, 1)) == 0


@pytest.mark.parametrize('length', [0, 1, 5, 8, 17])
@pytest.mark.parametrize('world_size', [1, 2, 3, 8])
def test_shards_hold_everything_once(length, world_size):
    parts = [shard(length, rank, world_size) for rank in range(world_size)]
    assert [index for part in parts for index in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize('workers', [0, 1, 2, 3, 8])
@pytest.mark.parametrize('length', [0, 1, 5, 8, 17])
def test_workers_get_contiguous_parts(length, workers):
    batches, count = worker_by_worker(range(length), workers), max(workers, 1)
    parts = [batches[worker::count] for worker in range(count)]
    assert [batch for part in parts for batch in part] == list(range(length))
