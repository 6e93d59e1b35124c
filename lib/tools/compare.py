"""Says whether one test was better than another, or whether the difference is noise.

    python -m lib.tools.compare A/metrics.json B/metrics.json ...

Prints a table per metric (AP and its relatives, PCK on annotated boxes, MPII's PCKh), in per cent, a line per test: the
metric, its difference from the first test's, and the intervals that contain 95 % of 1,000 resamples of the test's
images (bootstrap; the difference is taken within each resample). A difference whose interval contains 0 is noise: other
images could have reversed it. Metrics are recomputed from the results.json beside metrics.json and the ground truth
that metrics.json names.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json
from lib.evaluation import bootstrap
from lib.evaluation.evaluator import Resampled, fractions
from lib.evaluation.formats import EVALUATORS
from lib.tools.arguments import positive

FIELDS = {'metrics': dict, 'results': str, 'truth': str, 'sigmas': list}
# How far a recomputed metric may be from that of metrics.json, in 0 .. 1: rounding only.
ROUNDING = 1e-6


@dataclass
class Run:
    """A test to compare.

    name: as the table shows it
    test: what its metrics are recomputed from
    reported: (m,) its metrics in metrics.json, in 0 .. 1; NaN where there is none, or nothing to measure
    """

    name: str
    test: Resampled
    reported: np.ndarray


def read_run(path: Path, moved: Path | None) -> Run:
    """The test of a metrics.json. moved: where the ground truth is now, if it has moved.

    Raises InputError for any other file, and if its results or ground truth have changed.
    """
    content = read_json(path, 'run the test again')
    if not isinstance(content, dict) or 'metrics' not in content:
        raise InputError(f'{path} is not a metrics.json of this project: name one that test.py wrote')
    if content['metrics'] is None:
        raise InputError(f'{path} is of a test without ground truth: there is nothing to compare')
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f'{path} has no valid {name}, which the comparison needs: run the test again')
    if not all(isinstance(value, int | float) for value in content['metrics'].values()):
        raise InputError(f'{path}: metrics should be numbers: run the test again')
    ground_truth, results = moved or Path(content['truth']), path.parent / Path(content['results']).name
    # OKS has sigmas, PCKh has none.
    test = EVALUATORS['COCO' if content['sigmas'] else 'MPII'].resampled(path, content, ground_truth, results)
    metrics = fractions(content['metrics'], is_earlier='VALIDATION' not in (content.get('config') or {}))
    reported = np.array([metrics.get(name, np.nan) for name in test.names], np.float64)
    reported[reported < 0] = np.nan
    now = test.metrics(np.ones(len(test.images), np.int64))
    wrong = ~np.isnan(reported) & ~(np.abs(reported - now) <= ROUNDING)
    wrong[0] |= np.isnan(reported[0]) and not np.isnan(now[0])
    for i in np.flatnonzero(wrong).tolist():
        raise InputError(
            f'{results} has {test.names[i]} {100 * now[i]:.2f}, but {path} has {100 * reported[i]:.2f}: one of them, '
            f'or {ground_truth}, is of another test: run the test again'
        )
    return Run(str(path.parent if path.name == 'metrics.json' else path), test, reported)


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises InputError unless all tests are on the same images, with the same ground truth and sigmas."""
    first = runs[0]
    for run in runs[1:]:
        if run.test.names[0] != first.test.names[0] or run.test.images != first.test.images:
            raise InputError(f'{run.name} was tested on other images than {first.name}: test both on the same images')
        if run.test.measure != first.test.measure:
            raise InputError(
                f'{run.name} used another ground truth or other sigmas than {first.name}: run both tests alike'
            )


def verdict(differences: np.ndarray) -> str:
    """What resampled differences to the first test say."""
    if not np.nan_to_num(differences).any():
        return 'no difference'
    low, high = bootstrap.interval(differences)
    return 'better' if low > 0 else 'worse' if high < 0 else 'noise'


def tables(runs: Sequence[Run], resamples: Sequence[np.ndarray]) -> str:
    """The text to print, a table per metric. resamples: per run (count, m), all of the same resamples"""
    names = list(dict.fromkeys(name for run in runs for name in run.test.names))
    return '\n\n'.join(filter(None, (_table(name, runs, resamples) for name in names)))


def _table(name: str, runs: Sequence[Run], resamples: Sequence[np.ndarray]) -> str:
    """The table of one metric, whose name heads the first column; empty if no test has it."""
    columns = [run.test.names.index(name) if name in run.test.names else None for run in runs]
    known = [column is not None and not np.isnan(run.reported[column]) for run, column in zip(runs, columns)]
    rows = [[name, '', '95 %', 'difference', '95 %', '']]
    for run, sample, column, is_known in zip(runs, resamples, columns, known):
        cells = [run.name, '-']
        if is_known:
            value, values = run.reported[column], sample[:, column]
            cells = [run.name, f'{100 * value:.1f}', _range(values, '{:.1f}')]
            if run is not runs[0] and known[0]:
                differences = values - resamples[0][:, columns[0]]
                difference = 100 * (value - runs[0].reported[columns[0]])
                cells += [f'{difference:+.2f}', _range(differences, '{:+.2f}'), verdict(differences)]
        rows.append(cells + [''] * (len(rows[0]) - len(cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return '\n'.join(lines) if any(known) else ''


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
    parser.add_argument('--truth', type=Path, help='where the ground truth file is now, if it has moved')
    parser.add_argument('--resamples', '--draws', type=positive, default=1000, help='of the images (default: 1000)')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    runs = [read_run(path, args.truth) for path in args.metrics]
    check_comparable(runs)
    images = len(runs[0].test.images)
    resamples = bootstrap.resample([run.test.metrics for run in runs], images, args.resamples)
    print(tables(runs, resamples))
    print(f'\n{args.resamples:,} resamples of {images:,} images')


if __name__ == '__main__':
    sys.exit(main())
