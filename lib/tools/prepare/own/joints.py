"""What a description of joints needs beyond their names: flip pairs, the upper half, sigmas."""

import re
from collections.abc import Sequence

import numpy as np

from lib.datasets.description import COCO, Pairs
from lib.datasets.sides import CAMEL, mirrors_by_name

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


def pairs_by_name(names: Sequence[str]) -> tuple[Pairs, list[str]]:
    """Flip pairs from left and right in the names, and the names that say a side but have no mirror."""
    mirrors = mirrors_by_name(names)
    pairs: dict[int, int] = {}
    for left, rights in mirrors.items():
        free = [right for right in rights if right not in pairs.values() and right != left]
        if left not in pairs.values() and free:
            pairs[left] = free[0]
    paired = {*pairs, *pairs.values()}
    alone = [name for i, name in enumerate(names) if i not in paired and {'left', 'right'} & set(words(name))]
    return tuple(sorted((min(pair), max(pair)) for pair in pairs.items())), alone


def words(name: str) -> list[str]:
    """A joint's words in lower case: LHip and hip_left are both left and hip."""
    found = re.findall(r'[^\W\d_]+', CAMEL.sub(' ', name).lower())
    return [SIDES.get(word, word) for word in found]


def upper_half(keypoints: np.ndarray, boxes: np.ndarray) -> tuple[tuple[int, ...], str]:
    """Joints that lie in the upper half of the people on average; none, and why, where that makes no sense.

    keypoints: (n, K, 3); boxes: (n, 4) x, y, width, height
    """
    labelled = keypoints[..., 2] > 0
    heights = (keypoints[..., 1] - boxes[:, None, 1]) / boxes[:, None, 3]
    heights = np.where(labelled, heights, np.nan)
    seen = labelled.sum(axis=0) > 0
    means = np.full(keypoints.shape[1], np.nan)
    means[seen] = np.nanmean(heights[:, seen], axis=0)
    upper = tuple(np.flatnonzero(means < 0.5).tolist())
    if len(keypoints) < MIN_PEOPLE:
        return upper, f'fewer than {MIN_PEOPLE} instances do not tell which joints are above'
    total = np.nanvar(heights)
    between = np.nanmean(np.where(labelled, (means - np.nanmean(heights)) ** 2, np.nan))
    if not between > UPRIGHT * total:
        return upper, 'the instances have no common upright pose'
    if min(len(upper), int(seen.sum()) - len(upper)) < MIN_HALF:
        return upper, f'a half has fewer than {MIN_HALF} joints'
    return upper, ''


def sigmas_by_name(names: Sequence[str]) -> tuple[tuple[float, ...], list[str]]:
    """COCO's sigmas for joints that it has, DEFAULT_SIGMA for the others; and the names of these."""
    known = {tuple(sorted(words(name))): sigma for name, sigma in zip(COCO.joint_names, COCO.sigmas)}
    keys = [tuple(sorted(words(name))) for name in names]
    sigmas = tuple(float(known.get(key, DEFAULT_SIGMA)) for key in keys)
    return sigmas, [name for name, key in zip(names, keys) if key not in known]


def measured_sigmas(
    images: np.ndarray, keypoints: np.ndarray, boxes: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) sigmas from instances that were annotated several times, NaN for joints that never were; and the instances
    that repeat an earlier one, (n,) bool.

    Two annotations of an image are of one instance if their boxes have an IoU of SAME_BOX. The squared distance of two
    annotators, in units of the area, is twice that of one from the mean.

    images: (n,); keypoints: (n, K, 3); boxes: (n, 4) x, y, width, height; areas: (n,)
    """
    squares, counts = np.zeros(keypoints.shape[1]), np.zeros(keypoints.shape[1])
    repeated = np.zeros(len(images), bool)
    for own in _of_each_image(images):
        for i, a in enumerate(own):
            for b in own[i + 1 :]:
                if iou(boxes[a], boxes[b]) < SAME_BOX:
                    continue
                repeated[b] = True
                both = (keypoints[[a, b], :, 2] > 0).all(axis=0)
                distances = ((keypoints[a, :, :2] - keypoints[b, :, :2]) ** 2).sum(axis=1)
                squares += np.where(both, distances / np.sqrt(areas[a] * areas[b]) / 2, 0)
                counts += both
    with np.errstate(invalid='ignore'):
        return np.sqrt(squares / counts), repeated


def _of_each_image(images: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(images, kind='stable')
    return np.split(order, np.flatnonzero(np.diff(images[order])) + 1)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boxes (4,): x, y, width, height."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    common = np.clip(high - low, 0, None).prod()
    return float(common / (a[2:].prod() + b[2:].prod() - common))
