"""Looks through a whole data set, before hours are spent on it.

    python -m lib.tools.check_data --dataset coco                    # dataset/COCO
    python -m lib.tools.check_data --dataset mpii --root DIR --split val

Reads every json file and every listed image of a data set in the published layout and goes on after what it finds.
Prints a line for each kind of finding with its count, 0 included, and the first few of each. Exit code 0: nothing
that training or testing would stop at; 1: something of that kind.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cvpack.errors import InputError, exits_cleanly
from lib.config import home
from lib.datasets import coco, mpii
from lib.datasets.checks import Kind
from lib.datasets.joints import load_image
from lib.tools.arguments import positive
from lib.tools.check_records import LISTINGS, Listing, compare_with_images

ROOTS = {'coco': 'dataset/COCO', 'mpii': 'dataset/MPII'}
TEST_SETS = {'coco': coco.TEST_FILES['test'][0], 'mpii': mpii.TEST_FILES['test']}
SPLITS = ('train', 'val', 'test')
EXAMPLES = 5  # shown of each kind


class Findings:
    """Counts what is reported, each message once, and keeps the first few of each kind."""

    def __init__(self) -> None:
        self.messages: set[str] = set()
        self.counts: Counter[Kind] = Counter()
        self.examples: defaultdict[Kind, list[str]] = defaultdict(list)

    def __call__(self, kind: Kind, message: str) -> None:
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
            for kind in Kind:
                if kind.fatal == fatal:
                    lines.append(f'{self.counts[kind]:>9,}  {kind.description}')
                    lines += [f'{"":11}{example}' for example in self.examples[kind]]
                    hidden = self.counts[kind] - len(self.examples[kind])
                    lines += [f'{"":11}and {hidden:,} more'] if hidden else []
        return '\n'.join(lines)


def _shape(path: Path) -> tuple[int, int] | Kind:
    """Height and width of an image, or what is wrong with it."""
    image = load_image(path)
    return image if isinstance(image, Kind) else image.shape[:2]


def check_images(
    folder: Path, listings: list[Listing], workers: int, report: Findings
) -> dict[str, tuple[int, int] | Kind]:
    """Reads every listed image once and reports the unusable ones; path -> height and width, or what is wrong."""
    names = sorted({name for listing in listings for name in listing.sizes})
    used = {name for listing in listings for group in listing.groups for name in group.names}
    # Threads do: OpenCV decodes without Python's lock.
    with ThreadPoolExecutor(workers) as pool:
        shapes = pool.map(_shape, (folder / name for name in names))
        found = dict(zip(names, tqdm(shapes, 'images', len(names), unit=' images', smoothing=0)))
    for name, kind in found.items():
        if isinstance(kind, Kind):
            report(kind if name in used else Kind.UNUSED_IMAGE, f'image {folder / name}: {kind.description}')
    return found


def check(dataset: str, root: Path, splits: Sequence[str], workers: int) -> Findings:
    """Everything found in a data set; prints what there is of it."""
    findings, listings = Findings(), []
    for split in splits:
        listing = LISTINGS[dataset](root, split, findings)
        listings.append(listing)
        people, boxes = (len(group.names) if group else 0 for group in (listing.people, listing.boxes))
        print(f'{split}: {len(listing.sizes):,} images, {people:,} people, {boxes:,} boxes to test')
    found = check_images(root / 'images', listings, workers, findings)
    for listing in listings:
        compare_with_images(listing, found, findings)
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.check_data',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--dataset', choices=LISTINGS, required=True, help='the layout')
    parser.add_argument('--root', type=Path, help='its folder; default: dataset/COCO or dataset/MPII')
    parser.add_argument('--split', choices=(*SPLITS, 'all'), default='all', help='default: all, test where it is there')
    parser.add_argument('--workers', type=positive, default=os.cpu_count(), help='threads (default: one a core)')
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    root = args.root or home() / ROOTS[args.dataset]
    if not root.is_dir():
        raise InputError(f'--root {root} is no folder: {coco.PREPARE}')
    splits = [args.split] if args.split != 'all' else list(SPLITS)
    if args.split == 'all' and not (root / TEST_SETS[args.dataset]).exists():
        splits.remove('test')
    findings = check(args.dataset, root, splits, args.workers)
    print(findings.table())
    print(f'{root}: {findings.fatal:,} findings that training or testing would stop at')
    if findings.fatal:
        sys.exit(1)


if __name__ == '__main__':
    main()
