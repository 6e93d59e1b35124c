"""Skeletons on images."""

from collections.abc import Sequence

import cv2
import numpy as np

# BGR, of a limb by the side of its joints.
LEFT, RIGHT, MIDDLE = (80, 200, 80), (50, 120, 255), (240, 180, 60)
PANEL_HEIGHT = 320
# Sub-pixel bits of OpenCV's drawing coordinates.
SHIFT = 4


def _side(names: Sequence[str]) -> tuple[int, int, int]:
    if all(name.startswith('left') for name in names):
        return LEFT
    return RIGHT if all(name.startswith('right') for name in names) else MIDDLE


def draw_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    visible: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    joint_names: Sequence[str],
) -> None:
    """Draws one person onto the image (H, W, 3) uint8 BGR, in place.

    keypoints (K, 2) in image pixels; visible (K,) bool: which joints, and limbs between such, to draw
    """
    points = [tuple(point) for point in np.round(keypoints * 2**SHIFT).astype(int).tolist()]
    size = max(np.ptp(keypoints[visible], axis=0).max(), 1) if visible.any() else 1
    thickness = int(np.clip(size / 80, 1, 4))
    for a, b in skeleton:
        if visible[a] and visible[b]:
            color = _side((joint_names[a], joint_names[b]))
            cv2.line(image, points[a], points[b], color, thickness, cv2.LINE_AA, SHIFT)
    for joint in np.flatnonzero(visible):
        color = _side((joint_names[joint],))
        cv2.circle(image, points[joint], (thickness + 1) * 2**SHIFT, color, cv2.FILLED, cv2.LINE_AA, SHIFT)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two images (H, W, 3) of one size as a panel of PANEL_HEIGHT pixels' height."""
    panel = np.hstack([left, right])
    width = round(panel.shape[1] * PANEL_HEIGHT / panel.shape[0])
    return cv2.resize(panel, (width, PANEL_HEIGHT), interpolation=cv2.INTER_AREA)


def contact_sheet(panels: list[np.ndarray], columns: int = 2) -> np.ndarray:
    """Panels of one height in rows of so many columns, on white."""
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    width = max(row.shape[1] for row in rows)
    margin = [(0, 4), (0, 0), (0, 0)]
    padded = [np.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)], constant_values=255) for row in rows]
    return np.vstack([np.pad(row, margin, constant_values=255) for row in padded])
