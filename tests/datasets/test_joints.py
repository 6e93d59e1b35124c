"""Crops, joints and half bodies against the published code's: on real images, and on made-up people anywhere."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation

from cvpack.files import read_json
from lib.datasets import joints as joints_module
from lib.datasets.description import COCO, MPII
from lib.datasets.joints import TestSamples, TrainSamples
from lib.datasets.records import Records, pack_paths
from lib.loader import reader_of, train_samples
from lib.utils.heatmap import encode
from lib.utils.pixels import jitter_colors
from lib.utils.transforms import (
    crop_matrix,
    fit,
    half_body,
    mirror_matrix,
    mirror_permutation,
    sample_augmentation,
)
from tests.support.annotations import write_json
from tests.support.joints import UNTOUCHED, plain_sample
from tests.support.settings import load_config

EXPERIMENTS = {'coco': 'mspn.2xstg.coco', 'mpii': 'mspn.2xstg.mpii'}
DATASETS = {17: COCO, 16: MPII}


def config_on(shared, name: str):
    cfg = load_config(EXPERIMENTS[name])
    cfg.DATASET.ROOT = str(shared / 'data' / f'{name}_mini')
    return cfg


def drawn_samples(synthetic_coco) -> TrainSamples:
    cfg = load_config(EXPERIMENTS['coco'])
    cfg.DATASET.ROOT = str(synthetic_coco)
    return train_samples(cfg)


def assert_same_image(image: np.ndarray, expected: np.ndarray) -> None:
    """Versions of OpenCV differ by a grey level or two; 4 interpolates more coarsely than 5, which made them."""
    levels = 2 if int(cv2.__version__.split('.')[0]) >= 5 else 5
    difference = np.abs(image.astype(int) - expected)
    assert (difference <= levels).mean() >= 0.999, f'{(difference > levels).mean():.4%} of the pixels differ'


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_test_crops_are_the_published_ones(shared, shared_golden, name):
    cfg = config_on(shared, name)
    expected = np.load(shared_golden / f'crops.val.{name}.npz')
    records = reader_of(cfg).test_set('val', gt_boxes=False).records
    samples = TestSamples(records, (cfg.TEST.X_EXTENSION, cfg.TEST.Y_EXTENSION), cfg.INPUT_SHAPE)
    assert len(samples) == len(expected['image'])
    for i in range(len(samples)):
        sample = samples[i]
        np.testing.assert_allclose(records.center[i], expected['raw_center'][i], rtol=1e-6)
        np.testing.assert_allclose(records.scale[i], expected['raw_scale'][i], rtol=1e-6)
        np.testing.assert_allclose(sample['center'], expected['center'][i], rtol=1e-6)
        np.testing.assert_allclose(sample['scale'], expected['scale'][i], rtol=1e-6)
        assert_same_image(sample['image'], expected['image'][i])


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_training_crops_are_the_published_ones(shared, shared_golden, name):
    """Under the recorded augmentations: rotation, mirroring, scale; visibility and targets too."""
    cfg = config_on(shared, name)
    expected = np.load(shared_golden / f'crops.train.{name}.npz')
    samples = train_samples(cfg)
    assert len(samples) == len(expected['image'])
    assert expected['flip'].any() and (expected['rotation'] != 0).any()
    for i in range(len(samples)):
        extension = np.array([expected['x_extension'][i], expected['y_extension'][i]])
        sampled = plain_sample(
            extension=extension if cfg.DATASET.TRAIN.RANDOM_EXTENSION else np.ones(2),
            scale_factor=expected['scale_factor'][i],
            rotation=expected['rotation'][i],
            flip=expected['flip'][i],
        )
        sample = samples.sample(i, sampled)
        assert_same_image(sample['image'], expected['image'][i])
        joints, visibility = torch.from_numpy(sample['keypoints']).split([2, 1], dim=1)
        np.testing.assert_array_equal(visibility, expected['valid'][i])
        labels = encode(
            joints[None],
            visibility[None],
            cfg.INPUT_SHAPE,
            cfg.OUTPUT_SHAPE,
            cfg.DATASET.TRAIN.GAUSSIAN_KERNELS,
        )[0]
        np.testing.assert_allclose(labels, expected['labels'][i], atol=1e-3)


def test_geometry_is_the_published_one(golden, monkeypatch):
    """Matrices and moved joints of 240 made-up people: rotated, mirrored, at the borders, of three shapes of input."""
    data = np.load(golden / 'geometry.npz')
    matrices = []
    monkeypatch.setattr(joints_module, 'crop', lambda image, matrix, shape: matrices.append(matrix))
    for case, matrix, joints, moved in zip(data['cases'], data['matrices'], data['joints'], data['moved']):
        k, height, width, image_width, image_height = case[:5].astype(int).tolist()
        center, scale, rotation, flip = np.float32(case[None, 5:7]), np.float32(case[None, 7:9]), case[9], case[10] > 0
        image = np.broadcast_to(np.uint8(0), (image_height, image_width, 3))
        monkeypatch.setattr(joints_module, 'read_image', lambda path, image=image: image)
        joints, moved, dataset = joints[:k], moved[:k], DATASETS[k]
        records = Records(
            Path(), pack_paths(['x.jpg']), center, scale, joints=joints[None, :, :2], visibility=joints[None, :, 2]
        )
        records.integer = np.array([dataset is COCO])
        samples = TrainSamples(records, UNTOUCHED, dataset.flip_pairs, (), (height, width), seed=0)
        keypoints = samples.sample(0, plain_sample(rotation=rotation, flip=flip))['keypoints']
        expected = np.vstack([matrix @ mirror_matrix(image_width) if flip else matrix, [0, 0, 1]])
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
        # Theirs is computed from points in float32, so they are compared where the crop is.
        np.testing.assert_allclose(matrices.pop() @ np.linalg.inv(expected) @ corners, corners[:2], atol=1e-3)
        np.testing.assert_array_equal(keypoints[:, 2], moved[:, 2])
        seen = moved[:, 2] > 0
        np.testing.assert_allclose(keypoints[seen], moved[seen], atol=1e-3)
    assert (data['cases'][:, 10] > 0).any() and {17, 16} == set(data['cases'][:, 0])


def test_half_bodies_are_the_published_ones(shared, shared_golden):
    cfg = config_on(shared, 'coco')
    records = train_samples(cfg).records
    growth = np.array([cfg.DATASET.TRAIN.X_EXTENSION_HALF_BODY, cfg.DATASET.TRAIN.Y_EXTENSION_HALF_BODY])
    cases = read_json(shared_golden / 'half_body.coco.json')
    assert len(cases) == 2 * len(records)
    for case in cases:
        i = case['index']
        result = half_body(
            records.joints[i],
            records.visibility[i],
            COCO.upper_body_ids,
            case['upper'],
            np.array(case['rand']) * growth,
            192 / 256,
        )
        if case['center'] is None:
            assert result is None
        else:
            np.testing.assert_allclose(result[0], case['center'], rtol=1e-6)
            np.testing.assert_allclose(result[1], case['scale'], rtol=1e-6)


def test_half_body_leaves_few_joints_alone():
    joints, visibility = np.random.rand(17, 2) * 100, np.zeros(17)
    visibility[:2] = 2
    assert half_body(joints, visibility, COCO.upper_body_ids, True, np.zeros(2), 0.75) is None
    points = np.full((17, 2), 50.0)  # an annotator's placeholder, without an extent
    assert half_body(points, np.ones(17), COCO.upper_body_ids, True, np.zeros(2), 0.75) is None


def test_half_body_by_hand():
    """The box of the visible joints of a half, grown by the shares, as wide as the crop's shape asks."""
    joints, visibility = np.zeros((17, 2)), np.zeros(17)
    joints[:4], visibility[:4] = [[10, 20], [110, 20], [10, 80], [60, 220]], [2, 1, 2, 2]
    joints[13:], visibility[13:] = [[0, 300], [40, 300], [0, 310], [40, 340]], 2
    upper, lower = (
        half_body(joints, visibility, COCO.upper_body_ids, prefer, np.array([0.2, 0.1]), 0.75)
        for prefer in (True, False)
    )
    np.testing.assert_allclose(upper, [[60, 120], [220 * 0.75 / 200, 220 / 200]], rtol=1e-6)  # 200 high, and a tenth
    np.testing.assert_allclose(lower, [[20, 320], [48 / 200, 48 / 0.75 / 200]], rtol=1e-6)  # 40 wide, and a fifth
    visibility[13] = 0  # three are too few to be preferred
    again = half_body(joints, visibility, COCO.upper_body_ids, False, np.array([0.2, 0.1]), 0.75)
    np.testing.assert_array_equal(again, upper)


