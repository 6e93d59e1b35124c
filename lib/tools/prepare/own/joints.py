"""What a description of joints needs beyond their names: flip pairs, the upper half, sigmas."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask

from lib.datasets.description import COCO, Pairs
from lib.datasets.sides import mirrors_by_name, words
from lib.evaluation.ground_truth import grouped
from lib.tools.prepare.own.export import Export
from lib.utils.transforms import mirror_permutation

# COCO's mean, for joints that it does not have.
DEFAULT_SIGMA = 0.067
# Above this ratio of the joints' vertical variance that lies between joints, not within one, bodies are upright.
UPRIGHT = 0.5
# A half has to have more joints than half-body augmentation asks for.
MIN_HALF = 4
MIN_PEOPLE = 20
# IoU from which two boxes of an image are taken for the same instance, annotated twice.
SAME_BOX = 0.7
SIDES = {'l': 'left', 'r': 'right'}
PARTS = {word for name in COCO.joint_names for word in words(name)}


def pairs_by_name(names: Sequence[str]) -> tuple[Pairs, list[str]]:
    """Flip pairs from left and right in the names, and the names that say a side but have no mirror."""
    pairs: dict[int, int] = {}
    for left, rights in mirrors_by_name(names).items():
        free = [right for right in rights if right not in pairs.values() and right != left]
        if left not in pairs.values() and free:
            pairs[left] = free[0]
    paired = {*pairs, *pairs.values()}
    alone = [name for i, name in enumerate(names) if i not in paired and {'left', 'right'} & {*_meaning(name)}]
    return tuple(sorted((min(pair), max(pair)) for pair in pairs.items())), alone


def _meaning(name: str) -> tuple[str, ...]:
    """A joint's words, sorted, sides written out: LHip, lhip and hip_left are the same."""
    found = []
    for word in words(name):
        if word[:1] in SIDES and word[1:] in PARTS:
            found += [SIDES[word[0]], word[1:]]
        elif word[-1:] in SIDES and word[:-1] in PARTS:
            found += [SIDES[word[-1]], word[:-1]]
        else:
            found.append(SIDES.get(word, word))
    return tuple(sorted(found))


def upper_half(export: Export, flip_pairs: Pairs) -> tuple[tuple[int, ...], str]:
    """Joints that are in the upper half of the box on average, those of a flip pair taken together; and why half-body
    augmentation makes no sense, if so.
    """
    keypoints, boxes = export.keypoints, export.boxes
    labelled = keypoints[..., 2] > 0
    heights = (keypoints[..., 1] - boxes[:, None, 1]) / boxes[:, None, 3]
    counts = labelled.sum(axis=0)
    sums = np.where(labelled, heights, 0).sum(axis=0)
    mirror = mirror_permutation(len(sums), flip_pairs)
    means = (sums + sums[mirror]) / np.maximum(counts + counts[mirror], 1)
    upper = tuple(np.flatnonzero((means < 0.5) & (counts + counts[mirror] > 0)).tolist())
    if len(keypoints) < MIN_PEOPLE:
        return upper, f'fewer than {MIN_PEOPLE} instances do not tell which joints are above'
    between = np.broadcast_to(means, labelled.shape)[labelled].var()
    if not between > UPRIGHT * heights[labelled].var():
        return upper, 'the instances have no common upright pose'
    if min(len(upper), int((counts > 0).sum()) - len(upper)) < MIN_HALF:
        return upper, f'a half has fewer than {MIN_HALF} joints'
    return upper, ''


def sigmas_by_name(names: Sequence[str]) -> tuple[tuple[float, ...], list[str]]:
    """COCO's sigmas for joints that it has, DEFAULT_SIGMA for the others; and the names of these."""
    known = {_meaning(name): sigma for name, sigma in zip(COCO.joint_names, COCO.sigmas)}
    sigmas = tuple(round(known.get(_meaning(name), DEFAULT_SIGMA), 4) for name in names)
    return sigmas, [name for name in names if _meaning(name) not in known]


def repeated_annotations(export: Export) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of instances that were annotated several times: (K,) sums of the joints' squared distances from the true place,
    in units of the area, and (K,) how many; and the instances that repeat an earlier one, (n,) bool.

    Two annotations of an image are of one instance if their boxes have an IoU of SAME_BOX. The squared distance of two
    annotators, in units of the area, is twice that of one from the true place.
    """
    keypoints, boxes = export.keypoints, export.boxes
    squares, counts = np.zeros(keypoints.shape[1]), np.zeros(keypoints.shape[1])
    repeated = np.zeros(len(boxes), bool)
    for own in grouped(np.array([instance.image for instance in export.instances])):
        overlaps = mask.iou(boxes[own], boxes[own], [0] * len(own))
        for i, j in np.argwhere(np.triu(overlaps >= SAME_BOX, 1)):
            a, b = own[[i, j]]
            repeated[b] = True
            both = (keypoints[[a, b], :, 2] > 0).all(axis=0)
            distances = ((keypoints[a, :, :2] - keypoints[b, :, :2]) ** 2).sum(axis=1)
            area = np.sqrt(export.instances[a].area * export.instances[b].area)
            squares += np.where(both, distances / area / 2, 0)
            counts += both
    return squares, counts, repeated
