"""Says whether a file can be handed in.

    python -m lib.tools.check_submission results.json --images gt_json/test_dev.json           # COCO test-dev
    python -m lib.tools.check_submission pred_keypoints_mpii.mat [--people det_json/test.json]  # MPII

COCO: people (category 1) of listed images, 51 finite numbers and a score each. MPII: the fields of `pred`. Prints a
line for everything that is wrong, the first ten of them, and what is odd. Exit code 0: nothing is wrong; 1: something.
`test.py --split test` looks at its own files in the same way.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json
from lib.datasets.checks import PREPARE, Issue
from lib.datasets.description import COCO, MPII
from lib.evaluation.submission import check_coco, check_mpii
from lib.tools.arguments import positive

SHOWN = 10


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.check_submission',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('file', type=Path, help='results.json, or .mat for MPII')
    parser.add_argument('--images', type=Path, metavar='JSON', help='COCO: the file that lists the images')
    parser.add_argument('--people', type=Path, metavar='JSON', help='MPII: the file of the people who were asked for')
    parser.add_argument('--joints', type=positive, help="of another data set in COCO's format (default: 17)")
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    faults = []

    def report(kind: Issue, message: str) -> None:
        if kind.fatal:
            faults.append(message)

    if args.file.suffix == '.mat':
        people = len(read_json(args.people, PREPARE)) if args.people else None
        notes = check_mpii(args.file, len(MPII.joint_names), people, report)
    elif args.images is None:
        raise InputError(f'{args.file}: name the file that lists the images with --images')
    else:
        notes = check_coco(args.file, args.images, args.joints or len(COCO.joint_names), report)
    for line in [*faults[:SHOWN], *notes]:
        print(line)
    if len(faults) > SHOWN:
        print(f'and {len(faults) - SHOWN:,} more')
    print(f'{args.file}: ' + (f'{len(faults):,} faults' if faults else 'can be handed in'))
    if faults:
        sys.exit(1)


if __name__ == '__main__':
    main()
