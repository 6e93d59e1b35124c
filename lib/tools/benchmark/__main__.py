"""How fast this code is on this machine, each part against a floor measured in the same run.

    python -m lib.tools.benchmark                         # all sections but gpu, minutes on 2 cores
    python -m lib.tools.benchmark data decode             # some of them
    python -m lib.tools.benchmark step test --stages 4    # on a GPU where there is one
    python -m lib.tools.benchmark --json FILE             # also as a list of rows
    python -m lib.tools.benchmark gpu --minutes 8         # everything about a GPU; only when named

Prints the machine and a row per measurement: the median, the floor, their ratio, the ratio to reach. In the section
peers the floor is a straightforward PyTorch program. The sections data, test and peers, and two parts of gpu, need
images: dataset/COCO, or another data set in its layout (--root). On a CPU without bf16 instructions bf16 is left out.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import atomic_write
from lib.config import home
from lib.tools.arguments import positive
from lib.tools.benchmark.gpu import gpu
from lib.tools.benchmark.measure import Options, Row, in_a_process, machine
from lib.tools.benchmark.network import launches, step, test
from lib.tools.benchmark.parts import data, decode, loss, targets
from lib.tools.benchmark.peers import peers

DEFAULT = (data, targets, loss, decode, launches, step, test, peers)
SECTIONS = {function.__name__: function for function in (*DEFAULT, gpu)}
BATCH = {'cpu': 8, 'cuda': 32}


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f'{name} is none of {", ".join(SECTIONS)}')
    return name


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f'{text} is not a number of minutes above 0')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.benchmark',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ', '.join(SECTIONS)
    parser.add_argument('sections', nargs='*', type=_section, metavar='SECTION', help=f'{names}; default: all but gpu')
    parser.add_argument('--root', type=Path, default=home() / 'dataset/COCO', help='data set in COCO layout')
    parser.add_argument('--device', choices=BATCH, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--stages', type=positive, default=2, help='of the network (default: 2)')
    parser.add_argument('--batch', type=positive, help='images a step (default: 32 on a GPU, 8 on a CPU)')
    parser.add_argument('--repeats', type=positive, default=5, help='of each measurement (default: 5)')
    parser.add_argument('--minutes', type=_minutes, default=8.0, help='that gpu takes at most (default: 8)')
    parser.add_argument('--no-tests', action='store_true', help='gpu: without the GPU tests')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the rows there as well')
    return parser


def _line(row: Row) -> str:
    numbers = ['' if number is None else f'{number:.4g}' for number in (row.value, row.against, row.ratio)]
    met = {True: 'met', False: 'NOT MET', None: ''}[row.met]
    return f'{row.section:8} {row.name:84} {numbers[0]:>8} {numbers[1]:>8} {numbers[2]:>7}  {row.reach:8} {met}'


def _write(file: Path, rows: list[Row]) -> None:
    content = [{**dataclasses.asdict(row), 'met': row.met} for row in rows]
    try:
        with atomic_write(file) as stream:
            stream.write(json.dumps(content, indent=1).encode() + b'\n')
    except OSError as error:
        raise InputError(f'--json {file} cannot be written ({error.strerror}): name another file') from None


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: this machine has no CUDA device')
    if 'gpu' in args.sections and args.device != 'cuda':
        raise InputError('section gpu: there is no CUDA device, or --device names another: it measures nothing else')
    device = torch.device(args.device)
    rows: list[Row] = []
    if args.json:
        _write(args.json, rows)  # better now than after all the measuring
    print(machine(device))
    print(f'{"section":8} {"what":84} {"value":>8} {"against":>8} {"ratio":>7}  reach', flush=True)
    chosen = args.stages, args.batch or BATCH[args.device], args.repeats
    for name in args.sections or [function.__name__ for function in DEFAULT]:
        with tempfile.TemporaryDirectory(prefix='mspn-benchmark-', ignore_cleanup_errors=True) as scratch:
            options = Options(
                args.root.resolve(), Path(scratch), device, *chosen, minutes=args.minutes, tests=not args.no_tests
            )
            # The section gpu has processes of its own, and gives each row at once.
            for row in gpu(options) if name == 'gpu' else in_a_process(SECTIONS[name], options):
                print(_line(row), flush=True)
                rows.append(row)
                if args.json:
                    _write(args.json, rows)


if __name__ == '__main__':
    main()
