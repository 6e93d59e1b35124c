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
    groups: list[list[str]] = [*_groups(names, folder).values()]
    wanted = min(max(round(ratio * len(names)), 1), len(names) - 1)
    val: set[str] = set()
    for index in np.random.default_rng(SEED).permutation(len(groups)):
        if len(val) < wanted and len(val) + len(groups[index]) <= MAX_EXCESS * wanted:
            val.update(groups[index])
    if val:
        return val, f'from {len(groups):,} films or images without running numbers, seed {SEED}'
    # A few long films: the end of the shortest that is longer than that.
    own = sorted(groups[np.argmin([*map(len, groups)])], key=_number)
    wanted = min(wanted, len(own) - 1)
    if _is_film([_number(name)[-1] for name in own]):
        return set(own[-wanted:]), f'the last {wanted:,} of {len(own):,} images named like {own[0]}, as if of one film'
    chosen = np.random.default_rng(SEED).choice(own, wanted, replace=False)
    return set(chosen.tolist()), f'from {len(own):,} images, whose numbers have gaps (if they are a film, give --val)'


def _is_film(numbers: Sequence[int]) -> bool:
    """Whether most steps between rising numbers are the same."""
    _, counts = np.unique(np.diff(numbers), return_counts=True)
    return counts.max() > len(numbers) / 2


def _groups(names: Sequence[str], folder: Path) -> dict[object, list[str]]:
    """The names that have to stay on one side."""
    sizes = {name: (folder / name).stat().st_size for name in names}
    often = Counter(sizes.values())
    groups: dict[object, list[str]] = defaultdict(list)
    film_of: dict[object, object] = {}
    for name in sorted(names):
        # Only files of equal size can have equal content.
        content = sha256(folder / name) if often[sizes[name]] > 1 else name
        groups[film_of.setdefault(content, film(name))].append(name)
    return groups


def film(name: str) -> tuple[str, str]:
    """The folder and the name without its numbers: the same for frames of a film."""
    path = PurePosixPath(name)
    return str(path.parent), re.sub(r'\d+', '#', COPY.sub('', path.stem))


def _number(name: str) -> tuple[int, ...]:
    """The numbers in a name, by which frame 10 follows frame 9."""
    return tuple(map(int, re.findall(r'\d+', COPY.sub('', name.rpartition('.')[0])))) or (0,)
