"""The table of docs/performance.md from the rows of the section gpu."""

from collections.abc import Callable

from lib.tools.benchmark.gpu import FIRST, LAST, NEXT
from lib.tools.benchmark.gpu_runs import TESTED, TRAINED, WORKERS
from lib.tools.benchmark.gpu_steps import COPY, EAGER, GRAPH, PRODUCT, REACH, REACH_AGAINST_PLAIN, READY, Issue
from lib.tools.benchmark.measure import Row

STEPS = ('images/s', 'x plain fp32', 'ms', 'of compute', 'of memory', 'GB', 'ready after, s')


def table(rows: list[Row]) -> str:
    """In markdown; what was not measured is blank."""
    by_name = {row.name: row for row in rows if row.section == 'gpu'}

    def cell(name: str, form: str = '{:,.0f}', ratio: bool = False) -> str:
        row = by_name.get(name)
        number = None if row is None else row.ratio if ratio else row.value
        return '' if number is None else form.format(number)

    return '\n'.join([*_steps(by_name, cell), '', *_runs(cell)])


def _steps(by_name: dict[str, Row], cell: Callable[..., str]) -> list[str]:
    lines = [f'| training step | {" | ".join(STEPS)} |', '|---' * (1 + len(STEPS)) + '|']
    for kind in (*FIRST, *NEXT, *(kind for kind in LAST if kind.speed in by_name)):
        cells = (
            cell(kind.speed) + _aim(REACH.get(kind)),
            cell(f'{kind}, against the plain fp32 step, images/s', '{:.2f}', True)
            + _aim(REACH_AGAINST_PLAIN.get(kind)),
            cell(f'{kind}, ms', '{:.1f}'),
            cell(f'{kind}, against the compute floor, ms; ratio: share', '{:.0%}', True),
            cell(f'{kind}, against the memory floor, ms; ratio: share', '{:.0%}', True),
            cell(f'{kind}, peak memory, GB', '{:.1f}'),
            cell(f'{kind}, ready after, s', '{:.0f}') + _aim(READY if 'compiled' in kind.how else None),
        )
        lines.append(f'| {kind} | {" | ".join(cells)} |')
    return lines


def _aim(reach: str | None) -> str:
    return f' (aim {reach})' if reach else ''


def _runs(cell: Callable[..., str]) -> list[str]:
    eager, graph = (Issue(2, 'bf16', 32, how) for how in (EAGER, GRAPH))
    lines = ['| whole runs, 2 stages | measured | aim |', '|---|---|---|']
    for batch in (32, 128):
        name = f'{TRAINED} {batch}'
        lines += [
            f'| {name}, images/s | {cell(f"{name}, images/s")} | |',
            f'| the same, waiting for data with {WORKERS} workers | '
            f'{cell(f"{name}, share of waiting for data with {WORKERS} workers", "{:.1%}")} | 5 % |',
        ]
    for what in ('bf16, batch 32', 'bf16, batch 128', 'fp32, batch 32'):
        lines.append(f'| {TESTED} {what}, s | {cell(f"{TESTED} {what}, s")} | 90 |')
    for kind in (eager, graph):
        name = f'{kind}, numbers that differ after resuming'
        lines.append(f'| {name}, deterministic | {cell(name)} | 0 |')
    name = f'{graph}, numbers that differ from {EAGER}'
    lines.append(f'| {name}, deterministic | {cell(name)} | 0 |')
    for kind in (eager, graph):
        name = f'{kind}, deterministic against usual, ms'
        lines.append(f'| {kind}, deterministic step against the usual | {cell(name, "{:.2f}", True)} | |')
    lines += [f'| {name} | {cell(name)} | |' for name in (COPY, *PRODUCT.values())]
    return lines
