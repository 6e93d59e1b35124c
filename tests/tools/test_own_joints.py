"""prepare own: flip pairs, the upper half and sigmas, and the settings that follow from the people."""

from pathlib import Path

import numpy as np
import pytest

from lib.config import coco_defaults
from lib.datasets.description import COCO
from lib.tools.prepare.own.export import Export, Instance, Joints
from lib.tools.prepare.own.joints import pairs_by_name, repeated_annotations, sigmas_by_name, upper_half
from lib.tools.prepare.own.settings import input_shape, kernels, settings_for


@pytest.mark.parametrize(
    'names',
    [
        ('left_x', 'right_x', 'nose'),
        ('x_left', 'x_right', 'nose'),
        ('LHip', 'RHip', 'Nose'),
        ('L_Eye', 'R_Eye', 'Nose'),
        ('Eye_Left', 'Eye_Right', 'Nose'),
        ('l.hip', 'r.hip', 'nose'),
        ('left front paw', 'right front paw', 'tail'),
        ('front_left_paw', 'front_right_paw', 'tail'),
    ],
)
def test_sides_in_every_spelling(names):
    assert pairs_by_name(names) == (((0, 1),), [])


def test_joints_without_a_mirror():
    assert pairs_by_name(['left_ear', 'right_eye', 'left_eye', 'tail']) == (((1, 2),), ['left_ear'])


def export(keypoints: np.ndarray, boxes: np.ndarray, images: list[int]) -> Export:
    """keypoints: (n, K, 3)"""
    joints = Joints(tuple(f'j{i}' for i in range(keypoints.shape[1])))
    instances = [
        Instance(image, points, False, box, float(box[2:].prod()), '')
        for image, points, box in zip(images, keypoints.astype(float), boxes.astype(float))
    ]
    return Export(Path('export.json'), [], instances, joints, ('animal',))


def people(heights: np.ndarray, count: int = 40, spread: float = 3) -> Export:
    """Boxes of 100 x 100 pixels with joints at these heights, +- spread."""
    rng = np.random.default_rng(0)
    y = heights + rng.normal(0, spread, (count, len(heights)))
    keypoints = np.stack([rng.uniform(0, 100, y.shape), y, np.full(y.shape, 2)], axis=-1)
    return export(keypoints, np.tile([0, 0, 100, 100], (count, 1)), [*range(count)])


def test_upper_half_of_the_people_themselves():
    heights = np.array([5, 10, 20, 30, 45, 48, 70, 80, 85, 90, 95])
    assert upper_half(people(heights), ()) == ((0, 1, 2, 3, 4, 5), '')
    assert upper_half(people(heights), ((5, 6),))[0] == (0, 1, 2, 3, 4)  # a pair is on one side
    for other in (people(heights, spread=60), people(heights, count=5), people(heights[:7])):
        assert upper_half(other, ())[1]


def test_sigmas():
    sigmas, others = sigmas_by_name(('Nose', 'LHip', 'ear_right', 'tail'))
    assert sigmas == (0.026, 0.107, 0.035, 0.067) and others == ['tail']
    assert sigmas_by_name(COCO.joint_names)[1] == []
    assert sigmas_by_name(('lhip', 'eyer', 'REar'))[0] == (0.107, 0.025, 0.035)


def test_sigmas_of_repeated_annotations():
    """Of 2,000 people that two annotated with this spread, in units of the square root of the area."""
    rng, spread = np.random.default_rng(0), np.array([0.02, 0.05, 0.1])
    truth = rng.uniform(20, 80, (2000, 3, 2))
    both = [truth + rng.normal(0, 100 * spread[:, None] / np.sqrt(2), truth.shape) for _ in range(2)]
    keypoints = np.concatenate([np.pad(points, [(0, 0), (0, 0), (0, 1)], constant_values=2) for points in both])
    squares, counts, repeated = repeated_annotations(
        export(keypoints, np.tile([0, 0, 100, 100], (4000, 1)), [*range(2000)] * 2)
    )
    assert repeated.tolist() == [False] * 2000 + [True] * 2000 and counts.tolist() == [2000] * 3
    np.testing.assert_allclose(np.sqrt(squares / counts), spread, rtol=0.05)


def test_input_and_kernels():
    assert input_shape(0.75, 256 * 192) == (256, 192) and input_shape(0.75, 128 * 96) == (128, 96)
    height, width = input_shape(3.0, 256 * 192)
    assert width > 2 * height and height % 32 == width % 32 == 0
    published = coco_defaults().DATASET.TRAIN.GAUSSIAN_KERNELS
    assert list(kernels((256, 192))) == published and list(kernels((128, 96))) == [9, 7, 5, 5, 3]
    assert list(kernels((384, 288))) == [23, 17, 15, 11, 9]


@pytest.mark.parametrize(
    'people, device, expected', [(149_813, 'cuda', 768_000), (3, 'cuda', 500), (9000, 'cpu', 1000)]
)
def test_length_by_epochs(people, device, expected):
    """The published run's epochs: 96,000 iterations on 8 GPUs."""
    settings = settings_for(people, 0.75, 5, device)
    assert abs(settings.max_iter - expected) <= 1 and settings.topk == 5
    assert 0 < settings.warmup_iters < settings.checkpoint_period <= settings.max_iter
