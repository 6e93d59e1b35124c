"""A run that is stopped, killed, starved of disk space or fed with bad numbers loses nothing, and goes on exactly."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import OneLayer, call, fast_settings, load_config, tiny_settings, world
from refusals import experiment, names_all, refused

from cvpack import checkpoint
from cvpack.dist import free_port
from cvpack.ema import EMA
from cvpack.errors import InputError, NotFinite
from cvpack.files import read_json
from cvpack.preemption import StopRequest
from cvpack.solver import Schedule, build_optimizer
from cvpack.trainer import Outcome, TrainStep, train_loop
from lib import engine
from lib.config import REPOSITORY, override
from lib.models.mspn import build_mspn
from lib.training import Trainer, build_schedule
from lib.training import run as training

EXPERIMENT = 'mspn.2xstg.coco'


def call_train(monkeypatch, *arguments: str) -> None:
    """train in this process, with a command line."""
    call(monkeypatch, engine.train, *arguments)


def assert_same_checkpoints(one: Path, other: Path) -> None:
    """Weights, statistics and moments are equal bit for bit, and so is the place in the run."""
    a, b = checkpoint.load(one), checkpoint.load(other)
    assert (a['iteration'], a['samples']) == (b['iteration'], b['samples'])
    for name, value in a['model'].items():
        assert torch.equal(value, b['model'][name]), name
    for number, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, b['optimizer']['state'][number][name]), (number, name)


def start_ranks(settings: list[str], count: int, *arguments: str) -> list[subprocess.Popen]:
    """train.py as a launcher starts it, a process a rank, each without a launcher that would interfere."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, 'train.py', *arguments, '--set', *settings],
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
    assert 'iter-24.pth is not a readable checkpoint' in said and 'trying the checkpoint before' in said
    assert "iter-16.pth has no 'optimizer'" in said
    assert f'going on from {tmp_path / "iter-8.pth"}' in said
    assert_same_checkpoints(tmp_path / 'iter-24.pth', tmp_path / 'expected.pth')
    assert not list(tmp_path.glob('*.tmp'))


