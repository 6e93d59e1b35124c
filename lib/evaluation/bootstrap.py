"""Bootstrap intervals (Efron and Tibshirani, 1993) of metrics over the images of a test."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

# Of the draws' distribution: 95 per cent lie between.
INTERVAL = (0.025, 0.975)

# How often each image counts, (i,) int64 -> metrics (m,) in 0 .. 1, NaN where there is nothing to measure.
Metrics = Callable[[np.ndarray], np.ndarray]


def draws(tests: Sequence[Metrics], images: int, samples: int, seed: int = 0) -> list[np.ndarray]:
    """For each test (samples, m), its metrics on as many images as there are, drawn with repetition.

    The same draws for all, so that differences between tests are paired.
    """
    random = np.random.default_rng(seed)
    rows = []
    for _ in tqdm(range(samples), 'bootstrap', unit=' draws', disable=None):
        weights = np.bincount(random.integers(images, size=images), minlength=images)
        rows.append([test(weights) for test in tests])
    return [np.array(of_test) for of_test in zip(*rows)]


def interval(values: np.ndarray) -> tuple[float, float]:
    """In which 95 per cent of drawn values lie; draws without anybody to find (NaN) are left out."""
    low, high = np.nanquantile(values, INTERVAL)
    return float(low), float(high)
