"""Kills a training run again and again and compares what comes of it with an undisturbed one.

    python -m tests.support.torture                                  # 20 kills
    python -m tests.support.torture --kills 40 --seed 1 --output DIR # another plan; DIR keeps what the runs leave

A run on two processes, then one on a single process with accumulated gradients. Each start goes on with
`--resume auto` until it is struck: by SIGKILL, SIGTERM or SIGUSR1, during a save, on a full disk (a tmpfs of its own
where one may be mounted, else a limit on the size of files). What strikes when follows from the seed, in iterations;
in milliseconds no two runs are alike. Prints a report; exit code 0 if nothing was lost and every bit is the same.
"""

import argparse
import contextlib
import itertools
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.campaign import ALONE, PERIOD, START, TOGETHER, Campaign, Strike
from tests.support.jobs import write_experiment

DISK_BYTES = 2**26


def plan(kills: int, seed: int, processes: int | None = None) -> dict[int, list[Strike]]:
    """The strikes on two processes and on one, or only on so many: every kind as often as the next, in any order."""
    rng = random.Random(seed)
    alone = {None: kills * 2 // 5, 1: kills, 2: 0}[processes]
    strikes = {}
    for processes, kinds, count in ((2, TOGETHER, kills - alone), (1, ALONE, alone)):
        chosen = list(itertools.islice(itertools.cycle(kinds), count))
        rng.shuffle(chosen)
        strikes[processes] = [
            Strike(
                kind,
                iterations=0 if kind == START else rng.randint(PERIOD // 2, PERIOD * 5 // 2),
                pause=rng.uniform(0.5, 4) if kind == START else rng.uniform(0, 0.1),
                rank=rng.randrange(2),
                share=rng.random(),
            )
            for kind in chosen
        ]
    return {count: own for count, own in strikes.items() if own}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs at the folder while the block lasts, if this user may mount one; else the folder as it is."""
    folder.mkdir(parents=True)
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={DISK_BYTES}', 'tmpfs', str(folder)]
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(mount, capture_output=True)
    try:
        yield folder
    finally:
        if folder.is_mount():
            subprocess.run(['umount', str(folder)], check=True)


def report(campaign: Campaign) -> str:
    where = 'two processes under torchrun' if campaign.processes == 2 else 'one process, two batches an iteration'
    disk = 'a tmpfs' if campaign.mounted else 'a limit on the size of files'
    lines = [
        f'{where}: {campaign.length} iterations, a checkpoint every {PERIOD}; the full disk is {disk}',
        'start  went on from  struck at  in a save  code  by',
    ]
    for number, s in enumerate(campaign.struck, start=1):
        saving = 'yes' if s.saving else 'no'
        span = (s.start, s.iteration) if s.iteration else ('-', '-')
        lines.append('{:5}  {:>12}  {:>9}  {:>9}  {:4}  {}'.format(number, *span, saving, s.code, s.strike.kind))
    lines.append(
        f'{len(campaign.losses)} iterations reported for {campaign.length}; '
        f'{len(campaign.cuts)} checkpoints cut short, {campaign.fallbacks} falls back to the one before'
    )
    return '\n'.join(lines + [f'FAULT: {fault}' for fault in campaign.faults[:20]])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description='Kill a training run again and again; compare it with another.')
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, help='a folder that keeps what the runs leave; default: none does')
    parser.add_argument('--processes', type=int, choices=(1, 2), help='of one, or of two processes only')
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that whatever ends this ends its jobs too
    campaigns = []
    with tempfile.TemporaryDirectory(prefix='torture-') as temporary:
        folder = (args.output or Path(temporary)).resolve()
        (folder / 'experiment').mkdir(parents=True)
        experiment = write_experiment(folder / 'experiment')
        for processes, strikes in plan(args.kills, args.seed, args.processes).items():
            here = folder / f'{processes}-processes'
            here.mkdir()
            with small_disk(here / 'disk') if processes == 1 else contextlib.nullcontext(here) as disk:
                campaign = Campaign(processes, strikes, here, disk, experiment)
                campaign.run()
            print(report(campaign), end='\n\n', flush=True)
            campaigns.append(campaign)
    struck = [s for campaign in campaigns for s in campaign.struck]
    for kind, count in sorted(Counter(s.strike.kind for s in struck).items()):
        print(f'{count:3}  {kind}')
    print(f'{len(struck)} of {args.kills} kills, seed {args.seed}; {sum(s.saving for s in struck)} during a save')
    good = len(struck) == args.kills and not any(campaign.faults for campaign in campaigns)
    print('result: the same to the bit, nothing left behind' if good else 'result: FAILED')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
