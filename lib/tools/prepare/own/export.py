"""What an export of a labelling tool holds, whatever its format, and the list of what was repaired in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.datasets.description import Pairs

Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class ListedImage:
    """An image that an export lists.

    name:  as the export gives it, later the path below the folder of the images
    where: it is listed, for messages
    told:  its size by the export; None if that does not tell
    id:    the export's own
    size:  of the upright image, once it was read
    """

    name: str
    where: str
    told: Size | None = None
    id: Any = None
    size: Size = (0, 0)


@dataclass
class Instance:
    """A labelled person, animal or thing.

    image:     position of its image in the export's list
    keypoints: (K, 3) float64: x, y in pixels; visibility 0, 1 or 2; all 0 where not labelled
    integer:   whether all coordinates are integers in the export
    box:       (4,) float64: x, y, width, height in pixels; NaN if the export has none
    area:      in pixels; NaN if the export has none
    where:     it is annotated, for messages
    id:        the export's own
    counted:   its num_keypoints; None if the export does not tell
    """

    image: int
    keypoints: np.ndarray
    integer: bool
    box: np.ndarray
    area: float
    where: str
    id: Any = None
    counted: Any = None

    @property
    def labelled(self) -> np.ndarray:
        """(K,) bool"""
        return self.keypoints[:, 2] > 0


@dataclass(frozen=True)
class Joints:
    """The joints of an export.

    names:      K
    skeleton:   limbs, pairs of joints from 0
    flip_pairs: None if the export does not tell
    """

    names: tuple[str, ...]
    skeleton: Pairs = ()
    flip_pairs: Pairs | None = None


@dataclass
class Export:
    """A split, or all, of an exported data set.

    categories: names of those that are trained, as one
    is_ratios:  coordinates are still ratios of the image
    """

    path: Path
    images: list[ListedImage]
    instances: list[Instance]
    joints: Joints
    categories: tuple[str, ...]
    is_ratios: bool = False

    @property
    def keypoints(self) -> np.ndarray:
        """(n, K, 3) of all instances."""
        return np.array([instance.keypoints for instance in self.instances]).reshape(-1, len(self.joints.names), 3)

    @property
    def boxes(self) -> np.ndarray:
        """(n, 4) of all instances."""
        return np.array([instance.box for instance in self.instances]).reshape(-1, 4)


@dataclass
class Repairs:
    """Counts what was changed or left out, and keeps the first example of each kind."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def tell(self, what: str, where: str, count: int = 1) -> None:
        """what: a kind of repair, which follows its count in the report; where: the example"""
        before, example = self.found.get(what, (0, where))
        self.found[what] = before + count, example

    def lines(self) -> list[str]:
        """Two lines for every kind: its count and what it is; an example."""
        return [f'{count:>9,}  {what}\n{"":11}such as {where}' for what, (count, where) in self.found.items()]
