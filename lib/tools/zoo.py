"""Gathers what tests measured into docs/zoo.json, and writes the README's table of results from it.

    python -m lib.tools.zoo --on '8 V100' model_logs/USER/EXPERIMENT/test_dir/iter-96000/metrics.json ...
    python -m lib.tools.zoo             # every experiment's newest test in model_logs that knows its experiment
    python -m lib.tools.zoo --check     # changes nothing: is the README's table that of docs/zoo.json?

No figure of the table is typed by hand: a test's figures, data, boxes, weights' SHA-256 and code come from its
metrics.json. Of an experiment and its way of testing (data, boxes, CODEC, scales, ...) the newest entry stays.
docs/zoo.json also lists the experiments that have a row, with what was published of them. Exit code of --check: 0 or 1.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json, write_json
from lib.config import REPOSITORY, home
from lib.loader import format_of

ZOO, README = 'docs/zoo.json', 'README.md'
TABLE = re.compile(r'(?<=<!-- results: python -m lib.tools.zoo -->\n).*?(?=<!-- end of results -->)', re.DOTALL)
HEADER = '| experiment | published | measured here | on what | weights |\n|---|---|---|---|---|\n'
FIGURES = ('AP', 'AP50', 'AP75', 'PCK@0.1', 'PCK@0.05', 'Mean')
# What an entry is one of a kind of.
KIND = ('experiment', 'data', 'split', 'boxes_from', 'how')
# Keys under TEST and their usual values: another is told.
USUAL = {'FLIP': True, 'SCALES': [1.0], 'NMS': 'none', 'RESCORE': 'mean'}


def entry(path: Path, on: str) -> dict:
    """What the zoo keeps of a test. Raises InputError for a metrics.json without figures, or of another form."""
    content = read_json(path, 'test again')
    try:
        config = EasyDict(content['config'])
        if content['metrics'] is None:
            raise InputError(f'{path} is of a test without truth: it has no figures to gather')
        digests = content['weights_sha256']
        digests = [digests] if isinstance(digests, str) else digests
        shown = format_of(config).format_metrics(content['metrics'])
        return {
            'experiment': content['experiment'],
            'figures': {name: shown[name] for name in FIGURES if name in shown},
            'data': config.DATASET.NAME,
            'split': content['split'],
            'boxes': content['boxes'],
            'boxes_from': content['boxes_from'],
            'how': _how(config, digests),
            'weights_sha256': digests,
            'git_revision': content['git_revision'],
            'on': on,
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{path} is no metrics.json of this version ({error!r}): test again') from None


def _how(config: EasyDict, digests: Sequence[str]) -> list[str]:
    """What is unusual in a test."""
    how = [f'CODEC {config.CODEC}'] if config.CODEC != 'standard' else []
    how += [f'{key} {config.TEST[key]}' for key, usual in USUAL.items() if config.TEST[key] != usual]
    return how + ([f'ensemble of {len(digests)}'] if len(digests) > 1 else [])


def newest_tests() -> list[Path]:
    """The newest metrics.json of every folder of outputs in model_logs."""
    files = sorted((home() / 'model_logs').glob('*/*/test_dir/*/metrics.json'), key=lambda path: path.stat().st_mtime)
    return list({path.parents[2]: path for path in files}.values())


def gather(zoo: dict, entries: Sequence[dict]) -> None:
    """Puts entries into the zoo, in place of earlier ones of their kind."""
    measured = {_kind(old): old for old in zoo['measured']}
    for one in entries:
        known = measured.get(_kind(one), {})
        if known.get('weights_sha256') == one['weights_sha256']:
            one = {**one, 'on': one['on'] or known['on']}  # what somebody once told of these weights
        measured[_kind(one)] = one
    zoo['measured'] = sorted(measured.values(), key=_kind)


def _kind(one: dict) -> tuple[str, ...]:
    return tuple(str(one[key]) for key in KIND)


def table(zoo: dict, experiments: Sequence[str]) -> str:
    """The README's table: the experiments in order, and for each what was published and measured."""
    rows = []
    for name in experiments:
        entries = [one for one in zoo['measured'] if one['experiment'] == name] or [None]
        for one in entries:
            cells = _cells(one) if one else ('not measured', '', '')
            rows.append('| ' + ' | '.join([name, zoo['published'][name], *cells]) + ' |\n')
    return HEADER + ''.join(rows)


def _cells(one: dict) -> tuple[str, str, str]:
    figures = ', '.join(f'{value} {name}' for name, value in one['figures'].items())
    tested = [f'{one["data"]} {one["split"]}', f'{one["boxes"]:,} boxes of {one["boxes_from"]}s']
    on = ', '.join(tested + one['how']) + (f'; {one["on"]}' if one['on'] else '')
    return figures, on, ' '.join(f'`{digest[:8]}`' for digest in one['weights_sha256'])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.zoo', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('tests', nargs='*', type=Path, metavar='METRICS', help='metrics.json of tests')
    parser.add_argument('--on', default='', metavar='TEXT', help='what they were trained on, in a few words')
    parser.add_argument('--check', action='store_true', help='change nothing')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    zoo, readme = read_json(REPOSITORY / ZOO), (REPOSITORY / README).read_text()
    experiments = list(zoo['published'])
    if not args.check:
        entries = [entry(path, args.on) for path in args.tests or newest_tests()]
        unknown = [one['experiment'] for one in entries if one['experiment'] not in experiments]
        if unknown:
            raise InputError(f'{unknown[0]} is not listed in {ZOO}: list it there, with what was published of it or -')
        gather(zoo, entries)
        write_json(REPOSITORY / ZOO, zoo)
    if not TABLE.search(readme):
        raise InputError(f'{README} has lost the comments around its table of results: put them back')
    renewed = TABLE.sub(lambda _: table(zoo, experiments), readme)
    if args.check:
        print(f'{README}: the table is {"" if renewed == readme else "not "}that of {ZOO}')
        sys.exit(0 if renewed == readme else 1)
    (REPOSITORY / README).write_text(renewed)
    print(f'{ZOO}: {len(zoo["measured"])} results; {README}: table written')


if __name__ == '__main__':
    main()
