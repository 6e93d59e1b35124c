"""report.html: what was tested, the metrics, and where the predictions are wrong. See docs/diagnose.md."""

from collections.abc import Sequence
from pathlib import Path

from cvpack.files import atomic_write
from lib.datasets.checks import Issue
from lib.datasets.description import Description
from lib.evaluation import page
from lib.evaluation.cases import Case, picture
from lib.evaluation.evaluator import Evaluator, ResultRows


def write_report(content: dict, metrics: dict[str, str], evaluator: Evaluator, rows: ResultRows, folder: Path) -> Path:
    """Writes report.html into the folder and returns its path. Raises OSError.

    content: of metrics.json; metrics: as printed, by name; rows: of results.json; the evaluator needs ground truth
    """
    sections, cases = evaluator.sections(rows)
    path = folder / 'report.html'
    sections = [
        _tested(content),
        page.section('Metrics', '', page.table(list(metrics), [list(metrics.values())], 'large')),
        *sections,
        _pictures(cases, evaluator.records.root, evaluator.dataset),
    ]
    weights = content['weights']
    names = [Path(name).stem for name in ([weights] if isinstance(weights, str) else weights)]
    title = f'{content["experiment"]}, {" + ".join(names)}'
    with atomic_write(path) as file:
        file.write(page.page(title, sections).encode(errors='replace'))
    return path


def _of_each(name: str, value: str | list[str]) -> dict[str, str]:
    """The table row of a value; for an ensemble, a row for each member."""
    return {name: value} if isinstance(value, str) else {f'{name}, {i}': one for i, one in enumerate(value, start=1)}


def _tested(content: dict) -> str:
    config = content['config']
    height, width = config['INPUT_SHAPE']
    rows = {
        'experiment': content['experiment'],
        'network': f'{config["MODEL"]["STAGE_NUM"]} x {config["MODEL"]["BACKBONE"]}, input {height}x{width}',
        **_of_each('weights', content['weights']),
        **_of_each('SHA-256 of the weights', content['weights_sha256']),
        'ground truth': content['truth'],
        'boxes': f'{content["boxes"]:,}, from {content["boxes_from"]}s',
        'flip test': 'yes' if content['flip'] else 'no',
        **_beyond_published(config.get('TEST', {})),
        'code': content['git_revision'],
    }
    return page.section('What was tested', '', page.table((), list(rows.items()), 'facts'))


def _beyond_published(test: dict) -> dict[str, str]:
    """TEST keys that differ from the published test; older files lack them."""
    rows = {}
    if test.get('SCALES', [1.0]) != [1.0]:
        rows['scales of the box'] = ', '.join(map(str, test['SCALES']))
    if test.get('NMS', 'none') != 'none':
        rows['non-maximum suppression'] = f'{test["NMS"]}, OKS above {test["NMS_THRESHOLD"]}'
    if test.get('RESCORE', 'mean') != 'mean':
        rows['instance scores'] = f'from {test["RESCORE"]} joints'
    return rows


def _pictures(cases: Sequence[Case], images: Path, dataset: Description) -> str:
    figures = []
    for case in cases:
        shown = picture(case, images, dataset.skeleton, dataset.joint_names)
        if isinstance(shown, Issue):
            figures.append(page.figure(None, case.title, f'{case.caption} (not shown: {shown.description})'))
        else:
            figures.append(page.figure(shown, case.title, case.caption))
    return page.section('Cases', 'Ground truth left, prediction right.', page.cases(figures))
