"""Drawing skeletons, and panels of images."""

from collections.abc import Sequence

import cv2
import numpy as np

from lib.utils.heatmap import SCORE_OFFSET

# BGR, by side of the body.
LEFT, RIGHT, MIDDLE = (80, 200, 80), (50, 120, 255), (240, 180, 60)
# A joint whose peak is below this ratio of its person's highest is not drawn.
MIN_PEAK = 0.25
PANEL_HEIGHT = 320
# Subpixel bits of OpenCV's drawing coordinates, and a limit in pixels that leaves room for them.
SHIFT = 4
MAX_COORDINATE = 1e5
# Size of a person, in pixels, for each pixel of line thickness.
PIXELS_PER_THICKNESS = 60


def _side(names: Sequence[str]) -> tuple[int, int, int]:
    if all(name.startswith('left') for name in names):
        return LEFT
    return RIGHT if all(name.startswith('right') for name in names) else MIDDLE


def limb_colours(count: int) -> list[tuple[int, int, int]]:
    """BGR colours, evenly spaced on the hue wheel: one for each limb of a skeleton."""
    if count == 0:  # OpenCV refuses empty images
        return []
    hues = np.arange(count) * 180 / count
    wheel = np.stack([hues, np.full(count, 200), np.full(count, 255)], axis=1).astype(np.uint8)
    return [tuple(colour) for colour in cv2.cvtColor(wheel[None], cv2.COLOR_HSV2BGR)[0].tolist()]


def draw_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    visible: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    joint_names: Sequence[str],
    colours: Sequence[tuple[int, int, int]] | None = None,
    opacity: np.ndarray | None = None,
) -> None:
    """Draws one person onto the image (H, W, 3) uint8 BGR, in place; lines scale with the person.

    keypoints: (K, 2) in image pixels
    visible:   (K,) bool: which joints to draw, with the limbs between them
    colours:   BGR of each limb, and of the joints at its ends; None: by side of the body
    opacity:   (K,) 0 to 1, of the joints; a limb has the mean of its ends'; None: 1
    """
    if not visible.any():
        return
    keypoints = np.clip(keypoints, -MAX_COORDINATE, MAX_COORDINATE)
    low, high = keypoints[visible].min(axis=0), keypoints[visible].max(axis=0)
    thickness = max(int((high - low).max() / PIXELS_PER_THICKNESS), 1)
    # Only the region around the person is blended.
    left, top = np.maximum(np.floor(low).astype(int) - 2 * thickness - 2, 0).tolist()
    right, bottom = np.maximum(np.ceil(high).astype(int) + 2 * thickness + 3, 0).tolist()
    region = image[top:bottom, left:right]
    if not region.size:
        return
    drawn, cover = region.copy(), np.zeros(region.shape[:2], np.float32)
    points = np.round((keypoints - [left, top]) * 2**SHIFT).astype(int).tolist()
    opacity = np.ones(len(points)) if opacity is None else opacity
    for limb, (a, b) in enumerate(skeleton):
        if visible[a] and visible[b]:
            colour = colours[limb] if colours else _side((joint_names[a], joint_names[b]))
            mean = float(opacity[a] + opacity[b]) / 2
            cv2.line(drawn, points[a], points[b], colour, thickness, cv2.LINE_AA, SHIFT)
            cv2.line(cover, points[a], points[b], mean, thickness + 2, cv2.LINE_8, SHIFT)
    for joint in np.flatnonzero(visible).tolist():
        limbs = [limb for limb, ends in enumerate(skeleton) if joint in ends]
        colour = colours[limbs[0]] if colours and limbs else _side((joint_names[joint],))
        radius = (thickness + 1) * 2**SHIFT
        cv2.circle(drawn, points[joint], radius, colour, cv2.FILLED, cv2.LINE_AA, SHIFT)
        cv2.circle(cover, points[joint], radius + 2**SHIFT, float(opacity[joint]), cv2.FILLED, cv2.LINE_8, SHIFT)
    region[:] = np.round(region + cover[..., None] * (drawn.astype(np.float32) - region))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two images (H, W, 3) of the same size as a panel PANEL_HEIGHT pixels high."""
    panel = np.hstack([left, right])
    width = round(panel.shape[1] * PANEL_HEIGHT / panel.shape[0])
    return cv2.resize(panel, (width, PANEL_HEIGHT), interpolation=cv2.INTER_AREA)


def contact_sheet(panels: list[np.ndarray], columns: int = 2) -> np.ndarray:
    """Panels of the same height in rows of `columns`, on white."""
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    width = max(row.shape[1] for row in rows)
    margin = [(0, 4), (0, 0), (0, 0)]
    padded = [np.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)], constant_values=255) for row in rows]
    return np.vstack([np.pad(row, margin, constant_values=255) for row in padded])


def visible_joints(scores: np.ndarray) -> np.ndarray:
    """(n, K) bool: which joints of n people to draw, given their scores (n, K)."""
    peaks = scores - SCORE_OFFSET
    return (peaks > 0) & (peaks >= MIN_PEAK * peaks.max(axis=1, keepdims=True))
