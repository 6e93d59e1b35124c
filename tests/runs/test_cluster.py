"""What docs/cluster.md says, as far as one machine can show it: restarts under torchrun, the Slurm script."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from lib.config import REPOSITORY
from tests.support.campaign import TORCHRUN, compare_losses, compare_outputs
from tests.support.jobs import Job, send, train_command, write_experiment
from tests.support.ports import free_port

ITERATIONS = 24
SLURM = REPOSITORY / 'docs' / 'slurm.sh'
# One after the other, as Slurm's own report the highest code of all tasks.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" & tasks[task]=$!
done
highest=0
for task in "${tasks[@]}"; do
    code=0; wait "$task" || code=$?
    highest=$(( code > highest ? code : highest ))
done
exit "$highest"
"""
SCONTROL = """#!/usr/bin/env bash
case $1 in
    show) printf '127.0.0.1\\nsecond-node\\n' ;;
    *) echo "$@" >> "$REQUESTS" ;;
esac
"""
# Says who it is, then ends with a code, or waits to be asked to stop.
STAND_IN_TRAIN = """
import os, signal, sys, time
if os.environ['END'] == 'signal':
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
# In one piece, lest the tasks' lines mix.
os.write(1, ' '.join(['task', *(os.environ[name] for name in names), *sys.argv]).encode() + b'\\n')
while os.environ['END'] == 'signal':
    time.sleep(0.1)
sys.exit(int(os.environ['END']))
"""


def settings(output: Path) -> list[str]:
    """Checkpoints every 4 iterations of two processes."""
    return [f'OUTPUT_DIR={output}', f'SOLVER.MAX_ITER={ITERATIONS // 4}', 'SOLVER.CHECKPOINT_PERIOD=1']


@pytest.fixture(scope='module')
def experiment(tmp_path_factory) -> Path:
    return write_experiment(tmp_path_factory.mktemp('experiment'))


@pytest.fixture(scope='module')
def undisturbed(experiment, tmp_path_factory) -> tuple[Path, list]:
    """Where an undisturbed run of two processes left its outputs, and what it reported."""
    folder = tmp_path_factory.mktemp('undisturbed')
    with Job(train_command(settings(folder), TORCHRUN), experiment, folder / 'console') as job:
        assert job.wait() == 0, job.text()
    return folder, job.iterations()


@pytest.mark.slow
def test_a_killed_worker_comes_back(experiment, undisturbed, tmp_path):
    """Two agents, as on two nodes; rank 0 is killed, later rank 1. Slow: three starts of two processes."""
    # Else torchrun keeps one store for all starts, where a process may find the address of one that is gone.
    fresh_store = {'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1'}
    launcher = (
        *('-m', 'torch.distributed.run', '--nnodes=2', '--nproc-per-node=1', '--max-restarts=2', '--rdzv-id=1'),
        *('--rdzv-backend=c10d', f'--rdzv-endpoint=127.0.0.1:{free_port()}', '--local-addr=127.0.0.1'),
    )
    output = tmp_path / 'out'
    command = train_command(settings(output), launcher)
    nodes = (Job(command, experiment, tmp_path / name, **fresh_store) for name in 'ab')
    with next(nodes) as a, next(nodes) as b:
        for rank in ('0', '1'):
            reported = len(a.iterations() + b.iterations())
            a.wait_until(lambda enough=reported + 6: len(a.iterations() + b.iterations()) >= enough)
            workers = {**a.processes(), **b.processes()}
            (victim,) = (pid for pid in (*a.ranks(), *b.ranks()) if workers[pid]['RANK'] == rank)
            send([victim], signal.SIGKILL)
        assert (a.wait(), b.wait()) == (0, 0), a.text() + b.text()
        assert 'resumed from' in a.text() + b.text()
    folder, reported = undisturbed
    assert compare_outputs(folder, output) == []
    assert compare_losses(reported, a.iterations() + b.iterations()) == []


def submit(experiment: Path, folder: Path, *arguments: str, **environment: str) -> Job:
    """The Slurm script with stand-ins for Slurm's commands; requests to requeue go to the folder's file."""
    stand_ins = folder / 'bin'
    stand_ins.mkdir(exist_ok=True)
    for name, script in (('srun', SRUN), ('scontrol', SCONTROL)):
        (stand_ins / name).write_text(script)
        (stand_ins / name).chmod(0o755)
    return Job(
        [shutil.which('bash'), str(SLURM), str(experiment), *arguments],
        folder,
        folder / 'console',
        PATH=f'{stand_ins}:{os.environ["PATH"]}',
        PYTHON=sys.executable,
        REQUESTS=str(folder / 'requests'),
        SLURM_JOB_NODELIST='nodes[1-2]',
        **environment,
    )


def requests(folder: Path) -> list[str]:
    file = folder / 'requests'
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(
    'end, code, requeued',
    [('signal', 75, ['requeue 1234']), ('0', 0, []), ('3', 3, [])],
    ids=['asked to stop', 'trained', 'numbers gone wrong'],
)
def test_slurm_requeues_a_run_that_was_asked_to_stop(tmp_path, end, code, requeued):
    (tmp_path / 'train.py').write_text(STAND_IN_TRAIN)
    with submit(tmp_path, tmp_path, '--set', 'A=1 2', SLURM_JOB_ID='1234', END=end) as job:
        job.wait_until(lambda: job.text().count('task ') == 2)
        if end == 'signal':
            # The shell gets it too when a whole job is signalled; it has to outlive that.
            send([*job.ranks(), job.launcher.pid], signal.SIGUSR1)
        assert job.wait() == code, job.text()
    assert requests(tmp_path) == requeued
    for rank in range(2):
        assert f'task {rank} {rank} 2 127.0.0.1 21234 train.py --resume auto --set A=1 2\n' in job.text()


@pytest.mark.slow
def test_slurm_script_trains_on_where_it_stopped(experiment, undisturbed, tmp_path):
    """The same script around real training: a signal to one rank stops both after a save, and two submissions make the
    undisturbed run. Slow: two starts of two.
    """
    job_id = str(free_port() - 20000)  # slurm.sh derives the port from it
    output = tmp_path / 'out'
    arguments = ('--set', *settings(output))
    with submit(experiment, tmp_path, *arguments, SLURM_JOB_ID=job_id) as first:
        first.wait_until(lambda: len(first.iterations()) >= 6)
        send(first.ranks()[1:], signal.SIGUSR1)
        assert first.wait() == 75, first.text()
        before = first.iterations()
        stopped = f'error: stopped after iteration {before[-1][0]} as asked'
        assert first.text().count(stopped) == 2 and 'Traceback' not in first.text()
    assert requests(tmp_path) == [f'requeue {job_id}']
    with submit(experiment, tmp_path, *arguments, SLURM_JOB_ID=job_id) as second:
        assert second.wait() == 0, second.text()
    assert requests(tmp_path) == [f'requeue {job_id}']
    folder, reported = undisturbed
    assert compare_outputs(folder, output) == []
    assert [i for i, _ in before + second.iterations()] == list(range(1, ITERATIONS + 1))
    assert compare_losses(reported, before + second.iterations()) == []
