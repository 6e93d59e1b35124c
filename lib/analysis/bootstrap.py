"""Bootstrap intervals (Efron and Tibshirani, 1993) of a figure over the images of a test."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

# Of the draws' distribution: 95 per cent lie between.
INTERVAL = (0.025, 0.975)

# How often each image counts, (i,) int64 -> the figure.
Figure = Callable[[np.ndarray], float]


def draws(figures: Sequence[Figure], images: int, samples: int, seed: int = 0) -> np.ndarray:
    """(samples, len(figures)) figures of as many images as there are, drawn with repetition.

    The figures of a row are of the same draw, so that their differences are paired.
    """
    random = np.random.default_rng(seed)
    rows = np.empty((samples, len(figures)))
    for row in tqdm(rows, 'bootstrap', unit=' draws', disable=None):
        weights = np.bincount(random.integers(images, size=images), minlength=images)
        row[:] = [figure(weights) for figure in figures]
    return rows


def interval(values: np.ndarray) -> tuple[float, float]:
    """In which 95 per cent of drawn values lie; draws without anybody to find (NaN) are left out."""
    low, high = np.nanquantile(values, INTERVAL)
    return float(low), float(high)
