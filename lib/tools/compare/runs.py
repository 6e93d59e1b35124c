"""The tests to compare, read from their metrics.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.evaluation.evaluator import Resampled, fractions
from lib.evaluation.formats import EVALUATORS

FIELDS = {'metrics': dict, 'results': str, 'truth': str, 'sigmas': list}
# How far a recomputed metric may be from that of metrics.json, in 0 .. 1: rounding only.
ROUNDING = 1e-6


@dataclass
class Run:
    """A test to compare.

    name: as the table shows it
    test: what its metrics are recomputed from
    reported: (m,) its metrics in metrics.json, in 0 .. 1; NaN where there is none, or nothing to measure
    weights: SHA-256 of the tested weights, a list for an ensemble; None: not recorded
    """

    name: str
    test: Resampled
    reported: np.ndarray
    weights: str | list[str] | None


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
    if np.isnan(reported).all():
        raise InputError(f'{path} has no metric with a value: there is nothing to compare')
    name = str(path.parent if path.name == 'metrics.json' else path)
    return Run(name, test, reported, content.get('weights_sha256'))


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


def check_trainings(settings: Sequence[Sequence[Run]]) -> None:
    """Raises InputError unless each setting's tests are of different trainings, and some setting has several."""
    for runs in settings:
        seen: dict[str, str] = {}
        for run in runs:
            weights = str(run.weights or run.name)
            if other := seen.get(weights):
                raise InputError(f'{run.name} tested the same weights as {other}: name tests of different trainings')
            seen[weights] = run.name
    if all(len(runs) == 1 for runs in settings):
        raise InputError(
            'one training of each setting does not tell how far seeds spread: train one again under another SOLVER.SEED'
        )
