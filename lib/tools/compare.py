"""Says whether one test was better than another, or whether the difference is noise.

    python -m lib.tools.compare A/metrics.json B/metrics.json ...

Prints a line for each test: its figures, in per cent, and by how much it differs from the first, with intervals in
which 95 % of 1,000 draws of the test's images lie (bootstrap; the difference is taken within each draw). A difference
whose interval reaches over 0 is noise: other images could have turned it round. AP is compared, or MPII's mean PCKh.
It is recomputed from results.json beside metrics.json and the truth that this names.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json, sha256
from lib.analysis import bootstrap, heads
from lib.analysis.oks import Evaluation
from lib.analysis.people import parse_truth, read_results
from lib.analysis.precision import tally
from lib.datasets.coco import PREPARE
from lib.tools.arguments import positive

FIELDS = {'metrics': dict, 'results': str, 'truth': str, 'sigmas': list}
# What a recomputed figure may differ by from that of metrics.json, in 0 .. 1: nothing but rounding.
ROUNDING = 1e-6


@dataclass
class Run:
    """A test to compare.

    name:    as the table shows it
    metrics: its figures
    main:    the name of the figure that is compared
    scale:   what makes a share of it a share of 1
    figure:  how often each image counts -> that figure, in 0 .. 1
    measure: what has to be equal for figures to be: the truth's SHA-256 and the sigmas
    images:  the names or ids of those
    """

    name: str
    metrics: dict[str, float]
    main: str
    scale: float
    figure: bootstrap.Figure
    images: list
    measure: tuple


def read_run(path: Path, truth_file: Path | None) -> Run:
    """The test of a metrics.json. truth_file: where the truth lies now, if not where it lay.

    Raises InputError for a file that is none, or of no use any more.
    """
    content = read_json(path, 'test again')
    if not isinstance(content, dict) or 'metrics' not in content:
        raise InputError(f"{path} is no metrics.json of this project: take a test's")
    if content['metrics'] is None:
        raise InputError(f'{path} is of a test without truth, so there is nothing to compare')
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f'{path} does not tell {name}, which comparing needs: test again')
    if not all(isinstance(value, int | float) for value in content['metrics'].values()):
        raise InputError(f'{path}: metrics should be numbers: test again')
    truth, results = truth_file or Path(content['truth']), path.parent / Path(content['results']).name
    make = _coco_run if content['sigmas'] else _mpii_run
    run = make(path, content, truth, results)
    told, now = run.metrics.get(run.main), run.figure(np.ones(len(run.images), np.int64))
    if not isinstance(told, float) or not abs(told / run.scale - now) <= ROUNDING:
        raise InputError(
            f'{results} has {run.main} {100 * now:.2f}, but {path} says otherwise: one of them, or {truth}, is of '
            'another test: test again'
        )
    return run


def _coco_run(path: Path, content: dict, truth_file: Path, results: Path) -> Run:
    try:
        sigmas = np.array(content['sigmas'], np.float64)
    except (TypeError, ValueError):
        raise InputError(f'{path}: sigmas should be numbers: test again') from None
    truth = parse_truth(read_json(truth_file, f'{PREPARE}, or name it with --truth'), truth_file, len(sigmas))
    figures = tally(Evaluation(truth, read_results(results, truth), sigmas))
    return Run(
        _name(path),
        content['metrics'],
        'AP',
        1,
        figures.ap,
        truth.image_ids.tolist(),
        (sha256(truth_file), *sigmas.tolist()),
    )


def _mpii_run(path: Path, content: dict, truth_file: Path, results: Path) -> Run:
    names, keypoints = heads.read_people(results)
    hits, joints = heads.hits_and_joints(heads.head_errors(keypoints, truth_file))
    images, image = np.unique(names, return_inverse=True)
    hits, joints = (np.bincount(image, of_people) for of_people in (hits, joints))
    return Run(
        _name(path),
        content['metrics'],
        'Mean',
        100,
        lambda w: float(hits @ w / (joints @ w)),
        images.tolist(),
        (sha256(truth_file),),
    )


def _name(path: Path) -> str:
    return str(path.parent if path.name == 'metrics.json' else path)


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises InputError for tests on other images, or of another measure, than the first."""
    first = runs[0]
    for run in runs[1:]:
        if run.main != first.main or run.images != first.images:
            raise InputError(f'{run.name} was tested on other images than {first.name}: test both on the same')
        if run.measure != first.measure:
            raise InputError(
                f'{run.name} was measured by another truth or other sigmas than {first.name}: test both alike'
            )


def verdict(differences: np.ndarray) -> str:
    """What drawn differences to the first test say."""
    if not np.nan_to_num(differences).any():
        return 'no difference'
    low, high = bootstrap.interval(differences)
    return 'better' if low > 0 else 'worse' if high < 0 else 'noise'


def table(runs: Sequence[Run], drawn: np.ndarray) -> str:
    """The lines to print. drawn: (samples, runs), from bootstrap.draws"""
    main, names = runs[0].main, list(runs[0].metrics)
    rows = [['', *names, f'{main} 95 %', 'difference', '95 %', '']]
    for index, run in enumerate(runs):
        figures = [_percent(run.metrics.get(name, -1) / run.scale) for name in names]
        cells = [run.name, *figures, _range(drawn[:, index], '{:.1f}')]
        if index:
            differences = drawn[:, index] - drawn[:, 0]
            difference = (run.metrics[main] - runs[0].metrics[main]) / run.scale
            cells += [f'{100 * difference:+.2f}', _range(differences, '{:+.2f}'), verdict(differences)]
        rows.append(cells + [''] * (len(rows[0]) - len(cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join(
        '  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def _percent(value: float) -> str:
    return f'{100 * value:.1f}' if value >= 0 else '-'


def _range(values: np.ndarray, form: str) -> str:
    low, high = bootstrap.interval(values)
    return f'{form.format(100 * low)} .. {form.format(100 * high)}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.compare',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('metrics', type=Path, nargs='+', metavar='metrics.json', help='of the tests to compare')
    parser.add_argument('--truth', type=Path, help='where the file of annotations lies, if it has moved since')
    parser.add_argument('--draws', type=positive, default=1000, help='of the images (default: 1000)')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    runs = [read_run(path, args.truth) for path in args.metrics]
    check_comparable(runs)
    drawn = bootstrap.draws([run.figure for run in runs], len(runs[0].images), args.draws)
    print(table(runs, drawn))
    print(f'{args.draws:,} draws of {len(runs[0].images):,} images')


if __name__ == '__main__':
    sys.exit(main())