def test_half_body_needs_more_joints_than_the_config_says(synthetic_coco):
    """Only people with more than NUM_KEYPOINTS_HALF_BODY visible joints are cropped to a half."""
    samples = drawn_samples(synthetic_coco)
    whole = samples.sample(0, plain_sample())
    half = samples.sample(0, plain_sample(half_body=True))
    assert (whole['image'] != half['image']).any()
    samples.records.visibility[0, 3:] = 0
    few_whole = samples.sample(0, plain_sample())
    few_half = samples.sample(0, plain_sample(half_body=True))
    np.testing.assert_array_equal(few_whole['image'], few_half['image'])


def test_joints_are_truncated_as_their_record_has_them(tmp_path):
    """The published code keeps a person's joints as numpy reads them: integers stay integers in the crop; one number
    with a decimal point, be it a visibility, and none of that person's is truncated."""
    joints = [10, 20, 2] * 17
    people = [joints, [10.0, *joints[1:]], [*joints[:-1], 2.0], joints]
    annotations = [
        {'image_id': 1, 'bbox': [5, 5, 30, 40], 'num_keypoints': 17, 'keypoints': keypoints} for keypoints in people
    ]
    write_json(tmp_path / COCO.train_json, {'images': [{'id': 1, 'file_name': 'a.png'}], 'annotations': annotations})
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), np.zeros((60, 50, 3), np.uint8))
    cfg = load_config('mspn.2xstg.coco')
    cfg.DATASET.ROOT = str(tmp_path)
    for codec, expected in (('standard', [True, False, False, True]), ('udp', [False] * 4)):
        cfg.CODEC = codec
        samples = train_samples(cfg)
        moved = [samples.sample(i, plain_sample(scale_factor=0.9))['keypoints'][:, :2] for i in range(4)]
        assert [bool((xy == np.trunc(xy)).all()) for xy in moved] == expected
        np.testing.assert_array_equal(np.trunc(moved[1]), np.trunc(moved[0]))


