"""Plots docs/mspn.png, the README's figure of the network around a crop and its targets: python docs/plot_network.py"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import colors, figure, patches, patheffects
from matplotlib.axes import Axes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.config import OUTPUT_STRIDE, coco_defaults
from lib.datasets import joints, synthetic
from lib.datasets.description import COCO
from lib.utils import heatmap, transforms, visualize

WIDTH, HEIGHT, DPI, FONT = 1600, 620, 100, 19.5  # pixels, which are the axes' units; the font in points
ROWS, LEVELS = (162, 278, 394, 510), ('h\n256', 'h/2\n512', 'h/4\n1024', 'h/8\n2048')  # y and names, finest first
FIRST, DOTS, LAST, UP_X, MAP_X = 345, 800, 915, 172, 250  # x of trunks and ellipsis; of the rest, from the trunk
BLOCK, CROP, MAP = 104, (150, 200), (66, 88)  # a block's width at full resolution; width and height of pictures
INK, LINE, PANEL, STEM, TRUNK, UP = '#2f3a46', '#8a94a0', '#f3f5f8', '#7c8a99', '#5f8fbf', '#e3ad62'
SKIP, CROSS, HARD = '#8673ad', '#4b9b7d', '#8e2440'
HEAT = colors.LinearSegmentedColormap.from_list('heat', ('#ffffff', '#f6c9a8', '#dd6b4d', HARD))


def person() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Crop, crop with skeleton (H, W, 3) uint8 RGB; targets (5, h, w), the joints' maximum; kernels (5,)."""
    cfg = coco_defaults()
    shape, kernels = cfg.INPUT_SHAPE, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    image, [annotation] = synthetic.draw_image(np.random.default_rng(171))  # one person, every limb in sight
    x, y, w, h = annotation['bbox']
    size = np.array((w * (1 + cfg.TEST.X_EXTENSION), h * (1 + cfg.TEST.Y_EXTENSION))) / transforms.PIXELS_PER_SCALE
    scale = transforms.fit(size, shape[1] / shape[0])
    matrix = transforms.crop_matrix(np.array((x + w / 2, y + h / 2)), scale, 0, shape)
    before, after = joints.crop(image, matrix, shape), joints.crop(image, matrix, shape)
    keypoints = np.reshape(annotation['keypoints'], (-1, 3))
    points, visible = np.trunc(keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]), keypoints[:, 2:]
    visualize.draw_skeleton(after, points, visible[:, 0] > 0, COCO.skeleton, COCO.joint_names)
    batch = torch.tensor(points[None], dtype=torch.float32), torch.tensor(visible[None])
    targets = heatmap.encode(*batch, shape, [side // OUTPUT_STRIDE for side in shape], kernels)
    return before[..., ::-1], after[..., ::-1], targets[0].amax(dim=1).numpy(), np.array(kernels)


def write(ax: Axes, x: float, y: float, text: str, color: str = INK, ha: str = 'center', **options: object) -> None:
    ax.text(x, y, text, color=color, ha=ha, va='center', fontsize=FONT, linespacing=1.3, zorder=6, **options)


def path(ax: Axes, *points: tuple[float, float], color: str = LINE, head: bool = True, dots: float = 0) -> None:
    """A line through the points; dots: x of an ellipsis at the height of the second point."""
    points = np.array(points, float)
    if head:
        right, down = np.sign(points[-1] - points[-2])
        points[-1] -= 6 * right, 6 * down
        ax.plot(*points[-1], {(1, 0): '>', (0, 1): 'v', (0, -1): '^'}[right, down], color=color, ms=8, mew=0, zorder=4)
    halo = [patheffects.withStroke(linewidth=8, foreground=PANEL)] if color == UP else None
    ax.plot(*points.T, color=color, lw=2.2, zorder=3, path_effects=halo, solid_capstyle='butt')
    if dots:
        x, y = dots + np.array((-12, 0, 12)), [points[1, 1]] * 3
        ax.plot(x, y, 'o', color=color, ms=8, mec='white', mew=3.5, zorder=5)


def picture(ax: Axes, image: np.ndarray, left: float, middle: float, w: float, h: float) -> None:
    ax.imshow(image, HEAT, extent=(left, left + w, middle + h / 2, middle - h / 2), zorder=4, aspect='auto')
    ax.add_patch(patches.Rectangle((left, middle - h / 2), w, h, fill=False, ec=LINE, zorder=5))


def box(ax: Axes, x: float, y: float, w: float, h: float, color: str, zorder: float = 5, radius: float = 4) -> None:
    style = patches.BoxStyle('round', pad=0, rounding_size=radius)
    ax.add_patch(patches.FancyBboxPatch((x - w / 2, y - h / 2), w, h, style, color=color, lw=0, zorder=zorder))


def stage(ax: Axes, x: float, name: str, targets: np.ndarray, kernels: np.ndarray) -> None:
    """The hourglass whose trunk is at x and its four targets, finest first."""
    box(ax, x + 170, 318, 520, 532, PANEL, zorder=0, radius=14)
    write(ax, x + 170, 28, name, weight='bold')
    for i, y in enumerate(ROWS):
        half, up = BLOCK / 2 ** (i + 1), x + UP_X
        box(ax, x, y, 2 * half, 44, TRUNK)
        box(ax, up, y, 2 * half, 44, UP)
        if x == FIRST:  # what the next stage's trunk adds to its features
            a, b, lane, end = x + 0.6 * half, up + 0.6 * half, y + 55, LAST - half
            path(ax, (a, y), (a, lane), (end - 26, lane), (end - 26, y), (end, y), color=SKIP, dots=DOTS)
            path(ax, (b, y), (b, lane), color=SKIP, head=False)
        if i < 3:
            path(ax, (x, y), (x, ROWS[i + 1] - 22), color=TRUNK)
            path(ax, (up, ROWS[i + 1]), (up, y + 22), color=UP)
        path(ax, (x + half, y), (up - half, y))
        path(ax, (up + half, y), (x + MAP_X, y))
        write(ax, x + UP_X / 2, y, LEVELS[i])
        picture(ax, targets[i], x + MAP_X, y, *MAP)
        write(ax, x + MAP_X + 74, y, f'k {kernels[i]}' if i else f'OHKM\nk {kernels[i]}', INK if i else HARD, 'left')


def main() -> None:
    before, after, targets, kernels = person()
    canvas, y = figure.Figure((WIDTH / DPI, HEIGHT / DPI), DPI), ROWS[0]
    ax = canvas.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), xticks=(), yticks=(), frameon=False)
    stage(ax, FIRST, 'stage 1', targets[3::-1], kernels[3::-1])
    stage(ax, LAST, 'stage S', targets[:0:-1], kernels[:0:-1])
    path(ax, (FIRST + UP_X, y), (FIRST + UP_X, 100), (LAST, 100), (LAST, y - 22), color=CROSS, dots=DOTS)
    write(ax, FIRST + UP_X + 90, 76, 'cross_conv', CROSS)
    write(ax, DOTS, 28, '· · ·', weight='bold')
    for start, end in ((164, 182), (226, FIRST - BLOCK / 2), (LAST + MAP_X + MAP[0], 1434)):
        path(ax, (start, y), (end, y))
    for image, x, name in ((before, 14, 'crop'), (after, 1434, 'pose')):
        picture(ax, image, x, y, *CROP)
        write(ax, x + CROP[0] / 2, y + 120, name)
    box(ax, 204, y, 44, 120, STEM)
    write(ax, 204, y, 'stem', 'white', rotation=90)
    path(ax, (1385, ROWS[3] + 44), (1385, y + 70))
    write(ax, 1410, ROWS[2], 'coarse to fine', rotation=90)
    for row, height, text, color in ((362, 24, 'trunk', TRUNK), (404, 24, 'up-sampling', UP), (446, 8, 'skips', SKIP)):
        box(ax, 26, row, 24, height, color)
        write(ax, 50, row, text, ha='left')
    write(ax, 14, 520, 'h: height (64)\n256...: channels', ha='left')
    write(ax, 1440, 503, "k: target's\nGaussian\nkernel", ha='left')
    canvas.savefig(Path(__file__).with_name('mspn.png'))


if __name__ == '__main__':
    main()
