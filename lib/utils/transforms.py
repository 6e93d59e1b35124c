"""Crop geometry and augmentation of one person, in numpy; random numbers come from `sample_augmentation` alone.

A person is a centre (x, y) in image pixels and a scale (x, y), its box's size in units of 200 image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lib.utils.codec import CODECS

PIXELS_PER_SCALE = 200
# Probability that a half-body crop prefers the upper half: that a standard normal number is below 0.5.
PROB_UPPER_BODY = 0.6915
# A half is taken if it has more visible joints than this; else the upper one, if it has as many.
MIN_HALF_BODY_JOINTS = 3


def mirror_permutation(num_joints: int, flip_pairs: Sequence[Sequence[int]]) -> np.ndarray:
    """(K,) the index of every joint's mirror joint, its own if it has none."""
    permutation = np.arange(num_joints)
    for a, b in flip_pairs:
        permutation[[a, b]] = b, a
    return permutation


def centers_and_scales(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) float64: x, y, width, height in image pixels -> centers and scales (n, 2) float32."""
    center = boxes[:, :2] + boxes[:, 2:] / 2
    return center.astype(np.float32), (boxes[:, 2:] / PIXELS_PER_SCALE).astype(np.float32)


def fit(scale: np.ndarray, aspect_ratio: float) -> np.ndarray:
    """The smallest scale (2,) that covers `scale` and has the aspect ratio width / height."""
    x, y = scale
    if x > aspect_ratio * y:
        return np.array([x, x / aspect_ratio], scale.dtype)
    return np.array([y * aspect_ratio, y], scale.dtype)


def crop_matrix(
    center: np.ndarray, scale: np.ndarray, rotation: float, input_shape: Sequence[int], codec: str = 'standard'
) -> np.ndarray:
    """(2, 3) similarity from image pixels to crop pixels.

    center maps to the middle of the crop, and scale[0] * 200 image pixels to its width as the codec measures it.

    rotation: degrees; input_shape: (H, W) of the crop
    """
    height, width = (CODECS[codec].length(size) for size in input_shape)
    zoom = width / (scale[0] * PIXELS_PER_SCALE)
    angle = np.deg2rad(rotation)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]])
    offset = np.array([width / 2, height / 2]) - linear @ center
    return np.column_stack([linear, offset])


def mirror_matrix(image_width: int) -> np.ndarray:
    """(3, 3) map from image pixels to those of the flipped image."""
    return np.array([[-1.0, 0, image_width - 1], [0, 1, 0], [0, 0, 1]])


def half_body(
    joints: np.ndarray,
    visibility: np.ndarray,
    upper_body_ids: Sequence[int],
    prefer_upper: bool,
    extension: np.ndarray,
    aspect_ratio: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and scale (2,) of a box around one half of a person; None if too few joints are visible, or all
    are at one point.

    joints:       (K, 2) in image pixels; visibility: (K,)
    prefer_upper: which half to try first
    extension:    (2,) ratios by which width and height grow
    """
    visible = visibility > 0
    is_upper = np.isin(np.arange(len(joints)), upper_body_ids)
    upper, lower = joints[visible & is_upper], joints[visible & ~is_upper]
    if prefer_upper and len(upper) > MIN_HALF_BODY_JOINTS:
        chosen = upper
    else:
        chosen = lower if len(lower) > MIN_HALF_BODY_JOINTS else upper
    if len(chosen) < MIN_HALF_BODY_JOINTS or (chosen == chosen[0]).all():
        return None
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    size = (high - low) * (1 + extension) / PIXELS_PER_SCALE
    return ((low + high) / 2).astype(np.float32), fit(size.astype(np.float32), aspect_ratio)


@dataclass(frozen=True)
class Augmentation:
    """The ranges that augmentations are sampled from: cfg.DATASET.TRAIN, in lower case."""

    basic_extension: float
    random_extension: bool
    x_extension: float
    y_extension: float
    scale_factor_low: float
    scale_factor_high: float
    scale_shrink_ratio: float
    rotation_factor: float
    prob_rotation: float
    prob_flip: float
    num_keypoints_half_body: int
    prob_half_body: float
    x_extension_half_body: float
    y_extension_half_body: float
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0


@dataclass(frozen=True)
class AugmentationSample:
    """The random numbers of one training sample, apart from the geometry, so that tests can choose them.

    extension, half_body_extension: (2,) in [0, 1), for x and y
    scale_factor: near 1; rotation: degrees
    color: (3,) factors of brightness, contrast and saturation; 1: unchanged
    """

    extension: np.ndarray
    half_body: bool
    prefer_upper: bool
    half_body_extension: np.ndarray
    scale_factor: float
    rotation: float
    flip: bool
    color: np.ndarray = field(default_factory=lambda: np.ones(3))


def sample_augmentation(rng: np.random.Generator, augmentation: Augmentation) -> AugmentationSample:
    """The random numbers of one training sample."""
    a = augmentation
    return AugmentationSample(
        extension=rng.random(2) if a.random_extension else np.ones(2),
        half_body=rng.random() < a.prob_half_body,
        prefer_upper=rng.random() < PROB_UPPER_BODY,
        half_body_extension=rng.random(2),
        scale_factor=rng.uniform(1 + a.scale_factor_low, 1 + a.scale_factor_high),
        rotation=rng.uniform(-a.rotation_factor, a.rotation_factor) if rng.random() < a.prob_rotation else 0.0,
        flip=rng.random() < a.prob_flip,
        # Last, so that the other numbers do not depend on it.
        color=1 + rng.uniform(-1, 1, 3) * [a.brightness, a.contrast, a.saturation],
    )


def augment_box(
    center: np.ndarray,
    scale: np.ndarray,
    joints: np.ndarray,
    visibility: np.ndarray,
    upper_body_ids: Sequence[int],
    augmentation: Augmentation,
    sampled: AugmentationSample,
    aspect_ratio: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The centre and scale (2,) to crop for training, before rotation and flipping.

    center, scale (2,) float32; joints (K, 2) in image pixels; visibility (K,)
    """
    a = augmentation
    scale = scale * np.float32(1 + a.basic_extension)
    scale = scale * (1 + sampled.extension * [a.x_extension, a.y_extension]).astype(np.float32)
    scale = fit(scale, aspect_ratio)
    if sampled.half_body and np.count_nonzero(visibility > 0) > a.num_keypoints_half_body:
        growth = sampled.half_body_extension * [a.x_extension_half_body, a.y_extension_half_body]
        half = half_body(joints, visibility, upper_body_ids, sampled.prefer_upper, growth, aspect_ratio)
        center, scale = half or (center, scale)
    return center, scale * np.float32(a.scale_shrink_ratio * sampled.scale_factor)
