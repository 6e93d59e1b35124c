"""Says whether one test was better than another, or whether the difference is noise.

    python -m lib.tools.compare A/metrics.json B/metrics.json ...

Prints a table for each metric that the tests have (AP and its kin, PCK on annotated boxes, MPII's PCKh), in per cent,
with a line for each test: the metric, and by how much it differs from the first test's, with intervals in which 95 % of
1,000 draws of the test's images lie (bootstrap; the difference is taken within each draw). A difference whose interval
reaches over 0 is noise: other images could have turned it round. Metrics are recomputed from results.json beside
metrics.json and the truth that this names.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json, sha256
from lib.datasets import mpii
from lib.datasets.coco import PREPARE
from lib.datasets.coco_json import labelled_people, listed_images
from lib.evaluation import bootstrap, heads
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.coco import METRICS, PCK_THRESHOLDS, box_errors
from lib.evaluation.oks import Evaluation
from lib.evaluation.people import GroundTruth, parse_ground_truth, read_results
from lib.evaluation.resampled import coco_metrics, pck_metrics, pckh_metrics
from lib.tools.arguments import positive
from lib.utils.transforms import centers_and_scales

FIELDS = {'metrics': dict, 'results': str, 'truth': str, 'sigmas': list}
# What a recomputed figure may differ by from that of metrics.json, in 0 .. 1: nothing but rounding.
ROUNDING = 1e-6

PCK = tuple(f'PCK@{share}' for share in PCK_THRESHOLDS)
PCKH = (*mpii.METRICS, 'Mean', 'Mean@0.1')


@dataclass
class Run:
    """A test to compare.

    name:    as the table shows it
    names:   of its metrics, the first of which every test has
    told:    (m,) its metrics, in 0 .. 1, as metrics.json has them; NaN where it does not, or has nothing to measure
    metrics: how often each image counts -> (m,) the same, in 0 .. 1
    measure: what has to be equal for metrics to be: the truth's SHA-256 and the sigmas
    images:  the names or ids of those
    """

    name: str
    names: tuple[str, ...]
    told: np.ndarray
    metrics: Metrics
    images: list
    measure: tuple


def read_run(path: Path, ground_truth_file: Path | None) -> Run:
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
    ground_truth, results = ground_truth_file or Path(content['truth']), path.parent / Path(content['results']).name
    make = _coco_run if content['sigmas'] else _mpii_run
    run = make(path, content, ground_truth, results)
    now = run.metrics(np.ones(len(run.images), np.int64))
    wrong = ~np.isnan(run.told) & ~(np.abs(run.told - now) <= ROUNDING)
    wrong[0] |= np.isnan(run.told[0]) and not np.isnan(now[0])
    for i in np.flatnonzero(wrong):
        raise InputError(
            f'{results} has {run.names[i]} {100 * now[i]:.2f}, but {path} says otherwise: one of them, or '
            f'{ground_truth}, is of another test: test again'
        )
    return run


def _coco_run(path: Path, content: dict, ground_truth_file: Path, results: Path) -> Run:
    try:
        sigmas = np.array(content['sigmas'], np.float64)
    except (TypeError, ValueError):
        raise InputError(f'{path}: sigmas should be numbers: test again') from None
    annotations = read_json(ground_truth_file, f'{PREPARE}, or name it with --truth')
    ground_truth = parse_ground_truth(annotations, ground_truth_file, len(sigmas))
    names, parts = METRICS, [coco_metrics(Evaluation(ground_truth, read_results(results, ground_truth), sigmas))]
    if PCK[0] in content['metrics']:
        names, parts = names + PCK, [*parts, _pck(annotations, ground_truth_file, results, ground_truth)]
    told = _told(content, names)
    return Run(
        _name(path),
        names,
        np.where(told < 0, np.nan, told),
        lambda weights: np.concatenate([part(weights) for part in parts]),
        ground_truth.image_ids.tolist(),
        (sha256(ground_truth_file), *sigmas.tolist()),
    )


def _told(content: dict, names: Sequence[str]) -> np.ndarray:
    return np.array([content['metrics'].get(name, np.nan) for name in names], np.float64)


def _pck(annotations: dict, ground_truth_file: Path, results: Path, ground_truth: GroundTruth) -> Metrics:
    """Of results for the annotated boxes: a row for each person, in the order of the annotations."""
    listed, joints = listed_images(annotations, ground_truth_file), ground_truth.keypoints.shape[1]
    people = labelled_people(annotations, ground_truth_file, listed, joints, min_keypoints=1)
    rows = np.array([row['keypoints'] for row in read_json(results)], np.float64).reshape(-1, joints, 3)
    if len(rows) != len(people.boxes):
        raise InputError(
            f'{results} has {len(rows)} people, {ground_truth_file} {len(people.boxes)} annotated boxes: one of them '
            'is of another test: test again'
        )
    keypoints = people.keypoints.astype(np.float32)
    errors = box_errors(rows, keypoints[..., :2], keypoints[..., 2], centers_and_scales(people.boxes)[1])
    return pck_metrics(errors, np.searchsorted(ground_truth.image_ids, people.image_ids), len(ground_truth.image_ids))


def _mpii_run(path: Path, content: dict, ground_truth_file: Path, results: Path) -> Run:
    names, keypoints = heads.read_people(results)
    images, image = np.unique(names, return_inverse=True)
    metrics = pckh_metrics(heads.head_errors(keypoints, ground_truth_file), image, len(images))
    told = _told(content, PCKH) / 100
    return Run(_name(path), PCKH, told, metrics, images.tolist(), (sha256(ground_truth_file),))


def _name(path: Path) -> str:
    return str(path.parent if path.name == 'metrics.json' else path)


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises InputError for tests on other images, or of another measure, than the first."""
    first = runs[0]
    for run in runs[1:]:
        if run.names[0] != first.names[0] or run.images != first.images:
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


def tables(runs: Sequence[Run], drawn: Sequence[np.ndarray]) -> str:
    """The lines to print, a table for each metric. drawn: for each run (samples, m), of the same draws"""
    names = list(dict.fromkeys(name for run in runs for name in run.names))
    return '\n\n'.join(filter(None, (_table(name, runs, drawn) for name in names)))


def _table(name: str, runs: Sequence[Run], drawn: Sequence[np.ndarray]) -> str:
    """That of one metric, whose name heads the column of the tests; nothing where no test can measure it."""
    columns = [run.names.index(name) if name in run.names else None for run in runs]
    known = [column is not None and not np.isnan(run.told[column]) for run, column in zip(runs, columns)]
    rows = [[name, '', '95 %', 'difference', '95 %', '']]
    for run, sample, column, is_known in zip(runs, drawn, columns, known):
        cells = [run.name, '-']
        if is_known:
            value, values = run.told[column], sample[:, column]
            cells = [run.name, f'{100 * value:.1f}', _range(values, '{:.1f}')]
            if run is not runs[0] and known[0]:
                differences = values - drawn[0][:, columns[0]]
                difference = 100 * (value - runs[0].told[columns[0]])
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
    parser.add_argument('--truth', type=Path, help='where the file of annotations lies, if it has moved since')
    parser.add_argument('--draws', type=positive, default=1000, help='of the images (default: 1000)')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    runs = [read_run(path, args.ground_truth) for path in args.metrics]
    check_comparable(runs)
    drawn = bootstrap.draws([run.metrics for run in runs], len(runs[0].images), args.draws)
    print(tables(runs, drawn))
    print(f'\n{args.draws:,} draws of {len(runs[0].images):,} images')


if __name__ == '__main__':
    sys.exit(main())
