"""A training run that is struck again and again, and the same run undisturbed.

`python -m tests.support.torture` runs it.
"""

import contextlib
import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cvpack import checkpoint
from cvpack.errors import InputError
from tests.support.jobs import Fault, Job, send, train_command

WHOLE = 'SIGKILL, the whole job'
RANK = 'SIGKILL, one rank'
SAVE = 'SIGKILL, during a save'
START = 'SIGKILL, during start-up'
CUT = 'SIGKILL, then the newest checkpoint cut short'
FULL = 'SIGKILL, after saves on a full disk'
TERM = 'SIGTERM, the launcher or every process'
USR1 = 'SIGUSR1, the ranks'
TOGETHER = (RANK, SAVE, TERM, FULL, WHOLE, CUT, USR1, START)
ALONE = (SAVE, FULL, TERM, WHOLE, CUT, USR1, START)

PERIOD = 4  # iterations between checkpoints; two batches, of two processes or accumulated, make an iteration
PREEMPTED = 75
FAILED_SAVES = 6
BALLAST = 'ballast'
TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2')


@dataclass(frozen=True)
class Strike:
    """What a start is ended by: after so many iterations of its own, and so many seconds more."""

    kind: str
    iterations: int
    pause: float
    rank: int  # of two, for RANK
    share: float  # of the file that is left, for CUT


@dataclass(frozen=True)
class Struck:
    """What became of a start: the iteration that it went on from, the last one that it reported."""

    strike: Strike
    start: int
    iteration: int
    saving: bool
    code: int


