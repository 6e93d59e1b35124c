"""A run that is stopped, killed, starved of disk space or fed with bad numbers loses nothing, and goes on exactly."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cvpack import checkpoint
from cvpack.errors import InputError
from cvpack.trainer import Outcome
from lib import engine
from lib.config import REPOSITORY, override
from lib.datasets.description import COCO
from lib.models.mspn import build_mspn
from lib.training import Trainer, build_schedule
from lib.training import run as training
from tests.support.annotations import coco_with
from tests.support.checkpoints import assert_same_checkpoints
from tests.support.commands import call, experiment, names_all, refused, stop_and_fail, world
from tests.support.ports import free_port
from tests.support.settings import fast_settings, load_config, tiny_settings

EXPERIMENT = 'mspn.2xstg.coco'


def call_train(monkeypatch, *arguments: str) -> None:
    """train in this process, with a command line."""
    call(monkeypatch, engine.train, *arguments)


def start_ranks(settings: list[str], count: int, *arguments: str, script: str = 'train.py') -> list[subprocess.Popen]:
    """A script as a launcher starts it, a process a rank, each without a launcher that would interfere."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, script, *arguments, '--set', *settings],
            cwd=REPOSITORY / 'exps' / EXPERIMENT,
            env={**os.environ, **world(rank, count, port), 'OMP_NUM_THREADS': '1'},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def wait_for(path: Path, *processes: subprocess.Popen, seconds: float = 120) -> None:
    """Returns once the path is there; fails when a process has ended before."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f'{path} has not come'
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.usefixtures('one_layer')
def test_auto_goes_on_from_the_newest_good_checkpoint(synthetic_coco, tmp_path, monkeypatch, capsys):
    # On one process 24 iterations, and a checkpoint every 8.
    settings = ['--set', *tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=3', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--resume', 'auto', *settings)
    assert checkpoint.iterations(tmp_path) == [8, 16, 24]
    whole = (tmp_path / 'iter-24.pth').read_bytes()
    (tmp_path / 'expected.pth').write_bytes(whole)
    (tmp_path / 'iter-24.pth').write_bytes(whole[: len(whole) // 2])
    torch.save({'a stranger': 1}, tmp_path / 'iter-16.pth')
    (tmp_path / 'iter-9.pth.tmp').write_bytes(b'half')

    capsys.readouterr()
    call_train(monkeypatch, '--resume', 'auto', *settings)
    said = capsys.readouterr().out
    assert 'iter-24.pth is not a readable checkpoint' in said and 'trying the previous checkpoint' in said
    assert "iter-16.pth has no 'optimizer'" in said
    assert f'resumed from {tmp_path / "iter-8.pth"}' in said
    assert_same_checkpoints(tmp_path / 'iter-24.pth', tmp_path / 'expected.pth')
    assert not list(tmp_path.glob('*.tmp'))


@pytest.mark.usefixtures('one_layer')
def test_auto_begins_where_no_checkpoint_is_good(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = ['SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *tiny_settings(synthetic_coco, tmp_path / 'whole'), *settings)
    (tmp_path / 'bad').mkdir()
    foreign = checkpoint.load(tmp_path / 'whole/iter-8.pth')
    foreign['optimizer'] = {'another': 'library'}  # its weights alone would fit
    torch.save(foreign, tmp_path / 'bad/iter-3.pth')
    call_train(monkeypatch, '--resume', 'auto', '--set', *tiny_settings(synthetic_coco, tmp_path / 'bad'), *settings)
    assert 'has no checkpoint to resume from' in capsys.readouterr().out
    assert_same_checkpoints(tmp_path / 'bad/iter-8.pth', tmp_path / 'whole/iter-8.pth')


@pytest.mark.parametrize('other', ['CODEC=dark', 'MODEL.UPSAMPLE_CHANNEL_NUM=8'])
def test_auto_writes_over_no_other_run(other, synthetic_coco, tmp_path, monkeypatch, capsys):
    """A whole checkpoint of another codec or network: a fresh start would take its place."""
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *settings)
    before = (tmp_path / 'iter-8.pth').read_bytes()
    error = refused(capsys, experiment(engine.train, monkeypatch), '--resume', 'auto', '--set', *settings, other)
    names_all(error, tmp_path / 'iter-8.pth', 'set another folder with --set OUTPUT_DIR')
    assert (tmp_path / 'iter-8.pth').read_bytes() == before


@pytest.mark.usefixtures('one_layer')
@pytest.mark.parametrize(
    ('number', 'at', 'left'),
    [
        (signal.SIGTERM, (1,), 'there is no intact checkpoint'),
        (signal.SIGUSR1, (2,), 'the newest intact checkpoint is iter-1.pth'),
        (None, (2,), 'the newest intact checkpoint is iter-1.pth'),
    ],
)
def test_what_could_not_be_saved_is_not_called_saved(number, at, left, synthetic_coco, tmp_path, monkeypatch, capsys):
    """Neither of a run that was asked to stop, nor of one that came to its end."""
    stop_and_fail(monkeypatch, *at, number=number)
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *fast_settings(synthetic_coco, tmp_path))
    names_all(error, f'iter-{at[-1]}.pth could not be written (No space left on device): make room', left)
    assert (f'stopped after iteration {at[0]} as requested, but not saved: ' in error) == (number is not None)
    assert checkpoint.iterations(tmp_path) == list(range(1, at[0]))


def test_a_rank_that_hangs_ends_the_job(synthetic_coco, tmp_path):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.TIMEOUT=5']
    processes = start_ranks(settings, 2)
    try:
        wait_for(tmp_path / 'iter-4.pth', *processes)
        processes[1].send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        _, error = processes[0].communicate(timeout=60)
        assert processes[0].returncode == 4, error
        assert 'error: rank 0: another process died or hangs' in error
        assert time.monotonic() - begin < 40
    finally:
        for process in processes:
            process.kill()


@pytest.mark.usefixtures('one_layer')
def test_what_went_wrong_is_told_on_a_full_disk(synthetic_coco, tmp_path, monkeypatch, capsys):
    """The images cannot be listed, and there may be no checkpoint: the line promises neither."""

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Outcome, 'is_wrong', True)
    monkeypatch.setattr(os, 'fsync', full)
    monkeypatch.setattr(training, 'keep_config', lambda _: None)
    error = refused(
        capsys, experiment(engine.train, monkeypatch), '--set', *fast_settings(synthetic_coco, tmp_path), code=3
    )
    names_all(error, 'iteration 1', 'not-finite-iter-1.json (No space left on device)', 'there is no intact checkpoint')


def test_another_number_of_gpus_keeps_the_place_in_the_data(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *settings)
    cfg = load_config(EXPERIMENT)
    override(cfg, [*settings, 'SOLVER.ACCUM_STEPS=3'])
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    assert (trainer.schedule.max_iter, trainer.schedule.base_lr) == (2, pytest.approx(3 * 5e-4))
    trainer.resume(tmp_path / 'iter-8.pth', engine.get_logger())
    # 24 samples are behind it: two whole iterations of 9 and a part of the next.
    assert (trainer.start_iteration, trainer.start_samples) == (2, 24)
    assert '24 samples were seen in batches of 3' in capsys.readouterr().out
    state = trainer.state(3)
    assert (state['samples'], state['samples_an_iteration']) == (33, 9)


SPOILT = {
    'iteration': (torch.tensor(8), "its 'iteration' is no whole number"),
    'samples': (None, "its 'samples' is no whole number"),
    'scheduler': (None, ''),
    'config': ('lost', ''),
}


@pytest.mark.parametrize('key', SPOILT)
def test_values_of_other_programs(key, synthetic_coco, tmp_path):
    """Are refused in a line before a weight is changed, or left aside."""
    cfg = load_config(EXPERIMENT)
    override(cfg, tiny_settings(synthetic_coco, tmp_path))
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    value, why = SPOILT[key]
    torch.save({**trainer.state(8), key: value}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=why) if why else contextlib.nullcontext():
        trainer.resume(tmp_path / 'a.pth', engine.get_logger())
    assert trainer.start_iteration == (0 if why else 8)


def test_what_ends_or_changes_with_a_resume_is_told(synthetic_coco, tmp_path, capsys):
    cfg = load_config(EXPERIMENT)
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.EMA=0.9'])
    torch.save(Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu')).state(8), tmp_path / 'a.pth')
    override(cfg, ['SOLVER.EMA=0.0', 'SOLVER.OPTIMIZER=AdamW'])
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    trainer.resume(tmp_path / 'a.pth', engine.get_logger())
    said = capsys.readouterr().out
    assert 'has an EMA of the weights, which ends here' in said and 'optimizer Adam, now AdamW' in said


def test_a_test_that_loses_a_process_is_a_line_of_each(synthetic_coco, tmp_path):
    """An image that is not there ends it, wherever its people are."""

    def without_one(content: dict) -> dict:
        content['images'][0]['file_name'] = 'COCO_val2014_absent.jpg'
        return content

    root = coco_with(synthetic_coco, tmp_path / 'COCO', {COCO.val_json: without_one})
    settings = [*tiny_settings(root, tmp_path), 'DATALOADER.NUM_WORKERS=0', 'SOLVER.TIMEOUT=60']
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    torch.save({'model': build_mspn(cfg).state_dict()}, tmp_path / 'iter-8.pth')
    processes = start_ranks(settings, 2, '-i', '8', script='test.py')
    errors = [process.communicate(timeout=120)[1].splitlines() for process in processes]
    told = [[line for line in lines if line.startswith('error: ')] for lines in errors]
    assert all(len(lines) == 1 for lines in told) and not any('Traceback' in line for lines in errors for line in lines)
    assert sorted('run the test again' in lines[0] for lines in told) == [False, True]


@pytest.mark.usefixtures('one_layer')
def test_accumulated_steps_train_and_resume_exactly(synthetic_coco, tmp_path, monkeypatch):
    """One process with the batch, the learning rate and the iterations of two."""
    settings = ['SOLVER.MAX_ITER=2', 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.ACCUM_STEPS=2']
    whole, rest = tmp_path / 'whole', tmp_path / 'rest'
    call_train(monkeypatch, '--set', *tiny_settings(synthetic_coco, whole), *settings)
    assert checkpoint.iterations(whole) == [4, 8]
    assert checkpoint.load(whole / 'iter-8.pth')['samples'] == 8 * 6
    rest.mkdir()
    (whole / 'iter-4.pth').rename(rest / 'iter-4.pth')
    call_train(monkeypatch, '--resume', 'auto', '--set', *tiny_settings(synthetic_coco, rest), *settings)
    assert_same_checkpoints(whole / 'iter-8.pth', rest / 'iter-8.pth')


KEPT_WORKERS = """
import os, signal, sys, time
from lib.loader import Loader, _init_worker

class Keeper:
    pass

def init(worker):
    time.sleep(worker)  # the second is asked before it is configured
    _init_worker(worker)

def main():
    loader = Loader(range(1000), num_workers=2, worker_init_fn=init, multiprocessing_context='fork')
    batches = Keeper.batches = iter(loader)
    next(batches)
    signal.signal(signal.SIGTERM, lambda *_: print('the parent was asked', flush=True))
    os.system(f'kill -s TERM -- -{os.getpgid(0)}')  # another process asks the whole group
    for _ in range(20):
        next(batches)
    raise ValueError  # its traceback keeps the batches, and with them the workers

try:
    main()
except ValueError as error:
    sys.modules['kept'] = error
print('exit')
"""


@pytest.mark.skipif(
    not hasattr(signal, 'sigwaitinfo'), reason='workers tell who sent a signal only where this is known'
)
def test_workers_outlive_a_signal_to_the_group_but_not_their_parent():
    process = subprocess.run(
        [sys.executable, '-c', KEPT_WORKERS], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (process.returncode, process.stderr) == (0, '')
    assert process.stdout.splitlines() == ['the parent was asked', 'exit']
