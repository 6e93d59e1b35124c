"""check_data's view of the people: how joints are labelled, box sizes, swapped sides, and what training sees."""

import math
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from easydict import EasyDict

from cvpack.errors import InputError
from lib.datasets.checks import Issue, Report
from lib.datasets.description import Description
from lib.datasets.joints import TrainSamples
from lib.loader import dataset_of, train_samples
from lib.tools.check_data.records import Group
from lib.utils.transforms import AugmentationSample, sample_augmentation
from lib.utils.visualize import contact_sheet, draw_skeleton

PERCENTILES = (0, 5, 50, 95, 100)
# Two limbs are suspicious if swapping the joints at one end makes their total length this much shorter.
SWAP_RATIO = 0.5
SHEET_PEOPLE, SHEET_COLUMNS = 16, 2
MIN_CROP_HEIGHT = 256  # in the sheet


def describe_people(people: Group, joint_names: tuple[str, ...]) -> str:
    """A table of how often each joint is labelled and visible, and of box sizes."""
    visibility = people.keypoints[..., 2]
    labelled, visible = (100 * (visibility >= minimum).mean(axis=0) for minimum in (1, 2))
    rows = {'box width': people.boxes[:, 2], 'box height': people.boxes[:, 3]}
    rows['labelled joints'] = (visibility > 0).sum(axis=1)
    return '\n'.join(
        [
            '  joint             labelled  visible (% of people)',
            *(f'  {name:16} {a:9.1f} {b:8.1f}' for name, a, b in zip(joint_names, labelled, visible)),
            f'  {"min, 5 %, median, 95 %, max":32}',
            *(
                f'  {name:16}' + ''.join(f'{value:9.0f}' for value in np.percentile(values, PERCENTILES))
                for name, values in rows.items()
            ),
        ]
    )


def report_swaps(people: Group, dataset: Description, report: Report) -> None:
    """Reports people two of whose limbs would be far shorter if the joints at one end were swapped.

    Compares a left limb, such as knee to ankle, with the right one: where one pair of joints is labelled the wrong way
    round, both limbs cross the body. So do crossed legs, which makes this worth a look and no more.
    """
    positions, labelled = people.keypoints[..., :2], people.keypoints[..., 2] > 0
    limbs = {frozenset(limb) for limb in dataset.skeleton}

    def length(i: int, j: int) -> np.ndarray:
        return np.linalg.norm(positions[:, i] - positions[:, j], axis=1)

    for (a, b), (c, d) in combinations(dataset.flip_pairs, 2):
        if frozenset((a, d)) in limbs or frozenset((b, c)) in limbs:
            c, d = d, c
        if not {frozenset((a, c)), frozenset((b, d))} <= limbs:
            continue
        as_labelled, swapped = length(a, c) + length(b, d), length(a, d) + length(b, c)
        all_labelled = labelled[:, [a, b, c, d]].all(axis=1)
        for i in np.flatnonzero(all_labelled & (swapped < SWAP_RATIO * as_labelled)).tolist():
            one, other = (' and '.join(dataset.joint_names[joint] for joint in pair) for pair in ((a, b), (c, d)))
            text = f'swapping {one}, or {other}, would shorten the limbs between them'
            report(Issue.SWAP, f'{people.rows.label(i)}: {text} from {as_labelled[i]:.0f} to {swapped[i]:.0f} pixels')


def draw_sheet(cfg: EasyDict, file: Path) -> None:
    """Draws training samples, evenly spaced in the data set, each plain and augmented twice. Raises InputError."""
    samples, dataset = train_samples(cfg), dataset_of(cfg)
    count = min(SHEET_PEOPLE, len(samples))
    indices = np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()
    panels = [_panel(samples, index, dataset) for index in indices]
    if not cv2.imwrite(str(file), contact_sheet(panels, SHEET_COLUMNS)):
        raise InputError(f'--sheet {file} cannot be written: name a file in a writable folder')
    print(f'{file}: {count} training samples, each plain and augmented twice')


def _panel(samples: TrainSamples, index: int, dataset: Description) -> np.ndarray:
    """One person's crop without augmentation and with two different ones."""
    plain = AugmentationSample(
        extension=np.zeros(2),
        half_body=False,
        prefer_upper=False,
        half_body_extension=np.zeros(2),
        scale_factor=1.25 / samples.augmentation.scale_shrink_ratio,  # shows some surroundings
        rotation=0.0,
        flip=False,
    )
    augmented = [
        sample_augmentation(np.random.default_rng([index, number]), samples.augmentation) for number in range(2)
    ]
    crops = []
    for augmentation in (plain, *augmented):
        sample = samples.sample(index, augmentation)
        keypoints, zoom = sample['keypoints'], math.ceil(MIN_CROP_HEIGHT / len(sample['image']))
        crop = cv2.resize(sample['image'], None, fx=zoom, fy=zoom)
        draw_skeleton(crop, keypoints[:, :2] * zoom, keypoints[:, 2] > 0, dataset.skeleton, dataset.joint_names)
        crops.append(np.pad(crop, [(0, 0), (0, 2), (0, 0)], constant_values=255))
    return np.pad(np.hstack(crops), [(0, 0), (0, 8), (0, 0)], constant_values=255)
