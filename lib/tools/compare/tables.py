"""Tables of tests and of trainings: metrics, differences from the first, and what chance could have made of them."""

from collections.abc import Sequence

import numpy as np
import scipy.stats

from lib.evaluation import bootstrap
from lib.tools.compare.runs import Run

Interval = tuple[float, float]


def verdict(difference: Interval) -> str:
    """What the 95 % interval of a difference to the first test says."""
    low, high = difference
    if low == high == 0:
        return 'no difference'
    return 'better' if low > 0 else 'worse' if high < 0 else 'noise'


def tables(runs: Sequence[Run], resamples: Sequence[np.ndarray]) -> str:
    """The text to print, a table per metric. resamples: per run (count, m), all of the same resamples"""
    names = list(dict.fromkeys(name for run in runs for name in run.test.names))
    return '\n\n'.join(filter(None, (_table(name, runs, resamples) for name in names)))


def _table(name: str, runs: Sequence[Run], resamples: Sequence[np.ndarray]) -> str:
    """The table of one metric, whose name heads the first column; empty if no test has it."""
    columns = [_column(name, run) for run in runs]
    known = [column is not None for column in columns]
    rows = [[name, '', '95 %', 'difference', '95 %', '']]
    for run, sample, column in zip(runs, resamples, columns):
        cells = [run.name, '-']
        if column is not None:
            value, values = run.reported[column], sample[:, column]
            cells = [run.name, f'{100 * value:.1f}', _range(bootstrap.interval(values), '.1f')]
            if run is not runs[0] and known[0]:
                difference = 100 * (value - runs[0].reported[columns[0]])
                likely = bootstrap.interval(values - resamples[0][:, columns[0]])
                cells += [f'{difference:+.2f}', _range(likely, '+.2f'), verdict(likely)]
        rows.append(cells)
    return _aligned(rows) if any(known) else ''


def training_tables(settings: Sequence[Sequence[Run]], resamples: Sequence[Sequence[np.ndarray]]) -> str:
    """The text to print about several trainings a setting, a table per metric. resamples: as in tables, per setting"""
    names = dict.fromkeys(name for runs in settings for run in runs for name in run.test.names)
    return '\n\n'.join(filter(None, (_training_table(name, settings, resamples) for name in names)))


def _training_table(name: str, settings: Sequence[Sequence[Run]], resamples: Sequence[Sequence[np.ndarray]]) -> str:
    """The table of one metric; empty unless every test has it. Figures are means over the trainings of a setting."""
    columns = [[_column(name, run) for run in runs] for runs in settings]
    if any(column is None for of_setting in columns for column in of_setting):
        return ''
    reached = [np.array([run.reported[c] for run, c in zip(*pair)]) for pair in zip(settings, columns)]
    drawn = [np.mean([sample[:, c] for sample, c in zip(*pair)], axis=0) for pair in zip(resamples, columns)]
    rows = [[name, 'mean', 'trainings', 'difference', '95 %, images', '95 %, seeds', '']]
    for number, (values, sample) in enumerate(zip(reached, drawn)):
        cells = [
            f'setting {number + 1}',
            f'{100 * values.mean():.1f}',
            ' '.join(f'{100 * value:.1f}' for value in values),
        ]
        if number:
            intervals = bootstrap.interval(sample - drawn[0]), seed_interval(reached, number)
            verdicts = {verdict(interval) for interval in intervals}
            cells += [f'{100 * (values.mean() - reached[0].mean()):+.2f}']
            cells += [_range(interval, '+.2f') for interval in intervals]
            cells += [verdicts.pop() if len(verdicts) == 1 else 'noise']
        rows.append(cells)
    return _aligned(rows)


def seed_interval(reached: Sequence[np.ndarray], number: int) -> Interval:
    """The 95 % interval of a setting's mean minus the first one's, over seeds, by Student's t.

    reached: for each setting (n,) what its trainings reached. All settings are taken to spread alike, so that each
    training beyond the first of its setting tells something about the spread.
    """
    first, other = reached[0], reached[number]
    freedom = sum(len(values) - 1 for values in reached)
    variance = sum(len(values) * values.var() for values in reached) / freedom
    error = (variance * (1 / len(first) + 1 / len(other))) ** 0.5
    low, high = other.mean() - first.mean() + error * scipy.stats.t.ppf(bootstrap.INTERVAL, freedom)
    return float(low), float(high)


def _column(name: str, run: Run) -> int | None:
    """Where a test has a metric; None if it has none, or there was nothing to measure."""
    column = run.test.names.index(name) if name in run.test.names else None
    return None if column is None or np.isnan(run.reported[column]) else column


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """The text of a table: its first column to the left, the others to the right."""
    rows = [[*row, *[''] * (len(rows[0]) - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ('  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
    return '\n'.join(lines)


def _range(interval: Interval, form: str) -> str:
    return ' .. '.join(format(100 * end, form) for end in interval)
