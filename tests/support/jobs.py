"""Training as a job of several processes, for the tests that kill it: started, watched, struck, ended to the last.

Processes are found in /proc, so this is for Linux.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from lib.config import REPOSITORY
from lib.datasets.synthetic import write_dataset

CONFIG = """
from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.DATASET.ROOT = {root!r}
cfg.INPUT_SHAPE = [64, 64]
cfg.MODEL.BACKBONE = 'Res-18'
cfg.MODEL.STAGE_NUM = 1
cfg.MODEL.WIDTH = 8
cfg.MODEL.UPSAMPLE_CHANNEL_NUM = 16
cfg.MODEL.WEIGHT = ''
cfg.MODEL.DEVICE = 'cpu'
cfg.SOLVER.IMS_PER_GPU = 3
cfg.SOLVER.WARMUP_ITERS = 2
cfg.SOLVER.EMA = 0.9
cfg.DATALOADER.NUM_WORKERS = 1
finalize(cfg, __file__)
"""
TRAIN = """
import sys

sys.modules['matplotlib.figure'] = None  # no curves.png, which takes longer to draw than these runs take

from config import cfg
from cvpack import logger
from lib.engine import train
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    logger.PERIOD = 1  # the losses of every iteration are compared
    train(cfg, build_mspn)
"""
# A line is whole if it has a speed.
LINE = re.compile(r'iter (\d+)/\d+ \| (lr .*) \| [\d.]+ img/s')


def write_experiment(folder: Path) -> Path:
    """An experiment of some 200,000 parameters on 12 images, an iteration a matter of tens of milliseconds."""
    write_dataset(folder / 'data', train_images=12, val_images=1, seed=1)
    (folder / 'config.py').write_text(CONFIG.format(root=str(folder / 'data')))
    (folder / 'train.py').write_text(TRAIN)
    return folder


def train_command(settings: Iterable[str], launcher: Iterable[str] = ()) -> list[str]:
    """The command line of a run that goes on wherever it was left."""
    return [sys.executable, *launcher, 'train.py', '--resume', 'auto', '--set', *settings]


class Fault(Exception):
    """A job did what it should not have done."""


class Job:
    """A command in a folder, and all processes that come of it; none of them outlives the `with` block.

    console: a file for what they print
    """

    def __init__(self, command: list[str], folder: Path, console: Path, **environment: str) -> None:
        self.console = console
        # Inherited by every descendant, whoever its parent is by the time it is looked for.
        self.mark = f'TEST_JOB={uuid.uuid4()}'.encode()
        name, _, value = self.mark.decode().partition('=')
        ours = {name: value, 'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'}
        with open(console, 'w') as output:
            self.launcher = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **ours, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> 'Job':
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def processes(self) -> dict[int, dict[str, str]]:
        """All that live, with the environments that they were started with."""
        found = {}
        for entry in Path('/proc').iterdir():
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
                if entry.name.isdigit() and self.mark in (variables := (entry / 'environ').read_bytes().split(b'\0')):
                    found[int(entry.name)] = dict(
                        v.decode(errors='replace').split('=', 1) for v in variables if b'=' in v
                    )
        return found

    def ranks(self) -> list[int]:
        """The processes that train, in the order of their ranks; without a launcher of ranks, the one there is."""
        ranks = {pid: int(variables['RANK']) for pid, variables in self.processes().items() if 'RANK' in variables}
        # A loader's workers have their rank's environment too.
        own = [pid for pid in ranks if _parent(pid) not in ranks]
        return sorted(own, key=ranks.get) or [self.launcher.pid]

    def text(self) -> str:
        return self.console.read_text(errors='replace')

    def fault(self, what: str) -> Fault:
        """The exception for what this job did, with the last lines that it printed."""
        return Fault('\n    '.join([f'{self.console.name}: {what}', *self.text().splitlines()[-12:]]))

    def iterations(self) -> list[tuple[int, str]]:
        """The iterations reported so far, each with its learning rate and losses as printed."""
        return [(int(number), losses) for number, losses in LINE.findall(self.text())]

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120, poll: float = 0.02) -> None:
        """Looks every `poll` seconds. Raises Fault if the job ends first, or takes longer."""
        end = time.monotonic() + seconds
        while not condition():
            if self.launcher.poll() is not None and not condition():
                raise self.fault(f'ended with code {self.launcher.returncode} too soon')
            if time.monotonic() > end:
                raise self.fault(f'what was waited for did not come in {seconds:g} s')
            time.sleep(poll)

    def wait(self, seconds: float = 120) -> int:
        """The launcher's exit code. Raises Fault if it does not end."""
        try:
            return self.launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.fault(f'did not end in {seconds:g} s') from None

    def kill(self) -> None:
        """SIGKILL until nothing is left."""
        while pids := self.processes():
            send(pids, signal.SIGKILL)
            time.sleep(0.01)
        self.launcher.wait()


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _parent(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
    except OSError:
        return 0
