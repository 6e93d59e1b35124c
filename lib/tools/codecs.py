"""Measures what the way from joints to maps and back costs under each codec (lib/utils/codec.py).

    python -m lib.tools.codecs                  # 100 people, 256x192 crops, 64x48 maps

The joints are those of drawn people before they are rounded to whole pixels. Nothing is trained: the maps are those
that a network without error would predict. Where it is sure of a joint that is the finest target. Where it knows the
joint to 2 crop pixels only (standard deviation, each axis), it is the mean of the targets of all places that the
joint may have, since that has the least squared error; its peak moves between cells whatever the targets do.

Prints the mean distance from the truth, in image pixels and in cells, and how far to the right of it the joints lie
on average, in cells; with and without the flip test.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from tqdm import tqdm

from cvpack.errors import exits_cleanly
from lib.config import OUTPUT_STRIDE, coco_defaults
from lib.datasets.figures import draw_figure
from lib.tools.arguments import positive
from lib.utils import heatmap
from lib.utils.codec import CODECS, aspect_ratio
from lib.utils.transforms import PIXELS_PER_SCALE, crop_matrix, fit, mirror_permutation

HEIGHTS = 100, 400  # of a body, in image pixels
UNSURE = 2.0  # crop pixels
# What targets a network was trained on, what decodes it: the second pair is Taylor steps on published weights.
PAIRS = (('standard', 'standard'), ('standard', 'dark'), ('dark', 'dark'), ('udp', 'udp'))
COLUMNS = ('trained', 'decoded', 'flip', *('pixels', 'cells', 'to the right') * 2)


class People(NamedTuple):
    """Joints (N, K, 2) and box centres (N, 2) in image pixels, box sizes (N, 2) in units of 200 of them."""

    joints: np.ndarray
    centers: np.ndarray
    scales: np.ndarray


class Error(NamedTuple):
    """Means over all joints: the distance from the truth in image pixels, in cells; x less the true x in cells."""

    pixels: float
    cells: float
    to_the_right: float


def draw_people(count: int) -> People:
    """Drawn people of all sizes, seen from all sides, in the boxes that their annotations would have."""
    rng, people = np.random.default_rng(0), []
    for _ in range(count):
        figure = draw_figure(rng, yaw=rng.uniform(-180, 180))
        spheres = np.concatenate([part.spheres for part in figure.parts if part.is_body])
        low = (spheres[:, :2] - spheres[:, 3:]).min(axis=0)
        high = (spheres[:, :2] + spheres[:, 3:]).max(axis=0)
        height, place = rng.uniform(*HEIGHTS), rng.uniform(0, 400, 2)
        center, scale = (low + high) / 2 * height + place, (high - low) * height / PIXELS_PER_SCALE
        people.append((figure.joints * height + place, center, scale))
    return People(*map(np.array, zip(*people)))


def places_about(deviation: float) -> torch.Tensor:
    """(128, 2): places, in crop pixels, that stand for a normal distribution about 0 of this deviation on each axis."""
    # A Sobol sequence has every 128th once on each axis: targets that leap from cell to cell are averaged evenly.
    shares = torch.quasirandom.SobolEngine(2).draw(128) + 1 / 256
    return deviation * torch.special.ndtri(shares)


def predicted(cfg: EasyDict, joints: torch.Tensor, places: torch.Tensor, codec: str) -> torch.Tensor:
    """(N, K, h, w): the mean of the finest targets of joints (N, K, 2), in crop pixels, at all `places` about them."""
    visibility = torch.full((len(places), joints.shape[1], 1), 2.0)
    shapes = cfg.INPUT_SHAPE, [size // OUTPUT_STRIDE for size in cfg.INPUT_SHAPE]
    finest = cfg.DATASET.TRAIN.GAUSSIAN_KERNELS[-1:]
    persons = (heatmap.encode(person + places[:, None], visibility, *shapes, finest, codec) for person in joints)
    return torch.stack([targets[:, 0].mean(dim=0) for targets in persons])


def measure(people: People, trained: str, decoded: str, flip: bool, places: torch.Tensor) -> Error:
    """The error of the maps that a network trained under one codec predicts at best, decoded by another or the same.

    places: (n, 2) about a joint, in crop pixels, that the network holds for equally likely
    """
    cfg = coco_defaults()
    shape, permutation = cfg.INPUT_SHAPE, mirror_permutation(cfg.DATASET.KEYPOINT.NUM, cfg.DATASET.KEYPOINT.FLIP_PAIRS)
    extended = people.scales * [1 + cfg.TEST.X_EXTENSION, 1 + cfg.TEST.Y_EXTENSION]
    scales = np.array([fit(scale, aspect_ratio(shape, decoded)) for scale in extended])
    matrices = np.array([crop_matrix(*box, 0.0, shape, decoded) for box in zip(people.centers, scales)])
    in_crop = people.joints @ matrices[..., :2].swapaxes(1, 2) + matrices[:, None, :, 2]
    joints = torch.from_numpy(in_crop)
    maps = predicted(cfg, joints, places, trained)
    if flip:
        mirrored = torch.stack([shape[1] - 1 - joints[..., 0], joints[..., 1]], dim=-1)[:, permutation]
        of_mirrored = predicted(cfg, mirrored, places, trained)
        maps = (maps + heatmap.mirror(of_mirrored, torch.from_numpy(permutation))) / 2
    found, _ = heatmap.decode(
        maps,
        torch.from_numpy(people.centers),
        torch.from_numpy(scales),
        shape,
        cfg.TEST.GAUSSIAN_KERNEL,
        cfg.TEST.SHIFT_RATIOS,
        decoded,
    )
    error = found.numpy() - people.joints
    cell = scales[:, :1] * PIXELS_PER_SCALE / CODECS[decoded].length(maps.shape[3])  # in image pixels
    distance = np.linalg.norm(error, axis=2)
    return Error(distance.mean(), (distance / cell).mean(), (error[..., 0] / cell).mean())


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    parser = argparse.ArgumentParser(
        'python -m lib.tools.codecs', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--people', type=positive, default=100, metavar='N', help='to draw (default: 100)')
    args = parser.parse_args(arguments)
    people = draw_people(args.people)
    runs = [(*pair, flip) for flip in (False, True) for pair in PAIRS]
    rows = [COLUMNS]
    for run in tqdm(runs, desc='codecs', disable=None):
        errors = [*measure(people, *run, torch.zeros(1, 2)), *measure(people, *run, places_about(UNSURE))]
        rows.append((*run[:2], 'yes' if run[2] else 'no', *(f'{error:.3f}' for error in errors)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    groups = ('', 'sure of the joints', f'sure to {UNSURE:g} crop pixels')
    spans = (sum(widths[first : first + 3]) + 6 for first in (0, 3, 6))
    print(' | '.join(text.center(span) for text, span in zip(groups, spans)))
    for row in rows:
        print(' | '.join(text.rjust(width) for text, width in zip(row, widths)))


if __name__ == '__main__':
    main()
