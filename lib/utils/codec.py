"""The three codecs: how a joint in a crop becomes a position on a heatmap, and that position a joint again.

Pixels and cells are points at integers: the first at 0, the last of W pixels at W - 1. Flipping an array is then
exactly x -> W - 1 - x. A codec fixes everything else in one place, so that conventions cannot be mixed.

standard  The published code. The length of W pixels is W; x in the crop falls into cell trunc(x w / W), and cell c maps
          back to (c + 1/2) W / w, which is 4 c + 2. Its errors, at 4 pixels to a cell:
          - encode truncates a joint's position to an integer cell: a target holds nothing finer than 4 pixels, and
            decode's quarter-cell step towards the runner-up is the same for all positions in a cell;
          - x becomes x / 4 - 1/2 on average, of which 4 c + 2 is the inverse. But flipped, encoded and flipped back
            it becomes 47 - ((191 - x) / 4 - 1/2) = x / 4 - 1/4. The two heatmaps of the flip test are a quarter of a
            cell apart, and their mean moves every joint half a crop pixel to the right;
          - crop_matrix maps the box's centre to W / 2, but an array is flipped about (W - 1) / 2: the flipped crop is
            the flipped person's moved by a pixel. decode inverts the matrix, so this alone causes no error.
dark      Distribution-aware coordinates (Zhang et al., CVPR 2020), with the same lengths. Targets are Gaussians about
          the joint's exact position, x / 4 - 1/2, and decode takes a second-order Taylor step on the log of the
          smoothed map. Its decoding also suits networks trained with the standard codec. The flip test's half pixel
          remains.
udp       Unbiased data processing (Huang et al., CVPR 2020). The length of W pixels is W - 1, from the centre of the
          first to that of the last: the box's sides go to the centres of the crop's outermost pixels, and these to the
          centres of the map's outermost cells, x -> x (w - 1) / (W - 1). Flipping then preserves every position.
          Targets and Taylor step are dark's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Codec:
    """The properties of a codec.

    align_corners: lengths go from the centre of the first pixel to that of the last
    subpixel:      targets are centred, and decoded, at subpixel positions
    """

    align_corners: bool
    subpixel: bool

    def length(self, count: int) -> int:
        """The length of a row of pixels or cells."""
        return count - 1 if self.align_corners else count

    @property
    def first_cell(self) -> float:
        """Where the first cell lies, in cells from the start of the map's length."""
        return 0.0 if self.align_corners else 0.5

    def to_cells(self, x: torch.Tensor, pixels: int, cells: int) -> torch.Tensor:
        """Positions on an axis of a crop -> on that axis of the map; integers unless `subpixel`."""
        # Python numbers: creating a tensor on a GPU would wait for all previous launches.
        x = x * (self.length(cells) / self.length(pixels))
        return x - self.first_cell if self.subpixel else x.trunc()

    def to_crop(self, cells: torch.Tensor, pixels: int, count: int) -> torch.Tensor:
        """Positions on an axis of a map of `count` cells -> on that axis of the crop, as a ratio of its length."""
        length = self.length(pixels)
        pitch = length / self.length(count)
        return (cells * pitch + self.first_cell * pitch) / length


CODECS = {
    'standard': Codec(align_corners=False, subpixel=False),
    'dark': Codec(align_corners=False, subpixel=True),
    'udp': Codec(align_corners=True, subpixel=True),
}


def aspect_ratio(input_shape: Sequence[int], codec: str) -> float:
    """Width / height of the image region that a crop of (H, W) pixels shows."""
    height, width = input_shape
    return CODECS[codec].length(width) / CODECS[codec].length(height)