class Campaign:
    """A run undisturbed, and the same run under its strikes. What goes wrong is found in `faults`."""

    def __init__(self, processes: int, strikes: list[Strike], folder: Path, disk: Path, experiment: Path) -> None:
        self.processes, self.strikes, self.folder, self.experiment = processes, strikes, folder, experiment
        self.whole, self.killed, self.mounted = folder / 'undisturbed', disk / 'killed', disk.is_mount()
        # No start gets much further than its own iterations, so every strike finds it running.
        self.length = sum(strike.iterations // PERIOD + 2 for strike in strikes) * PERIOD + (FAILED_SAVES + 2) * PERIOD
        self.struck: list[Struck] = []
        self.losses: list[tuple[int, str]] = []
        self.faults: list[str] = []
        self.cuts: dict[Path, int] = {}  # files cut short, with the time of that
        self.fallbacks = 0

    def run(self) -> None:
        try:
            undisturbed = self._to_the_end(self.whole, 'undisturbed', keep=1)
            for number, strike in enumerate(self.strikes, start=1):
                self._strike(strike, f'start-{number:02}')
            self._take_note(self._to_the_end(self.killed, 'last-start', keep=3))
            self.faults += compare_losses(undisturbed.iterations(), self.losses)
            self.faults += compare_outputs(self.whole, self.killed)
            if self.fallbacks < len(self.cuts):
                self.faults.append(f'{len(self.cuts)} checkpoints were cut short, only {self.fallbacks} found to be')
        except (Fault, InputError) as error:
            self.faults.append(str(error))

    def _start(self, output: Path, console: str, keep: int) -> Job:
        settings = (
            f'OUTPUT_DIR={output}',
            f'SOLVER.MAX_ITER={self.length // PERIOD}',  # of 8 batches an iteration, as is the period
            'SOLVER.CHECKPOINT_PERIOD=1',
            f'SOLVER.ACCUM_STEPS={2 // self.processes}',
            f'SOLVER.KEEP_CHECKPOINTS={keep}',
            'SOLVER.TIMEOUT=60',
        )
        launcher = TORCHRUN if self.processes == 2 else ()
        return Job(train_command(settings, launcher), self.experiment, self.folder / f'{console}.out')

    def _to_the_end(self, output: Path, console: str, keep: int) -> Job:
        with self._start(output, console, keep) as job:
            code = job.wait(600)
            if code != 0:
                raise job.fault(f'ended with code {code}')
        return job

    def _take_note(self, job: Job) -> None:
        self.losses += job.iterations()
        self.fallbacks += job.text().count('trying the previous checkpoint')

    def _strike(self, strike: Strike, console: str) -> None:
        with self._start(self.killed, console, keep=3) as job:
            if strike.kind == START:
                end = time.monotonic() + strike.pause
                job.wait_until(lambda: time.monotonic() > end or bool(job.iterations()))
            else:
                job.wait_until(lambda: len(job.iterations()) >= strike.iterations)
                time.sleep(strike.pause)
            strikes = {TERM: self._preempt, USR1: self._preempt, FULL: self._fill, RANK: self._kill_rank}
            strikes.get(strike.kind, self._kill)(job, strike)
        self._take_note(job)
        (self.killed / BALLAST).unlink(missing_ok=True)
        first, last = (job.iterations()[end][0] if job.iterations() else 0 for end in (0, -1))
        saving = last > 0 and self._unfinished()  # until it trains, what is left is of the start before
        self.struck.append(Struck(strike, max(first - 1, 0), last, saving, job.launcher.returncode))
        self._look(job, strike, last)

    def _kill(self, job: Job, strike: Strike) -> None:
        pids = job.processes()
        if strike.kind == SAVE:
            job.wait_until(lambda: any(self.killed.glob('iter-*.pth.*tmp')), poll=0.001)
        send(pids, signal.SIGKILL)

    def _kill_rank(self, job: Job, strike: Strike) -> None:
        send([job.ranks()[strike.rank]], signal.SIGKILL)
        if job.wait() == 0:
            raise job.fault('a rank was killed, yet it ended with code 0')

    def _preempt(self, job: Job, strike: Strike) -> None:
        if strike.kind == USR1:
            send(job.ranks(), signal.SIGUSR1)
        elif self.processes == 2:
            send([job.launcher.pid], signal.SIGTERM)
        else:
            os.killpg(job.launcher.pid, signal.SIGTERM)
        code = job.wait()
        if self.processes == 1 and code != PREEMPTED:
            raise job.fault(f'ended with code {code}, not {PREEMPTED}')
        # torchrun ends with 1 whatever its processes ended with; what that was it lists, if nobody stopped it itself.
        if strike.kind == USR1 and self.processes == 2 and job.text().count(f'exitcode  : {PREEMPTED} ') != 2:
            raise job.fault(f'not both of its ranks ended with code {PREEMPTED}')

    def _fill(self, job: Job, strike: Strike) -> None:
        """Returns when so many saves have failed, training going on, that logs have had to be written too."""
        if not self.mounted:
            resource.prlimit(job.ranks()[0], resource.RLIMIT_FSIZE, (2**20, 2**20))

        def failed() -> bool:
            if self.mounted:
                fill(self.killed / BALLAST)  # again and again, for a save that was under way may remove an old one
            return job.text().count('could not be written') >= FAILED_SAVES

        job.wait_until(failed)

    def _checkpoints(self) -> list[int]:
        """The iterations of all files that are named like a checkpoint, but for those cut short."""
        paths = {number: self.killed / f'iter-{number}.pth' for number in checkpoint.iterations(self.killed)}
        return [number for number, path in paths.items() if self.cuts.get(path) != path.stat().st_mtime_ns]

    def _unfinished(self) -> bool:
        """Whether a save was under way: half a file, or a new one that iter-last.pth does not point to yet."""
        numbers = self._checkpoints()
        linked = re.findall(r'\d+', (self.killed / checkpoint.LATEST).resolve().name)
        late = bool(numbers) and (not linked or int(linked[0]) < numbers[-1])
        return late or any(self.killed.glob('iter-*.pth.*tmp'))

    def _look(self, job: Job, strike: Strike, last: int) -> None:
        """What must hold after a strike: what is named like a checkpoint is whole, and a warning in time saves all."""
        numbers = self._checkpoints()
        for number in numbers:
            inside = checkpoint.load(self.killed / f'iter-{number}.pth')['iteration']
            if inside != number:
                raise job.fault(f'iter-{number}.pth is of iteration {inside}')
        if strike.kind in (TERM, USR1) and numbers[-1:] != [last]:
            raise job.fault(f'stopped after iteration {last}, but the newest checkpoint is of {numbers[-1:]}')
        if strike.kind == CUT and numbers:
            newest = self.killed / f'iter-{numbers[-1]}.pth'
            os.truncate(newest, int(strike.share * newest.stat().st_size))
            self.cuts[newest] = newest.stat().st_mtime_ns


def fill(ballast: Path) -> None:
    """Takes all room that is left on the ballast's file system."""
    with open(ballast, 'ab', buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def compare_losses(undisturbed: list[tuple[int, str]], reported: list[tuple[int, str]]) -> list[str]:
    """Every iteration reported, however often, with the undisturbed run's losses."""
    ground_truth = dict(undisturbed)
    wrong = [
        f'iteration {i}: {loss}, undisturbed {ground_truth.get(i)}'
        for i, loss in reported
        if ground_truth.get(i) != loss
    ]
    missing = sorted(ground_truth.keys() - {i for i, _ in reported})
    return wrong + ([f'iterations that nobody reported: {missing}'] if missing else [])


def compare_outputs(whole: Path, killed: Path) -> list[str]:
    """The last checkpoints, tensor by tensor, and what else lies around."""
    a, b = (checkpoint.load(folder / checkpoint.LATEST) for folder in (whole, killed))
    of_a_place = ('config', 'git_revision')  # the output folder, the number of checkpoints kept
    faults = list(differences('', *({k: v for k, v in c.items() if k not in of_a_place} for c in (a, b))))
    left = [str(path) for path in killed.rglob('*.tmp')]
    return faults + ([f'left behind: {left}'] if left else [])


def differences(name: str, a: Any, b: Any) -> Iterator[str]:
    """The places at which two checkpoints are not the same to the bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(f'{name}.{key}', a[key], b[key])
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (x, y) in enumerate(zip(a, b)):
            yield from differences(f'{name}.{number}', x, y)
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield f'{name} differs'
    elif a != b:
        yield f'{name}: {a!r} and {b!r}'
