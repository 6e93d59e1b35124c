"""How near a joint is to its truth, as OKS has it: the terms of its mean."""

import numpy as np


def similarities(points: np.ndarray, ground_truth: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Joints' similarities ks = exp(-d^2 / (2 area (2 sigma)^2)), (p, K).

    points (p, K, 2) and truth (p, K, 2) in image pixels; area (p,) of the person in square pixels; sigmas (K,)
    """
    squares = ((points - ground_truth) ** 2).sum(axis=-1)
    return np.exp(-squares / (2 * sigmas) ** 2 / (area[:, None] + np.spacing(1)) / 2)
