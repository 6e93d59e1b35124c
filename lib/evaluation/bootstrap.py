"""Bootstrap intervals (Efron and Tibshirani, 1993) of metrics over the images of a test."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

# Of the resamples' distribution: 95 per cent lie between.
INTERVAL = (0.025, 0.975)

# How often each image counts, (i,) int64 -> metrics (m,) in 0 .. 1, NaN where there is nothing to measure.
Metrics = Callable[[np.ndarray], np.ndarray]


def resample(tests: Sequence[Metrics], images: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """For each test (count, m), its metrics on as many images as there are, sampled with replacement.

    The same resamples for all, so that differences between tests are paired.
    """
    random = np.random.default_rng(seed)
    rows = []
    for _ in tqdm(range(count), 'bootstrap', unit=' resamples', disable=None):
        weights = np.bincount(random.integers(images, size=images), minlength=images)
        rows.append([test(weights) for test in tests])
    return [np.array(of_test) for of_test in zip(*rows)]


def interval(values: np.ndarray) -> tuple[float, float]:
    """In which 95 per cent of resampled values lie; resamples without anybody to find (NaN) are left out."""
    low, high = np.nanquantile(values, INTERVAL)
    return float(low), float(high)


def by_image(flags: Sequence[np.ndarray], image: np.ndarray, images: int) -> np.ndarray:
    """(f, i, K) int64: how many of an image's people have each flag (n, K) at each joint.

    image: (n,) indices of the people's images; images: i
    """
    counts = np.zeros((len(flags), images, flags[0].shape[1]), np.int64)
    for count, flag in zip(counts, flags):
        np.add.at(count, image, flag)
    return counts
