"""Looks through a whole data set, before hours are spent on it.

    python -m lib.tools.check_data --dataset coco                            # dataset/COCO
    python -m lib.tools.check_data --dataset mpii --root DIR --split val
    python -m lib.tools.check_data --experiment exps/mspn.1xstg.lspet --sheet sheet.jpg

Reads every json file and every listed image of a data set and goes on after what it finds. Prints how the people are
labelled and how large they are, then a line for each kind of finding with its count, 0 included, and the first few of
each. --sheet draws people as training sees them: plain, and augmented twice. Exit code 0: nothing that training or
testing would stop at; 1: something of that kind.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly
from lib.config import coco_defaults, mpii_defaults, run_config
from lib.datasets.checks import PREPARE, Issue
from lib.datasets.sides import unpaired_sides
from lib.loader import dataset_of
from lib.tools.arguments import positive
from lib.tools.check_data.images import read_images, report_shared_images
from lib.tools.check_data.labels import compare_with_images
from lib.tools.check_data.people import describe_people, draw_sheet, report_swaps
from lib.tools.check_data.records import LISTINGS

DEFAULTS = {'coco': coco_defaults, 'mpii': mpii_defaults}
SPLITS = ('train', 'val', 'test')
PICTURES = '.jpg', '.png'
EXAMPLES = 5  # shown of each kind


class Findings:
    """Counts what is reported, each message once, and keeps the first few of each kind."""

    def __init__(self) -> None:
        self.messages: set[str] = set()
        self.counts: Counter[Issue] = Counter()
        self.examples: defaultdict[Issue, list[str]] = defaultdict(list)

    def __call__(self, kind: Issue, message: str) -> None:
        if message in self.messages:
            return
        self.messages.add(message)
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(message)

    @property
    def fatal(self) -> int:
        """How many would stop training or testing."""
        return sum(count for kind, count in self.counts.items() if kind.fatal)

    def table(self) -> str:
        """A line for each kind, and its examples below."""
        lines = []
        for title, fatal in (('training and testing stop at', True), ('worth a look', False)):
            lines.append(f'{title}:')
            for kind in Issue:
                if kind.fatal == fatal:
                    lines.append(f'{self.counts[kind]:>9,}  {kind.description}')
                    lines += [f'{"":11}{example}' for example in self.examples[kind]]
                    hidden = self.counts[kind] - len(self.examples[kind])
                    lines += [f'{"":11}and {hidden:,} more'] if hidden else []
        return '\n'.join(lines)


def check(cfg: EasyDict, splits: Sequence[str], workers: int) -> Findings:
    """Everything found in a configuration's data set; prints what there is of it."""
    dataset, findings, listings = dataset_of(cfg), Findings(), {}
    for text in unpaired_sides(cfg):
        findings(Issue.SIDES, text)
    for split in splits:
        listing = LISTINGS[dataset.format](dataset, split, findings)
        listings[split] = listing
        people, boxes = (len(group.names) if group else 0 for group in (listing.people, listing.boxes))
        print(f'{split}: {len(listing.sizes):,} images, {people:,} people, {boxes:,} boxes to test')
        # Of a file with another number of joints nothing more can be told.
        if people and listing.people.keypoints.shape[1] == len(dataset.joint_names):
            print(describe_people(listing.people, dataset.joint_names))
            report_swaps(listing.people, dataset, findings)
    found = read_images([*listings.values()], workers, findings)
    for listing in listings.values():
        compare_with_images(listing, found, findings)
    report_shared_images(listings, workers, findings)
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.check_data',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--dataset', choices=DEFAULTS, help='COCO or MPII')
    which.add_argument('--experiment', type=Path, metavar='DIR', help="an experiment's folder: its data set")
    parser.add_argument('--root', type=Path, help="the data set's folder; default: the one that it names")
    parser.add_argument('--split', choices=(*SPLITS, 'all'), default='all', help='default: all, test where it is there')
    parser.add_argument('--workers', type=positive, default=os.cpu_count(), help='threads (default: one a core)')
    parser.add_argument('--sheet', type=Path, metavar='FILE', help='draw people to train on into this .jpg or .png')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    cfg = run_config(args.experiment) if args.experiment else DEFAULTS[args.dataset]()
    if args.root is not None:
        cfg.DATASET.ROOT = str(args.root.resolve())
    dataset = dataset_of(cfg)
    if not dataset.root.is_dir():
        raise InputError(f'--root {dataset.root} is no folder: {PREPARE}')
    if args.sheet is not None and not (args.sheet.suffix in PICTURES and args.sheet.absolute().parent.is_dir()):
        raise InputError(
            f'--sheet {args.sheet}: name a file that ends in {" or ".join(PICTURES)}, in a folder that exists'
        )
    if args.split == 'test' and not dataset.test_json:
        raise InputError('--split test: config: DATASET.TEST_JSON names no file: set it')
    splits = [args.split] if args.split != 'all' else list(SPLITS)
    if args.split == 'all' and not (dataset.test_json and dataset.annotations('test').exists()):
        splits.remove('test')
    findings = check(cfg, splits, args.workers)
    print(findings.table())
    others = sum(findings.counts.values()) - findings.fatal
    print(
        f'{dataset.root}: {findings.fatal:,} findings that training or testing would stop at, {others:,} worth a look'
    )
    if args.sheet is not None:
        draw_sheet(cfg, args.sheet)
    if findings.fatal:
        sys.exit(1)


if __name__ == '__main__':
    main()
