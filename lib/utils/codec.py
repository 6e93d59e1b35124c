"""The three codecs: how a joint in a crop becomes a place on a map, and that place a joint again.

Pixels and cells are points, at whole numbers: the first at 0, the last of W pixels at W - 1. Mirroring an array is
then exact, x -> W - 1 - x. A codec says what is made of that, in all places at once, so that none can be mixed.

standard  The published code. W pixels measure W; an x of the crop belongs to cell trunc(x w / W), and cell c goes
          back to (c + 1/2) W / w: 4 c + 2. Its errors, with 4 pixels to a cell:
          - encode cuts a joint's place to a whole cell: of the target, nothing finer than 4 pixels can be read, and
            decode's step of a quarter cell towards the runner-up is the same for all places in a cell;
          - x becomes x / 4 - 1/2 on average, of which 4 c + 2 is the inverse. But mirrored, encoded and mirrored
            back it becomes 47 - ((191 - x) / 4 - 1/2) = x / 4 - 1/4. The two maps of the flip test are a quarter of
            a cell apart, and their mean puts every joint half a crop pixel too far to the right;
          - crop_matrix takes the box's centre to W / 2, but an array is mirrored about (W - 1) / 2: the mirrored
            crop is the mirrored person's moved by a pixel. decode undoes the matrix, so no error comes of it alone.
dark      Distribution-aware coordinates (Zhang et al., CVPR 2020), the same lengths. Targets are Gaussians about the
          joint's very place, x / 4 - 1/2, and decode takes a second-order Taylor step on the log of the smoothed
          map. Decoding alone suits networks of the standard codec too. The flip test's half pixel remains.
udp       Unbiased data processing (Huang et al., CVPR 2020). W pixels measure W - 1, from the first one's centre to
          the last one's: the box's sides meet the centres of the crop's outermost pixels, which are those of the
          map's outermost cells, x -> x (w - 1) / (W - 1). Then mirroring keeps every place: no shift is needed.
          Targets and Taylor step are dark's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cvpack.errors import InputError


@dataclass(frozen=True)
class Codec:
    """What a codec consists of.

    between_centres: lengths go from the centre of the first pixel to that of the last
    sub_cell:        targets are centred between cells, decoding reads between cells
    """

    between_centres: bool
    subpixel: bool

    def length(self, count: int) -> int:
        """What so many pixels, or cells, in a row measure."""
        return count - 1 if self.between_centres else count

    @property
    def first_cell(self) -> float:
        """Where the first cell lies, in cells from where the map's length begins."""
        return 0.0 if self.between_centres else 0.5

    def to_cells(self, x: torch.Tensor, pixels: int, cells: int) -> torch.Tensor:
        """Places on one axis of a crop -> on that axis of the map; whole numbers unless sub_cell."""
        # Numbers, not tensors: making one on a GPU would wait for all that was launched before.
        x = x * (self.length(cells) / self.length(pixels))
        return x - self.first_cell if self.subpixel else x.trunc()

    def to_crop(self, cells: torch.Tensor, pixels: int, count: int) -> torch.Tensor:
        """Places on one axis of a map of `count` cells -> on that axis of the crop, as a share of its length."""
        length = self.length(pixels)
        pitch = length / self.length(count)
        return (cells * pitch + self.first_cell * pitch) / length


CODECS = {
    'standard': Codec(between_centres=False, subpixel=False),
    'dark': Codec(between_centres=False, subpixel=True),
    'udp': Codec(between_centres=True, subpixel=True),
}


def aspect_ratio(input_shape: Sequence[int], codec: str) -> float:
    """Width / height of what a crop of (H, W) pixels shows."""
    height, width = input_shape
    return CODECS[codec].length(width) / CODECS[codec].length(height)


def trained_codec(checkpoint: dict) -> str:
    """The codec that a checkpoint's network was trained in; files that do not say so are the published code's kind."""
    config = checkpoint.get('config')
    return config.get('CODEC', 'standard') if isinstance(config, dict) else 'standard'


def refuse_mixed_lengths(checkpoint: dict, codec: str, file: Path) -> None:
    """Raises InputError if the network was trained in lengths other than the codec's: all joints would be off."""
    trained = trained_codec(checkpoint)
    if trained not in tuple(CODECS) or CODECS[trained].between_centres != CODECS[codec].between_centres:
        raise InputError(
            f'{file} was trained with CODEC {trained!r}, whose lengths do not mix with those of {codec!r}: '
            f'take the experiment that it is of, or --set CODEC={trained}'
        )
