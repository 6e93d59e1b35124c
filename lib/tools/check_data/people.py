"""What lib.tools.check_data tells of the people in a data set: how they are labelled, how large they are, whose left
and right may be exchanged, what training makes of them."""

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

QUANTILES = (0, 5, 50, 95, 100)  # per cent
# Two limbs that cross are suspicious if exchanging the joints at one end makes them this much shorter together.
SWAP_RATIO = 0.5
SHEET_PEOPLE, SHEET_COLUMNS = 16, 2


def describe_people(people: Group, joint_names: tuple[str, ...]) -> str:
    """A table: how often each joint is labelled and in view, and the sizes of the boxes."""
    visibility = people.keypoints[..., 2]
    shares = [100 * (visibility >= least).mean(axis=0) for least in (1, 2)]
    lines = ['  joint             labelled  in view (% of the people)']
    lines += [f'  {name:16} {labelled:9.1f} {seen:8.1f}' for name, labelled, seen in zip(joint_names, *shares)]
    counts = (visibility > 0).sum(axis=1)
    rows = {'box width': people.boxes[:, 2], 'box height': people.boxes[:, 3], 'labelled joints': counts}
    lines.append(f'  {"least, 5 %, median, 95 %, most":32}')
    for name, values in rows.items():
        lines.append(f'  {name:16}' + ''.join(f'{value:9.0f}' for value in np.percentile(values, QUANTILES)))
    return '\n'.join(lines)


def report_swaps(people: Group, dataset: Description, report: Report) -> None:
    """Reports people two of whose limbs would be far shorter together if the joints at one end were exchanged.

    A limb of the left and its mirror limb of the right, such as knee to ankle: where one pair is labelled the wrong
    way round, both reach across the body. Crossed legs do so too: it is worth a look, no more.
    """
    positions, labelled = people.keypoints[..., :2], people.keypoints[..., 2] > 0
    limbs = {frozenset(limb) for limb in dataset.skeleton}
    for (a, b), (c, d) in combinations(dataset.flip_pairs, 2):
        if frozenset((a, d)) in limbs or frozenset((b, c)) in limbs:
            c, d = d, c
        if not {frozenset((a, c)), frozenset((b, d))} <= limbs:
            continue
        there = labelled[:, [a, b, c, d]].all(axis=1)
        as_labelled, exchanged = (
            sum(np.linalg.norm(positions[:, i] - positions[:, j], axis=1) for i, j in ends)
            for ends in (((a, c), (b, d)), ((a, d), (b, c)))
        )
        for i in np.flatnonzero(there & (exchanged < SWAP_RATIO * as_labelled)).tolist():
            one, other = (' and '.join(dataset.joint_names[joint] for joint in pair) for pair in ((a, b), (c, d)))
            text = f'exchanging {one}, or {other}, would shorten the limbs between them'
            report(Issue.SWAP, f'{people.rows.label(i)}: {text} from {as_labelled[i]:.0f} to {exchanged[i]:.0f} pixels')


def draw_sheet(cfg: EasyDict, file: Path) -> None:
    """Writes a picture of people to train on, evenly spaced in the data set: each plain, then augmented twice."""
    samples = train_samples(cfg)
    count = min(SHEET_PEOPLE, len(samples))
    chosen = np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()
    panels = [_panel(samples, index, dataset_of(cfg)) for index in chosen]
    if not cv2.imwrite(str(file), contact_sheet(panels, SHEET_COLUMNS)):
        raise InputError(f'--sheet {file} cannot be written: name a file in a folder of yours')
    print(f'{file}: {count} people to train on, each plain and augmented twice')


def _panel(samples: TrainSamples, index: int, dataset: Description) -> np.ndarray:
    """A person's crop as it is, then as two iterations might see it."""
    plain = AugmentationSample(
        extension=np.zeros(2),
        half_body=False,
        prefer_upper=False,
        half_body_extension=np.zeros(2),
        scale_factor=1.25 / samples.augmentation.scale_shrink_ratio,  # some surroundings
        rotation=0.0,
        flip=False,
    )
    augmented = [
        sample_augmentation(np.random.default_rng([index, number]), samples.augmentation) for number in range(2)
    ]
    crops = []
    for sampled in (plain, *augmented):
        sample = samples.sample(index, sampled)
        keypoints = sample['keypoints']
        draw_skeleton(sample['image'], keypoints[:, :2], keypoints[:, 2] > 0, dataset.skeleton, dataset.joint_names)
        crops.append(np.pad(sample['image'], [(0, 0), (0, 2), (0, 0)], constant_values=255))
    return np.hstack([*crops, np.full((crops[0].shape[0], 8, 3), 255, np.uint8)])
