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

Copies = list[str]  # names of one image


def choose_val(names: Sequence[str], ratio: float, folder: Path) -> tuple[set[str], str]:
    """The names for val, at least one and not all of them, and how they were chosen, in words.

    names: paths below the folder; ratio: of the images, for val
    """
    wanted = max(round(ratio * len(names)), 1)
    most = min(MAX_EXCESS * wanted, len(names) - 1)
    groups: list[list[str]] = []
    films = _films(names, folder)
    for film in films:
        if _size(film) <= most or _are_frames(film):
            groups.append(_names(film))
        else:  # numbers with gaps are ids
            groups += film
    val: set[str] = set()
    for index in np.random.default_rng(SEED).permutation(len(groups)):
        if len(val) < wanted and len(val) + len(groups[index]) <= most:
            val.update(groups[index])
    if not val and len(films) > 1 and all(len(film) == 1 for film in films):
        val = {*min(groups, key=lambda names: len(names))}
    if val:
        return val, f'chosen from {len(names):,} images in {len(groups):,} films or single images (seed {SEED})'
    return _end_of(max(films, key=len), wanted)


def _films(names: Sequence[str], folder: Path) -> list[list[Copies]]:
    """The names by folder and by what they are without numbers; in each, the copies of an image together.

    Copies have the same content, or the same name but for Roboflow's ending.
    """
    sizes = {name: (folder / name).stat().st_size for name in names}
    often = Counter(sizes.values())
    original: dict[str, str] = {}  # by content, or by name: the first copy
    copies: dict[str, Copies] = defaultdict(list)
    for name in sorted(names):
        # Only files of equal size can have equal content.
        content = sha256(folder / name) if often[sizes[name]] > 1 else name
        path = PurePosixPath(name)
        first = original.setdefault(f'{path.parent}/{COPY.sub("", path.stem)}', name)
        copies[original.setdefault(content, first)].append(name)
    films: dict[tuple[str, str], list[Copies]] = defaultdict(list)
    for first, own in copies.items():
        path = PurePosixPath(first)
        films[str(path.parent), re.sub(r'\d+', '#', COPY.sub('', path.stem))].append(own)
    return [*films.values()]


def _names(film: list[Copies]) -> list[str]:
    return [name for copies in film for name in copies]


def _size(film: list[Copies]) -> int:
    return sum(map(len, film))


def _are_frames(film: list[Copies]) -> bool:
    """Whether most steps between rising numbers are the same."""
    last = sorted(_numbers(copies) for copies in film)
    _, counts = np.unique(np.diff([numbers[-1] for numbers in last]), return_counts=True)
    return counts.max(initial=0) > len(film) / 2


def _numbers(copies: Copies) -> tuple[int, ...]:
    """The numbers in a name, by which frame 10 follows frame 9."""
    return tuple(map(int, re.findall(r'\d+', COPY.sub('', PurePosixPath(copies[0]).stem)))) or (0,)


def _end_of(film: list[Copies], wanted: int) -> tuple[set[str], str]:
    """The last images of a film, about as many as wanted."""
    film = sorted(film, key=_numbers)
    if len(film) < 2:
        return {film[0][-1]}, f'{film[0][-1]}, a copy of an image to train on, since there are no others: add --val'
    start = len(film) - 1
    while start > 1 and _size(film[start:]) < wanted:
        start -= 1
    val = _names(film[start:])
    return {*val}, f'the last {len(val):,} of {_size(film):,} images named like {film[0][0]}, as if of one film'
