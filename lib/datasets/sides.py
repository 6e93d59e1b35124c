"""Mirror joints by name: left_hip and right_hip, LHip and RHip, hip.l and hip.r.

Names are only a hint, so FLIP_PAIRS that differ are reported, not refused. (lib.config refuses FLIP_PAIRS that
contradict names beginning with left_ and right_.)
"""

import re
from collections.abc import Iterator, Sequence

from easydict import EasyDict

# From a name to its mirror's: as a word, of several languages; as a letter on its own, or before or after a word
# (l_hip, lhip, hipl, FL).
CHANGES = (
    *(('left', 'right'), ('左', '右'), ('^link(?=s|e)', 'recht'), ('^gauche$', 'droite'), ('^gauche$', 'droit')),
    *(('^izquierd', 'derech'), ('^sinistr', 'destr'), ('^esquerd', 'direit'), ('^l', 'r'), ('l$', 'r')),
)
# Word boundaries in camel case: kneeL, LHip, FLPaw.
CAMEL = re.compile(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])')


def mirrors_by_name(names: Sequence[str]) -> dict[int, list[int]]:
    """Every joint whose name says left -> the right joints that may be its mirror, likeliest first."""
    split = [words(name) for name in names]
    indices = {tuple(sorted(name)): i for i, name in enumerate(split)}
    found = {i: [indices[other] for other in _mirrored(name) if other in indices] for i, name in enumerate(split)}
    return {i: others for i, others in found.items() if others}


def words(name: str) -> list[str]:
    """The words of a name, in lower case: LHip and l_hip are l and hip."""
    return re.findall(r'[^\W_]+', CAMEL.sub(' ', name).lower())


def _mirrored(words: list[str]) -> Iterator[tuple[str, ...]]:
    """The words of a name with one left changed to right, in every possible way; sorted."""
    for left, right in CHANGES:
        for i, word in enumerate(words):
            if re.search(left, word):
                yield tuple(sorted((*words[:i], re.sub(left, right, word), *words[i + 1 :])))


def unpaired_sides(cfg: EasyDict) -> list[str]:
    """A line for each joint whose name says left and that FLIP_PAIRS does not pair with its right joint.

    cfg: finalized. Empty if neither training nor testing flips images.
    """
    keypoint = cfg.DATASET.KEYPOINT
    names, pairs = keypoint.NAMES, keypoint.FLIP_PAIRS
    if not (cfg.DATASET.TRAIN.PROB_FLIP > 0 or cfg.TEST.FLIP):
        return []
    paired = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    mirrors, lines = mirrors_by_name(names), []
    for left, rights in mirrors.items():
        if left in paired and (paired[left] in rights or left in mirrors.get(paired[left], ())):
            continue
        others = [f'{names[i]} with {names[paired[i]]}' for i in (left, rights[0]) if i in paired]
        instead = f'pairs {" and ".join(others)}' if others else f'lacks the pair ({left}, {rights[0]})'
        lines.append(
            f'{names[left]} and {names[rights[0]]} are left and right by their names, but '
            f'DATASET.KEYPOINT.FLIP_PAIRS {instead}'
        )
    return lines