def test_crop_matrix_geometry():
    center, scale = np.array([100.0, 50]), np.array([0.96, 1.28])
    matrix = crop_matrix(center, scale, 30.0, (256, 192))
    np.testing.assert_allclose(matrix @ [100, 50, 1], [96, 128])
    # 200 * 0.96 pixels wide -> 192: no zoom; the image's direction of 30 degrees becomes the crop's x axis.
    direction = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    np.testing.assert_allclose(matrix @ [*(center + 10 * direction), 1], [106, 128])


def test_fit_covers_the_box():
    for scale in ([1.0, 1.0], [1.0, 3.0], [0.5, 0.1]):
        fitted = fit(np.array(scale), 0.75)
        assert (fitted >= scale).all() and fitted[0] / fitted[1] == pytest.approx(0.75)


def test_mirror_permutation_is_its_own_inverse():
    for dataset in (COCO, MPII):
        permutation = mirror_permutation(len(dataset.joint_names), dataset.flip_pairs)
        names = [dataset.joint_names[i] for i in permutation]
        swapped = {'left': 'right', 'right': 'left'}
        expected = [
            '_'.join([swapped[side], *rest]) if side in swapped else '_'.join([side, *rest])
            for side, *rest in (name.split('_') for name in dataset.joint_names)
        ]
        assert names == expected


