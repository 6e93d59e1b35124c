"""Checks a whole data set before time is spent on training.

    python -m lib.tools.check_data --dataset coco                            # dataset/COCO
    python -m lib.tools.check_data --dataset mpii --root DIR --split val
    python -m lib.tools.check_data --experiment exps/mspn.1xstg.lspet --sheet sheet.jpg

Reads all json files and all listed images and does not stop at the first problem. Prints how joints are labelled and
how large people are, then one line per issue with its count, 0 included, and a few examples. --sheet draws people as
training sees them: plain, and augmented twice. Exit code 0: nothing that would stop training or testing; 1: something.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly
from lib.config import coco_defaults, mpii_defaults, run_config
from lib.datasets.checks import PREPARE, Issue
from lib.datasets.sides import unpaired_sides
from lib.loader import dataset_of
from lib.tools.arguments import command_parser, positive
from lib.tools.check_data.images import read_images, report_shared_images
from lib.tools.check_data.labels import compare_with_images
from lib.tools.check_data.people import describe_people, draw_sheet, report_swaps
from lib.tools.check_data.records import LISTINGS

DEFAULTS = {'coco': coco_defaults, 'mpii': mpii_defaults}
SPLITS = ('train', 'val', 'test')
SHEET_SUFFIXES = '.jpg', '.png'
EXAMPLES = 5  # printed per issue


class Findings:
    """A Report that collects the messages of each issue, in order and without repetitions."""

    def __init__(self) -> None:
        self.messages: dict[Issue, dict[str, None]] = {issue: {} for issue in Issue}

    def __call__(self, issue: Issue, message: str) -> None:
        self.messages[issue][message] = None

    def count(self, fatal: bool) -> int:
        """How many findings would stop training or testing, or how many would not."""
        return sum(len(messages) for issue, messages in self.messages.items() if issue.fatal == fatal)

    def table(self, found_only: bool = False) -> str:
        """One line per issue, with its first examples below. found_only: without those that were not found"""
        lines = []
        for title, fatal in (('training and testing stop at', True), ('worth a look', False)):
            if self.count(fatal) or not found_only:
                lines.append(f'{title}:')
            for issue, messages in self.messages.items():
                if issue.fatal == fatal and (messages or not found_only):
                    lines.append(f'{len(messages):>9,}  {issue.description}')
                    lines += [f'{"":11}{message}' for message in islice(messages, EXAMPLES)]
                    if len(messages) > EXAMPLES:
                        lines.append(f'{"":11}and {len(messages) - EXAMPLES:,} more')
        return '\n'.join(lines)


def check(cfg: EasyDict, splits: Sequence[str], workers: int) -> Findings:
    """Checks the data set of a configuration; prints statistics of each split."""
    dataset, findings, listings = dataset_of(cfg), Findings(), {}
    for text in unpaired_sides(cfg):
        findings(Issue.SIDES, text)
    for split in splits:
        listing = listings[split] = LISTINGS[dataset.format](dataset, split, findings)
        people, boxes = (len(group.names) if group else 0 for group in (listing.people, listing.boxes))
        print(f'{split}: {len(listing.sizes):,} images, {people:,} people, {boxes:,} boxes to test')
        # With another number of joints, joint names and flip pairs do not apply.
        if listing.people and people and listing.people.keypoints.shape[1] == len(dataset.joint_names):
            print(describe_people(listing.people, dataset.joint_names))
            report_swaps(listing.people, dataset, findings)
    found = read_images([*listings.values()], workers, findings)
    for listing in listings.values():
        compare_with_images(listing, found, findings)
    report_shared_images(listings, workers, findings)
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = command_parser('check_data', __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--dataset', choices=DEFAULTS, help='COCO or MPII')
    which.add_argument('--experiment', type=Path, metavar='DIR', help='the data set of an experiment')
    parser.add_argument('--root', type=Path, help="the data set's folder (default: the configured one)")
    parser.add_argument('--split', choices=(*SPLITS, 'all'), default='all', help='default: all, test only if present')
    parser.add_argument('--workers', type=positive, default=os.cpu_count(), help='threads (default: one per core)')
    parser.add_argument('--sheet', type=Path, metavar='FILE', help='draw training samples into this .jpg or .png')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    cfg = run_config(args.experiment) if args.experiment else DEFAULTS[args.dataset]()
    if args.root is not None:
        cfg.DATASET.ROOT = str(args.root.resolve())
    dataset, sheet = dataset_of(cfg), args.sheet
    if not dataset.root.is_dir():
        raise InputError(f'--root {dataset.root} is not a folder: {PREPARE}')
    if sheet is not None and not (sheet.suffix in SHEET_SUFFIXES and sheet.absolute().parent.is_dir()):
        raise InputError(f'--sheet {sheet}: name a {" or ".join(SHEET_SUFFIXES)} file in an existing folder')
    if args.split == 'test' and not dataset.test_json:
        raise InputError('--split test: config: DATASET.TEST_JSON is empty: set it')
    splits = [args.split]
    if args.split == 'all':
        has_test = dataset.test_json and dataset.annotations('test').exists()
        splits = [split for split in SPLITS if split != 'test' or has_test]
    findings = check(cfg, splits, args.workers)
    print(findings.table())
    fatal, others = findings.count(fatal=True), findings.count(fatal=False)
    print(f'{dataset.root}: {fatal:,} findings that training or testing would stop at, {others:,} worth a look')
    if sheet is not None:
        draw_sheet(cfg, sheet)
    if fatal:
        sys.exit(1)


if __name__ == '__main__':
    main()
