"""Crops of one person at several sizes and extents, and the mean of their heatmaps in the frame of one of them.

A test of an ensemble has one crop for each input size of its networks; a multi-scale test, one for each extent of the
box. All are centred on the box and not rotated.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from lib.utils.codec import CODECS, aspect_ratio


class View(NamedTuple):
    """A crop: its size (H, W) in pixels, and its extent in the image relative to that of the plain test crop."""

    input_shape: tuple[int, int]
    zoom: float = 1.0


@functools.lru_cache(maxsize=64)
def _places(
    view: View,
    map_shape: tuple[int, int],
    base: View,
    output_shape: tuple[int, int],
    codec: str,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of the base's maps lie on the view's: (1, h, w, 2) float32, x and y in -1 .. 1 from the centre of
    the first cell to that of the last; and (h, w) float32, 1 where the view shows them, else 0.

    map_shape: of the view's maps; output_shape (h, w): of the base's. Cached, so that no batch waits for a copy.
    """
    lengths = CODECS[codec]
    # In each crop both axes have the same scale, so its vertical extent follows from its shape.
    across = base.zoom / view.zoom
    down = across * aspect_ratio(view.input_shape, codec) / aspect_ratio(base.input_shape, codec)
    axes = []
    for axis, ratio in ((1, across), (0, down)):
        cells = torch.arange(output_shape[axis], dtype=torch.float64)
        in_crop = 0.5 + (lengths.to_crop(cells, base.input_shape[axis], output_shape[axis]) - 0.5) * ratio
        place = in_crop * lengths.length(map_shape[axis]) - lengths.first_cell
        axes.append((2 * place / (map_shape[axis] - 1) - 1, (in_crop >= 0) & (in_crop <= 1)))
    (x, x_shown), (y, y_shown) = axes
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)[None]
    return grid.float().to(device), (y_shown[:, None] & x_shown).float().to(device)


def mean_onto(
    base: View, output_shape: Sequence[int], views: Sequence[View], maps: Sequence[torch.Tensor], codec: str
) -> torch.Tensor:
    """(N, K, h, w) float32: the mean of several views' heatmaps, in the frame of the base's.

    base:  the crop of the result; output_shape (h, w): of its maps
    views: the crops of the maps, one each; maps: (N, K, h', w') each

    Every map is sampled, bilinearly, where it shows the same image position as the base's cell. Views that do not
    reach that far (zoom below the base's) do not count in that cell; a cell that none reaches is 0.
    """
    total = count = torch.zeros((), device=maps[0].device)
    for view, own in zip(views, maps):
        if view == base:
            total, count = total + own, count + 1
            continue
        grid, shown = _places(view, tuple(own.shape[2:]), base, tuple(output_shape), codec, own.device)
        grid = grid.expand(len(own), -1, -1, -1)
        moved = F.grid_sample(own.float(), grid, mode='bilinear', padding_mode='border', align_corners=True)
        total, count = total + moved * shown, count + shown
    return total / count.clamp(min=1)
