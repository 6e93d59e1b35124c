"""The pixels of a crop: cut from an image of any size, and their colours changed."""

from collections.abc import Sequence

import cv2
import numpy as np

MAX_SOURCE = 32_766  # pixels a side: OpenCV 4 warps no larger image
# Rec. 601: a pixel's brightness from blue, green, red.
LUMA = np.array([0.114, 0.587, 0.299])


def crop(image: np.ndarray, matrix: np.ndarray, input_shape: Sequence[int]) -> np.ndarray:
    """(H, W, 3) uint8 crop by a (2, 3) matrix from image to crop pixels; black outside the image."""
    if max(image.shape[:2]) > MAX_SOURCE:
        image, matrix = _cut_out(image, matrix, input_shape)
    return cv2.warpAffine(image, matrix, (input_shape[1], input_shape[0]), flags=cv2.INTER_LINEAR)


def _cut_out(image: np.ndarray, matrix: np.ndarray, input_shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The region of a large image that a crop needs, subsampled if that is still too large; and the matrix for it."""
    height, width = input_shape
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ inverse[:, :2].T + inverse[:, 2]
    size = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, size - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 3, low + 1, size).astype(int)
    step = -((low - high) // MAX_SOURCE)
    linear = matrix[:, :2]
    region = image[low[1] : high[1] : step[1], low[0] : high[0] : step[0]]
    return np.ascontiguousarray(region), np.column_stack([linear * step, matrix[:, 2] + linear @ low])


def jitter_colors(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR: saturation, then contrast, then brightness changed, rounded and clipped once.

    As in torchvision's ColorJitter: saturation blends a pixel with its grey, contrast with the image's mean grey,
    brightness with black. All three are linear, so they are one matrix.

    factors: (3,) of brightness, contrast and saturation; 1: unchanged
    """
    brightness, contrast, saturation = factors
    mean_grey = LUMA @ cv2.mean(image)[:3]
    linear = contrast * (saturation * np.eye(3) + (1 - saturation) * LUMA)
    offset = np.full(3, (1 - contrast) * mean_grey)
    return cv2.transform(image, brightness * np.column_stack([linear, offset]))
