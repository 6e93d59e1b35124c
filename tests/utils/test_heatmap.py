"""Targets and decoding, against the published code's numbers, OpenCV, and each other."""

import cv2
import numpy as np
import pytest
import torch

from lib.utils.heatmap import decode, encode, mirror

KERNELS = [15, 11, 9, 7, 5]
DATASETS = {'coco': ((256, 192), (64, 48)), 'mpii': ((256, 256), (64, 64))}


@pytest.mark.parametrize('name', DATASETS)
def test_targets_are_the_published_ones(golden, name):
    data = np.load(golden / f'targets.{name}.npz')
    joints, valid = torch.from_numpy(data['joints']), torch.from_numpy(data['valid'])
    targets = encode(joints, valid, *DATASETS[name], KERNELS)
    assert targets.dtype == torch.float32 and targets.is_contiguous()
    np.testing.assert_allclose(targets, data['labels'], atol=1e-3)


@pytest.mark.parametrize('name', DATASETS)
def test_decoding_is_the_published_one(golden, name):
    data = np.load(golden / f'decode.{name}.npz')
    heatmaps, center, scale = (torch.from_numpy(data[key]) for key in ('heatmaps', 'center', 'scale'))
    keypoints, scores = decode(heatmaps, center, scale, DATASETS[name][0], int(data['kernel']), data['shifts'].tolist())
    near = np.abs(keypoints.numpy() - data['keypoints']).max(axis=2) <= 0.01
    assert near.mean() >= 0.99
    assert (np.abs(scores.numpy() - data['scores']) <= 1e-4).mean() >= 0.99


@pytest.mark.parametrize('shape', [(5, 8), (8, 5), (48, 64), (84, 5)])
@pytest.mark.parametrize('kernel', [1, 3, 5, 7, 9, 15])
def test_a_target_is_a_cell_that_opencv_blurs(shape, kernel):
    """Also in the corners, where the border reflects, and of maps smaller than the kernel."""
    h, w = shape
    cells = [(0, 0), (w - 1, 1), (w // 2, h // 2), (1, h - 1)]
    joints = torch.tensor([[[4.0 * x, 4.0 * y] for x, y in cells]])
    targets = encode(joints, torch.ones(1, len(cells), 1), (4 * h, 4 * w), shape, [kernel, 5])
    assert targets.is_contiguous()
    for joint, (x, y) in enumerate(cells):
        expected = np.zeros(shape)
        expected[y, x] = 1
        expected = cv2.GaussianBlur(expected, (kernel, kernel), 0)
        np.testing.assert_allclose(targets[0, 0, joint], 255 * expected / expected.max(), atol=1e-4)


def test_targets_of_joints_that_are_not_there():
    """Unlabelled, left of, right of, above and below the map: empty. Just left of 0 is truncated onto the map."""
    joints = torch.tensor([[[50.0, 50], [-4, 50], [192, 50], [50, -4], [50, 256], [-3.9, 50]]])
    visibility = torch.tensor([0.0, 2, 2, 2, 2, 2]).view(1, 6, 1)
    targets = encode(joints, visibility, (256, 192), (64, 48), KERNELS)
    assert targets.amax(dim=(1, 3, 4)).tolist() == [[0, 0, 0, 0, 0, 255]]
    assert targets[0, 0, 5].argmax() == 12 * 48


def test_decoding_undoes_encoding():
    """A joint comes back to within the cell that the truncation left it in."""
    rng = np.random.default_rng(0)
    joints = torch.from_numpy(rng.uniform([8, 8], [184, 248], (16, 17, 2))).float()
    visibility = torch.full((16, 17, 1), 2.0)
    heatmaps = encode(joints, visibility, (256, 192), (64, 48), KERNELS)[:, 4]
    center = torch.tensor([96.0, 128]).expand(16, 2)
    scale = torch.tensor([192.0, 256]).expand(16, 2) / 200
    keypoints, scores = decode(heatmaps, center, scale, (256, 192), 5, [0.25])
    assert (keypoints - joints).abs().max() <= 4
    assert (keypoints - joints).mean().abs() < 0.6
    assert scores.min() > 1.2


def decode_by_the_book(heatmap: np.ndarray, kernel: int, shifts: list[float]) -> np.ndarray:
    """(x, y) in cells of one map (h, w), step by step as the specification has it."""
    h, w = heatmap.shape
    padded = cv2.GaussianBlur(np.pad(heatmap, 10), (kernel, kernel), 0)

    def next_maximum() -> np.ndarray:
        y, x = np.unravel_index(padded.argmax(), padded.shape)
        padded[y, x] = 0
        return np.array([x - 10.0, y - 10])

    xy = next_maximum()
    for shift in shifts:
        step = next_maximum() - xy
        if np.linalg.norm(step) > 1e-3:
            xy = xy + shift * step / np.linalg.norm(step)
    return np.clip(xy, 0, [w - 1, h - 1])


@pytest.mark.parametrize('kernel', [1, 5, 9, 19])
def test_decoding_is_that_by_the_book(kernel):
    """Noise of both signs, a peak on a border or in a corner, a deep hole around it, nothing above zero."""
    maps = np.random.default_rng(kernel).normal(size=(2, 8, 16, 12)).astype(np.float32)
    maps[0, 0], maps[0, 1], maps[0, 2] = -1, 0, -np.abs(maps[0, 2])
    maps[:, 3] -= 100
    maps[0, 3, 7, 5], maps[1, 3, 0, 11] = 200, 1e5
    maps[0, 4, 15, 0], maps[0, 5, 8, 11] = 50, 50
    shifts = [0.25, 0.1]
    expected = np.array([[decode_by_the_book(one, kernel, shifts) for one in sample] for sample in maps])
    unit = torch.full((2, 2), 1 / 200) * torch.tensor([12, 16])
    keypoints, _ = decode(torch.from_numpy(maps), unit * 100, unit, (64, 48), kernel, shifts)
    np.testing.assert_allclose(keypoints.numpy() - 0.5, expected, atol=1e-4)


def test_a_batch_is_its_samples():
    maps = torch.rand(5, 3, 16, 12)
    center, scale = torch.rand(5, 2) * 100, torch.rand(5, 2) + 1
    together = decode(maps, center, scale, (64, 48), 5, [0.25, 0.1])
    for i in range(5):
        alone = decode(maps[i : i + 1], center[i : i + 1], scale[i : i + 1], (64, 48), 5, [0.25, 0.1])
        torch.testing.assert_close(together[0][i : i + 1], alone[0])
        torch.testing.assert_close(together[1][i : i + 1], alone[1])


def test_mirror():
    maps = torch.rand(2, 3, 4, 5)
    swap = torch.tensor([0, 2, 1])
    mirrored = mirror(maps, swap)
    torch.testing.assert_close(mirrored[:, 1], maps[:, 2].flip(-1))
    torch.testing.assert_close(mirror(mirrored, swap), maps)
