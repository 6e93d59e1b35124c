"""Says whether one test, or one way to train, was better than another, or whether the difference is noise.

    python -m lib.tools.compare A/metrics.json B/metrics.json ...
    python -m lib.tools.compare A.seed*/metrics.json --versus B.seed*/metrics.json [--versus ...]

Prints a table per metric (AP and its relatives, PCK on annotated boxes, MPII's PCKh), in per cent, a line per test: the
metric, its difference from the first test's, and the intervals that contain 95 % of 1,000 resamples of the test's
images (bootstrap; the difference is taken within each resample). A difference whose interval contains 0 is noise: other
images could have reversed it. Metrics are recomputed from the results.json beside metrics.json and the ground truth
that metrics.json names.

--versus compares trainings instead: what several runs of one setting, which differ in SOLVER.SEED, reached on average
with what those of another did. A second interval then says what other seeds could have changed (Student's t, with the
spread taken as the same in all settings), and a setting is only better or worse if neither interval contains 0.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cvpack.errors import exits_cleanly
from lib.evaluation import bootstrap
from lib.tools.arguments import command_parser, positive
from lib.tools.compare.runs import check_comparable, check_trainings, read_run
from lib.tools.compare.tables import tables, training_tables


def _parser() -> argparse.ArgumentParser:
    parser = command_parser('compare', __doc__)
    parser.add_argument('metrics', type=Path, nargs='+', metavar='metrics.json', help='of the tests to compare')
    parser.add_argument(
        '--versus',
        type=Path,
        nargs='+',
        action='append',
        default=[],
        metavar='metrics.json',
        help='of trainings of another setting; those named before the first --versus are of one setting too',
    )
    parser.add_argument('--truth', type=Path, help='where the ground truth file is now, if it has moved')
    parser.add_argument('--resamples', type=positive, default=1000, help='of the images (default: 1000)')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    settings = [[read_run(path, args.truth) for path in paths] for paths in (args.metrics, *args.versus)]
    runs = [run for of_setting in settings for run in of_setting]
    check_comparable(runs)
    if args.versus:
        check_trainings(settings)
    images = len(runs[0].test.images)
    resamples = bootstrap.resample([run.test.metrics for run in runs], images, args.resamples)
    if not args.versus:
        print(tables(runs, resamples))
    else:
        for number, of_setting in enumerate(settings, start=1):
            print(f'setting {number}: {", ".join(run.name for run in of_setting)}')
        remaining = iter(resamples)
        print('\n' + training_tables(settings, [[next(remaining) for _ in of_setting] for of_setting in settings]))
    print(f'\n{args.resamples:,} resamples of {images:,} images')


if __name__ == '__main__':
    main()
