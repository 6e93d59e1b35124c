"""Checks a results file before submission.

    python -m lib.tools.check_submission results.json --images gt_json/test_dev.json           # COCO test-dev
    python -m lib.tools.check_submission pred_keypoints_mpii.mat [--people det_json/test.json]  # MPII

COCO: people (category 1) in listed images, each with 51 finite numbers and a score. MPII: the fields of `pred`. Prints
the first ten faults, and remarks. Exit code 0: no faults; 1: faults. `test.py --split test` checks its own files alike.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json
from lib.datasets.checks import PREPARE, Issue
from lib.datasets.description import COCO, MPII
from lib.evaluation.submission import check_coco, check_mpii
from lib.tools.arguments import command_parser, positive

EXAMPLES = 10


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    parser = command_parser('check_submission', __doc__)
    parser.add_argument('file', type=Path, help='results.json, or .mat for MPII')
    parser.add_argument('--images', type=Path, metavar='JSON', help='COCO: the file that lists the images')
    parser.add_argument('--people', type=Path, metavar='JSON', help='MPII: the file of the test people')
    parser.add_argument('--joints', type=positive, help="of another data set in COCO's format (default: 17)")
    args = parser.parse_args(arguments)
    faults = []

    def report(issue: Issue, message: str) -> None:
        if issue.fatal:
            faults.append(message)

    if args.file.suffix == '.mat':
        people = len(read_json(args.people, PREPARE)) if args.people else None
        remarks = check_mpii(args.file, len(MPII.joint_names), people, report)
    elif args.images is None:
        raise InputError(f'{args.file}: name the file that lists the images with --images')
    else:
        remarks = check_coco(args.file, args.images, args.joints or len(COCO.joint_names), report)
    for line in [*faults[:EXAMPLES], *remarks]:
        print(line)
    if len(faults) > EXAMPLES:
        print(f'and {len(faults) - EXAMPLES:,} more')
    print(f'{args.file}: ' + (f'{len(faults):,} faults' if faults else 'no faults' if remarks else 'can be submitted'))
    if faults:
        sys.exit(1)


if __name__ == '__main__':
    main()
