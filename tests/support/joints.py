"""Augmentation that changes nothing."""

import numpy as np

from lib.utils.transforms import (
    Augmentation,
    AugmentationSample,
)

UNTOUCHED = Augmentation(
    basic_extension=0.0,
    random_extension=False,
    x_extension=0.0,
    y_extension=0.0,
    scale_factor_low=0.0,
    scale_factor_high=0.0,
    scale_shrink_ratio=1.0,
    rotation_factor=0.0,
    prob_rotation=0.0,
    prob_flip=0.0,
    num_keypoints_half_body=8,
    prob_half_body=0.0,
    x_extension_half_body=0.0,
    y_extension_half_body=0.0,
)


def plain_sample(**changes) -> AugmentationSample:
    nothing = dict(
        extension=np.ones(2),
        half_body=False,
        prefer_upper=True,
        half_body_extension=np.zeros(2),
        scale_factor=1.0,
        rotation=0.0,
        flip=False,
    )
    return AugmentationSample(**{**nothing, **changes})