def test_auto_begins_where_no_checkpoint_is_good(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = ['SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *tiny_settings(synthetic_coco, tmp_path / 'whole'), *settings)
    (tmp_path / 'bad').mkdir()
    foreign = checkpoint.load(tmp_path / 'whole/iter-8.pth')
    foreign['optimizer'] = {'another': 'library'}  # its weights alone would fit
    torch.save(foreign, tmp_path / 'bad/iter-3.pth')
    call_train(monkeypatch, '--resume', 'auto', '--set', *tiny_settings(synthetic_coco, tmp_path / 'bad'), *settings)
    assert 'has no checkpoint to go on from: a fresh start' in capsys.readouterr().out
    assert_same_checkpoints(tmp_path / 'bad/iter-8.pth', tmp_path / 'whole/iter-8.pth')


@pytest.mark.parametrize('other', ['CODEC=dark', 'MODEL.UPSAMPLE_CHANNEL_NUM=8'])
def test_auto_writes_over_no_other_run(other, synthetic_coco, tmp_path, monkeypatch, capsys):
    """A whole checkpoint of another codec or network: a fresh start would take its place."""
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *settings)
    before = (tmp_path / 'iter-8.pth').read_bytes()
    error = refused(capsys, experiment(engine.train, monkeypatch), '--resume', 'auto', '--set', *settings, other)
    names_all(error, tmp_path / 'iter-8.pth', 'choose another folder with --set OUTPUT_DIR')
    assert (tmp_path / 'iter-8.pth').read_bytes() == before


def test_the_number_of_checkpoints_is_bounded(tmp_path):
    writer = checkpoint.Writer(tmp_path, keep=2, report=pytest.fail)
    checkpoint.save(tmp_path, 99, {})  # of a future that this run has not reached
    for iteration in (1, 2, 3, 4):
        writer.save(iteration, {'iteration': iteration})
    writer.close()
    assert checkpoint.iterations(tmp_path) == [3, 4, 99]
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 4


def test_a_saved_state_is_that_of_its_moment(tmp_path):
    """Training goes on, in place, while the checkpoint is being written."""
    weight = torch.ones(1000)
    writer = checkpoint.Writer(tmp_path, keep=0, report=pytest.fail)
    writer.save(1, {'model': {'weight': weight}, 'lists': [weight, (weight,)]})
    weight.zero_()
    writer.close()
    state = checkpoint.load(tmp_path / 'iter-1.pth')
    assert all(value.eq(1).all() for value in (state['model']['weight'], state['lists'][0], state['lists'][1][0]))


def test_a_full_disk_stops_no_training(tmp_path, monkeypatch):
    said = []
    writer = checkpoint.Writer(tmp_path, keep=0, report=said.append)
    writer.save(1, {'iteration': 1})
    writer.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        writer.save(2, {'iteration': 2})
        writer.wait()
    assert len(said) == 1 and 'iter-2.pth could not be written (No space left on device)' in said[0]
    assert checkpoint.iterations(tmp_path) == [1] and not list(tmp_path.glob('*.tmp'))
    with pytest.raises(InputError, match='No space left'):
        writer.close()
    writer.save(3, {'iteration': 3})
    writer.close()
    assert checkpoint.load(checkpoint.find(tmp_path, 'last'))['iteration'] == 3


def stop_and_fail(patch: pytest.MonkeyPatch, *at: int, number: signal.Signals | None = signal.SIGTERM) -> None:
    """Has these iterations' checkpoints find no room, and the first of them a signal, where one is given."""
    step, write = TrainStep.__call__, checkpoint.write

    def struck(self, iteration, *batches):
        if number is not None and iteration == at[0]:
            os.kill(os.getpid(), number)
        return step(self, iteration, *batches)

    def full(path, state):
        if state['iteration'] in at:
            raise OSError(28, 'No space left on device')
        write(path, state)

    patch.setattr(TrainStep, '__call__', struck)
    patch.setattr(checkpoint, 'write', full)


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
    assert (f'stopped after iteration {at[0]} as asked, but not saved: ' in error) == (number is not None)
    assert checkpoint.iterations(tmp_path) == list(range(1, at[0]))


def _stop_unsaved(rank: int, port: int, settings: list[str]) -> None:
    os.environ.update(world(rank, 2, port))
    torch.set_num_threads(1)
    sys.argv = ['train.py', '--set', *settings]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        stop_and_fail(patch, 2, number=signal.SIGTERM if rank else None)
        engine.train(load_config(EXPERIMENT), OneLayer)
    assert stop.value.code == 2


@pytest.mark.slow
def test_ranks_agree_that_nothing_was_saved(synthetic_coco, tmp_path):
    """Slow: two processes."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(
        _stop_unsaved, (port, [*fast_settings(synthetic_coco, tmp_path), 'SOLVER.ACCUM_STEPS=4']), nprocs=2
    )
    assert checkpoint.iterations(tmp_path) == [1]


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_after_a_save(synthetic_coco, tmp_path):
    """And the run goes on bit for bit. Slow: four starts of two processes."""
    folder = tmp_path / 'out'
    settings = [*tiny_settings(synthetic_coco, folder), 'SOLVER.MAX_ITER=10', 'SOLVER.CHECKPOINT_PERIOD=2']
    for number, awaited in ((signal.SIGTERM, 8), (signal.SIGUSR1, 24)):
        processes = start_ranks(settings, 2, '--resume', 'auto')
        wait_for(folder / f'iter-{awaited}.pth', *processes)
        processes[1].send_signal(number)
        ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
        stopped = checkpoint.iterations(folder)[-1]
        assert awaited <= stopped < 40
        for error, code in ends:
            assert code == 75 and f'error: stopped after iteration {stopped} as asked' in error
            assert 'Traceback' not in error
    runs = (settings, '--resume', 'auto'), ([*settings, f'OUTPUT_DIR={tmp_path / "whole"}'],)
    for chosen, *arguments in runs:
        for process in start_ranks(chosen, 2, *arguments):
            assert process.wait(timeout=120) == 0
    assert_same_checkpoints(folder / 'iter-40.pth', tmp_path / 'whole/iter-40.pth')


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


class Exploding(torch.nn.Module):
    """MSPN whose heatmaps are not numbers from the fourth step of rank EXPLODING_RANK on."""

    def __init__(self, cfg) -> None:
        super().__init__()
        self.network, self.steps = build_mspn(cfg), 0

    def forward(self, images):
        self.steps += 1
        outputs = self.network(images)
        if self.training and self.steps == 4 and os.environ.get('RANK', '0') == '1':
            outputs[0][0] = outputs[0][0] * float('nan')
        return outputs


def _train_exploding(rank: int, port: int, settings: list[str]) -> None:
    os.environ.update(world(rank, 2, port))
    torch.set_num_threads(1)
    sys.argv = ['train.py', '--set', *settings]
    with pytest.raises(SystemExit) as stop:
        engine.train(load_config(EXPERIMENT), Exploding)
    assert stop.value.code == 3


def test_numbers_gone_wrong_on_one_rank_stop_all(synthetic_coco, tmp_path):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.CHECKPOINT_PERIOD=1']
    torch.multiprocessing.spawn(_train_exploding, (free_port(), settings), nprocs=2)
    # CHECKPOINT_PERIOD is for 8 processes: 4 iterations here, so nothing was saved before or of the fourth.
    assert checkpoint.iterations(tmp_path) == []
    report = read_json(tmp_path / 'not-finite-iter-4.json')
    assert report['iteration'] == 4 and [rank['rank'] for rank in report['ranks']] == [0, 1]
    good, bad = (rank['losses']['total_loss'] for rank in report['ranks'])
    assert isinstance(good, float) and bad == 'nan'
    for rank in report['ranks']:
        assert len(rank['images']) == 3 and all(Path(image).is_file() for image in rank['images'])


@pytest.mark.usefixtures('one_layer')
def test_what_went_wrong_is_told_on_a_full_disk(synthetic_coco, tmp_path, monkeypatch, capsys):
    """The images cannot be listed, and there may be no checkpoint: the line promises neither."""

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Outcome, 'is_wrong', True)
    monkeypatch.setattr(Path, 'write_text', full)
    monkeypatch.setattr(training, 'keep_config', lambda _: None)
    error = refused(
        capsys, experiment(engine.train, monkeypatch), '--set', *fast_settings(synthetic_coco, tmp_path), code=3
    )
    names_all(error, 'iteration 1', 'not-finite-iter-1.json (No space left on device)', 'there is no intact checkpoint')


@pytest.mark.parametrize('lag', [0, 1])
@pytest.mark.parametrize(('where', 'precision'), [('loss', 'fp32'), ('gradient', 'fp32'), ('loss', 'fp16')])
def test_weights_do_not_change_once_numbers_go_wrong(where, precision, lag):
    """Neither those of the network nor of its average, though a GPU's host learns of it an iteration later."""
    network = torch.nn.Linear(1, 1, bias=False)

    def losses(batch: float) -> dict[str, torch.Tensor]:
        zero = network.weight - network.weight.detach()
        wrong = {'loss': torch.tensor(torch.inf), 'gradient': zero.sqrt().sum()}[where]  # which has no derivative at 0
        return {'total_loss': batch * network.weight.sum() + (wrong if batch == 3 else 0)}

    schedule = Schedule(base_lr=0.1, max_iter=5, checkpoint_period=5, warmup_iters=0, warmup_factor=0.1)
    optimizer, ema = build_optimizer('SGD', network.parameters(), 0, 0.9), EMA(network, 0.5)
    scaler = torch.amp.GradScaler('cpu', enabled=precision == 'fp16')
    step = TrainStep(losses, optimizer, schedule, scaler, network, ema)
    step.lag, seen, logged = lag, [], []

    def watched(iteration: int, batch: float) -> Outcome:
        outcome = step(iteration, batch)
        seen.append((network.weight.item(), ema.module.weight.item()))
        return outcome

    watched.lag = lag
    with pytest.raises(NotFinite, match='iteration 3') as stop:
        log = lambda iteration, lr, losses: logged.append(iteration)  # noqa: E731
        train_loop(watched, [1.0, 2.0, 3.0, 4.0, 5.0], 0, schedule, log, pytest.fail, 1, StopRequest())
    assert logged == [1, 2] and len(seen) == 3 + lag
    assert seen[0] != seen[1] and {*seen[2:]} == {seen[1]}
    assert stop.value.iteration == 3 and math.isinf(stop.value.losses['total_loss']) == (where == 'loss')


@pytest.mark.parametrize('momentum', [0, 0.9])
def test_skipped_steps_of_float16_are_counted(momentum):
    parameter = torch.nn.Parameter(torch.ones(1))
    schedule = Schedule(base_lr=0.1, max_iter=9, checkpoint_period=9, warmup_iters=0, warmup_factor=0.1)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**127)
    step = TrainStep(
        lambda batch: {'total_loss': (parameter * batch).sum()},
        build_optimizer('SGD', [parameter], 0, momentum),
        schedule,
        scaler,
        torch.nn.Identity(),
    )
    outcomes = [step(iteration, 4.0) for iteration in (1, 2, 3, 4)]
    counts = [outcome.losses['skipped_steps'] for outcome in outcomes]
    assert counts == [1, 2, 2, 2]  # 4 * 2^127 and 4 * 2^126 are too much for float32
    assert not any(outcome.is_wrong for outcome in outcomes)
    rates = [schedule.lr(iteration) for iteration in (3, 4)]  # the first step that is taken is as any first one
    moved = 4 * rates[0] + 4 * (1 + momentum) * rates[1]
    assert parameter.item() == pytest.approx(1 - moved)


def test_another_number_of_gpus_keeps_the_place_in_the_data(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call_train(monkeypatch, '--set', *settings)
    cfg = load_config(EXPERIMENT)
    override(cfg, [*settings, 'SOLVER.ACCUM_STEPS=3'])
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    assert (trainer.schedule.max_iter, trainer.schedule.base_lr) == (2, pytest.approx(3 * 5e-4))
    trainer.resume(tmp_path / 'iter-8.pth', engine.get_logger())
    # 24 samples are behind it: two whole iterations of 9 and a part of the next.
    assert (trainer.start, trainer.first) == (2, 24)
    assert '24 samples in batches of 3 are behind it' in capsys.readouterr().out
    state = trainer.state(3)
    assert (state['samples'], state['samples_an_iteration']) == (33, 9)


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
import os, signal, sys
from torch.utils.data import DataLoader
from lib.loader import _init_worker

class Keeper:
    pass

def main():
    loader = DataLoader(range(1000), num_workers=2, worker_init_fn=_init_worker, multiprocessing_context='fork')
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
