"""Splits images into train and val, so that images of one film or folder are on one side."""

import re
from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np

SEED = 0
# Roboflow's names of augmented copies: what precedes is the original's.
COPY = re.compile(r'\.rf\.[0-9A-Za-z]+\Z')
NUMBER = re.compile(r'\d+')


def split_names(names: list[str], ratio: float) -> tuple[set[str], str]:
    """The names for val, at least one and not all of them, and how they were chosen, in words.

    ratio: of the images, for val
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        groups[film(name)].append(name)
    wanted = min(max(round(ratio * len(names)), 1), len(names) - 1)
    val: set[str] = set()
    keys = sorted(groups)
    for index in np.random.default_rng(SEED).permutation(len(keys)):
        own = groups[keys[index]]
        if len(val) + len(own) <= max(wanted, 1) * 1.5 and len(val) < wanted:
            val.update(own)
    if val:
        return val, f'whole films or folders of {len(groups):,}, by names with running numbers, seed {SEED}'
    # A few large films: the end of the smallest that is large enough.
    largest = min((own for own in groups.values() if len(own) > wanted), key=len, default=names)
    ordered = sorted(largest, key=natural)
    return set(ordered[-wanted:]), f'the last {wanted:,} of the images named like {ordered[0]!r}, which are one film'


def film(name: str) -> tuple[str, str]:
    """The folder and the name without its numbers: the same for frames of a film."""
    path = PurePosixPath(name)
    return str(path.parent), NUMBER.sub('#', COPY.sub('', path.stem))


def natural(name: str) -> list:
    """A sort key by which frame 10 follows frame 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]
