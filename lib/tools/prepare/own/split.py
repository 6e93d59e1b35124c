"""Splits images into train and val, so that images of one film or folder, and copies of an image, are on one side."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cvpack.files import sha256

SEED = 0
# Val may be larger than asked for by this factor, so that a film stays whole.
MAX_EXCESS = 1.5
# Roboflow's names of augmented copies: what precedes is the original's.
COPY = re.compile(r'\.rf\.[0-9A-Za-z]+\Z')


def choose_val(names: Sequence[str], ratio: float, folder: Path) -> tuple[set[str], str]:
    """The names for val, at least one and not all of them, and how they were chosen, in words.

    names: paths below the folder; ratio: of the images, for val
    """
    wanted = min(max(round(ratio * len(names)), 1), len(names) - 1)
    groups = _groups(names, folder, int(MAX_EXCESS * wanted))
    val: set[str] = set()
    for index in np.random.default_rng(SEED).permutation(len(groups)):
        if len(val) < wanted and len(val) + len(groups[index]) <= MAX_EXCESS * wanted:
            val.update(groups[index])
    if val:
        films = sum(len(group) > 1 for group in groups)
        singles = f'{len(groups) - films:,} images (seed {SEED})'
        return val, f'chosen from {films:,} films and {singles}' if films else f'chosen from {singles}'
    # A few long films: the end of the shortest.
    own = sorted(groups[np.argmin([*map(len, groups)])], key=_numbers)
    wanted = min(wanted, len(own) - 1)
    return set(own[-wanted:]), f'the last {wanted:,} of {len(own):,} images named like {own[0]}, as if of one film'


def _groups(names: Sequence[str], folder: Path, longest: int) -> list[list[str]]:
    """The names that have to stay on one side.

    longest: images with running numbers that are more are single ones if their numbers have gaps, as ids do
    """
    sizes = {name: (folder / name).stat().st_size for name in names}
    often = Counter(sizes.values())
    film_of: dict[str, tuple[str, str]] = {}  # by content: copies are in the first one's
    films: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        # Only files of equal size can have equal content.
        content = sha256(folder / name) if often[sizes[name]] > 1 else name
        films[film_of.setdefault(content, film(name))][content].append(name)
    groups = []
    for copies in films.values():
        own = [name for same in copies.values() for name in same]
        groups += [own] if len(own) <= longest or _are_frames(own) else [*copies.values()]
    return groups


def _are_frames(names: list[str]) -> bool:
    """Whether most steps between rising numbers are the same."""
    last = sorted(_numbers(name) for name in names)
    _, counts = np.unique(np.diff([numbers[-1] for numbers in last]), return_counts=True)
    return counts.max() > len(names) / 2


def film(name: str) -> tuple[str, str]:
    """The folder and the name without its numbers: the same for frames of a film."""
    path = PurePosixPath(name)
    return str(path.parent), re.sub(r'\d+', '#', COPY.sub('', path.stem))


def _numbers(name: str) -> tuple[int, ...]:
    """The numbers in a name, by which frame 10 follows frame 9."""
    return tuple(map(int, re.findall(r'\d+', COPY.sub('', name.rpartition('.')[0])))) or (0,)