def test_draws_have_the_stated_distributions(synthetic_coco):
    augmentation = drawn_samples(synthetic_coco).augmentation
    rng = np.random.default_rng(0)
    sampled = [sample_augmentation(rng, augmentation) for _ in range(4000)]
    rotated = np.array([d.rotation for d in sampled if d.rotation])
    assert len(rotated) / 4000 == pytest.approx(0.5, abs=0.03)
    assert -45 <= rotated.min() < -43 and 43 < rotated.max() <= 45
    factors = np.array([d.scale_factor for d in sampled])
    assert 0.75 <= factors.min() < 0.76 and 1.24 < factors.max() <= 1.25
    for name, share in (('half_body', 0.3), ('prefer_upper', 0.6915), ('flip', 0.5)):
        assert np.mean([getattr(d, name) for d in sampled]) == pytest.approx(share, abs=0.03), name


def test_colors_are_drawn_in_their_ranges_and_change_no_other_number(synthetic_coco):
    augmentation = drawn_samples(synthetic_coco).augmentation
    jittered = replace(augmentation, brightness=0.4, contrast=0.3, saturation=0.2)
    plain = [sample_augmentation(np.random.default_rng(i), augmentation) for i in range(500)]
    colored = [sample_augmentation(np.random.default_rng(i), jittered) for i in range(500)]
    assert all((d.color == 1).all() for d in plain)
    factors = np.array([d.color for d in colored])
    np.testing.assert_allclose(factors.min(axis=0), [0.6, 0.7, 0.8], atol=0.01)
    np.testing.assert_allclose(factors.max(axis=0), [1.4, 1.3, 1.2], atol=0.01)
    for a, b in zip(plain, colored):
        assert (a.scale_factor, a.rotation, a.flip) == (b.scale_factor, b.rotation, b.flip)


@pytest.mark.parametrize('color', [(1.3, 1, 1), (1, 0.7, 1), (1, 1, 1.4), (0.8, 0.9, 0), (0.9, 1.1, 0.7)])
def test_colors_are_jittered_as_in_torchvision(color):
    """But in one step: rounded and clipped once. These colours are never clipped."""
    image = np.random.default_rng(0).integers(90, 150, (64, 48, 3), np.uint8)
    jittered = jitter_colors(image, np.array(color))
    expected = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    for adjust, factor in zip((adjust_saturation, adjust_contrast, adjust_brightness), reversed(color)):
        expected = adjust(expected, factor)
    np.testing.assert_allclose(jittered, expected.permute(1, 2, 0).numpy()[..., ::-1], atol=3.01)
    assert abs(jittered.mean() - expected.double().mean().item()) < 1.5  # torchvision truncates, three times


def test_a_training_crop_has_the_sampled_colors(synthetic_coco):
    samples = drawn_samples(synthetic_coco)
    plain = samples.sample(0, plain_sample())
    grey = samples.sample(0, plain_sample(color=np.array([1.0, 1.0, 0.0])))
    np.testing.assert_array_equal(grey['keypoints'], plain['keypoints'])
    assert np.ptp(plain['image'].astype(int), axis=2).max() > 50 and np.ptp(grey['image'], axis=2).max() == 0


def test_a_sample_follows_from_its_position(synthetic_coco):
    """Its augmentation is a function of seed and position: not of the worker, nor of what came before."""
    samples = drawn_samples(synthetic_coco)
    first, again, other = samples[3, 70], samples[3, 70], samples[3, 71]
    np.testing.assert_array_equal(first['image'], again['image'])
    assert (first['image'] != other['image']).any()
