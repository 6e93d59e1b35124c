"""Bootstrap confidence intervals (Efron and Tibshirani, 1993) of metrics over the images of a test."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

INTERVAL = (0.025, 0.975)  # the quantiles between which 95 % of the resamples lie

# How often each image counts, (i,) int64 -> metrics (m,) in 0 .. 1, NaN where there is nothing to measure.
Metrics = Callable[[np.ndarray], np.ndarray]


def resample(tests: Sequence[Metrics], images: int, count: int) -> list[np.ndarray]:
    """The metrics of each test, (count, m), with its images resampled with replacement `count` times.

    All tests share the same resamples, so their differences are paired.
    """
    random = np.random.default_rng(0)
    rows = []
    for _ in tqdm(range(count), 'bootstrap', unit=' resamples', disable=None):
        weights = np.bincount(random.integers(images, size=images), minlength=images)
        rows.append([test(weights) for test in tests])
    return [np.array(of_test) for of_test in zip(*rows)]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of resampled values. NaN (resamples with nothing to measure) is left out."""
    low, high = np.nanquantile(values, INTERVAL)
    return float(low), float(high)
