"""cvpack: sample order, shards, checkpoints, one process as a world of one."""

import errno
import logging
import platform
import resource
import subprocess
import sys
import threading

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from cvpack import checkpoint, dist
from cvpack.errors import InputError, exits_cleanly
from cvpack.logger import DataTimer, TrainLog
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


def test_checkpoints(tmp_path):
    for iteration in (5, 10):
        checkpoint.save(tmp_path, iteration, {'iteration': iteration, 'model': {'w': torch.ones(2)}})
    assert checkpoint.iterations(tmp_path) == [5, 10]
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 10
    assert checkpoint.load(checkpoint.find(tmp_path, '5'))['iteration'] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ['iter-10.pth', 'iter-5.pth', 'iter-last.pth']
    with pytest.raises(InputError, match=r'no checkpoint iter-6\.pth in .*; iterations there: 5, 10'):
        checkpoint.find(tmp_path, '6')


def test_a_failed_save_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, {'iteration': 5})

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space'):
        checkpoint.save(tmp_path, 5, {'iteration': 6})
    monkeypatch.undo()
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 5


def test_one_process_is_a_world_of_one():
    assert (dist.rank(), dist.world_size(), dist.is_main(), dist.is_distributed()) == (0, 1, True, False)
    dist.barrier()
    assert dist.gather('x') == ['x']


def test_input_errors_are_one_line(capsys):
    @exits_cleanly
    def main():
        raise InputError('a.json is not json: get it again')

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: a.json is not json: get it again\n'


@pytest.mark.parametrize('name', ['n' * 300, 'loop'])
def test_paths_that_cannot_be_looked_at_are_one_line(capsys, tmp_path, name):
    (tmp_path / 'loop').symlink_to('loop')

    with pytest.raises(SystemExit) as stop:
        exits_cleanly(lambda: (tmp_path / name).stat())()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(f'error: {tmp_path}') and error.count('\n') == 1
    assert error.endswith('): name another path\n') and len(error) < 400


def test_errors_of_other_files_keep_their_traceback():
    @exits_cleanly
    def main():
        raise OSError(5, 'Input/output error', 'a.json')

    with pytest.raises(OSError, match='Input/output'):
        main()


def test_bugs_keep_their_traceback():
    @exits_cleanly
    def main():
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        main()


def test_train_log(tmp_path, caplog):
    """A line every 20 iterations and at the end, with everything in it."""
    logger = logging.getLogger('test_train_log')
    timer = DataTimer(range(45))
    log = TrainLog(logger, tmp_path, 0, 45, 32, timer, torch.device('cpu'))
    with caplog.at_level(logging.INFO):
        for iteration, _ in enumerate(timer, start=1):
            log(iteration, 1e-3, {'total_loss': torch.tensor(2.5)})
    log.close()
    lines = [record.message for record in caplog.records]
    assert [line.split(' | ')[0] for line in lines] == ['iter 20/45', 'iter 40/45', 'iter 45/45']
    assert 'lr 1.000e-03 | total_loss 2.5000 | ' in lines[0]
    assert 'left 0:00:00' in lines[2]
    assert timer.seconds > 0
    assert len(list(tmp_path.glob('events*'))) == 1


@pytest.mark.parametrize('told_at', ['the next line', 'the end'])
def test_tensorboard_on_a_full_disk_is_a_line(tmp_path, monkeypatch, caplog, told_at):
    """Its thread ends by an exception, which is no traceback."""

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    tracebacks = []
    monkeypatch.setattr(threading, 'excepthook', tracebacks.append)
    log = TrainLog(logging.getLogger('full'), tmp_path, 0, 45, 32, DataTimer(()), torch.device('cpu'))
    hook = threading.excepthook
    monkeypatch.setattr(RecordWriter, 'write', full)
    log.add(1, {'total_loss': 2.5})
    log.writer.file_writer.event_writer._async_writer._worker.join(10)
    if told_at == 'the next line':
        log.add(2, {'total_loss': 2.5})
    log.close()
    assert not tracebacks and threading.excepthook != hook
    assert [record.message for record in caplog.records] == [
        'TensorBoard cannot write (No space left on device): continuing without it'
    ]
    bug = threading.Thread(target=full)
    bug.start()
    bug.join()
    assert len(tracebacks) == 1


REUSE = """
import resource, torch
from cvpack.device import trim_memory, configure_device

def resident():
    return int(open('/proc/self/statm').read().split()[1])

configure_device(torch.device('cpu'), spare_memory={spare_memory})
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
before = resident()
trim_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other libraries have other ways with memory')
def test_a_cpu_uses_its_memory_again():
    """Of the 64 MB of a tensor, made and freed again and again, all pages are new each time, or none is.

    Not at once: small blocks that come to lie between large ones have to find another place first.
    """
    new, given_back = {}, {}
    for kept in (False, True):
        code = REUSE.format(spare_memory=not kept)
        process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        new[kept], given_back[kept] = map(int, process.stdout.split())
    pages = 2**26 / resource.getpagesize()
    assert new[True] < 100 and given_back[True] >= pages
    assert new[False] >= pages / 2 and given_back[False] < pages / 2
