"""Pictures of validation samples: input, target and predicted heatmaps, prediction."""

import cv2
import numpy as np
import torch
from easydict import EasyDict

from lib.datasets.records import Records
from lib.inference import PoseEstimator
from lib.loader import dataset_of, test_samples
from lib.utils import heatmap
from lib.utils.transforms import crop_matrix
from lib.utils.visualize import PANEL_HEIGHT, contact_sheet, draw_skeleton, visible_joints

FADED = 0.4  # brightness of the image under heatmaps


@torch.inference_mode()
def sample_sheet(cfg: EasyDict, estimator: PoseEstimator, people: Records, device: torch.device) -> np.ndarray:
    """(H, W, 3) uint8 BGR, a row for each person: ground truth, target heatmaps, predicted heatmaps, prediction.

    Heatmaps are shown as their maximum over the joints, from black (0) to yellow (at least the peak of a target).
    people: with joints; estimator: on the device
    """
    dataset, codec = dataset_of(cfg), cfg.CODEC
    positions, visibility = people.labels
    samples = test_samples(cfg, people)
    crops = [samples[index] for index in range(len(samples))]
    batch = {name: torch.from_numpy(np.stack([crop[name] for crop in crops])).to(device) for name in crops[0]}
    heatmaps = estimator.heatmaps(batch['image'])
    found = estimator.decode(heatmaps, batch['center'], batch['scale']).double().cpu().numpy()
    predicted = heatmaps.cpu()
    seen = visible_joints(found[..., 2])
    matrices = [crop_matrix(crop['center'], crop['scale'], 0.0, cfg.INPUT_SHAPE, codec) for crop in crops]
    joints = np.stack([_transform(points, matrix) for points, matrix in zip(positions, matrices)])
    targets = heatmap.encode(
        torch.from_numpy(joints).float(),
        torch.from_numpy(visibility)[..., None],
        cfg.INPUT_SHAPE,
        cfg.OUTPUT_SHAPE,
        cfg.DATASET.TRAIN.GAUSSIAN_KERNELS[-1:],
        codec,
    )[:, 0]
    panels = []
    for i, crop in enumerate(crops):
        image, facts = crop['image'], (dataset.skeleton, dataset.joint_names)
        ground_truth, prediction = _enlarged(image), _enlarged(image)
        zoom = PANEL_HEIGHT / image.shape[0]
        draw_skeleton(ground_truth, joints[i] * zoom, visibility[i] > 0, *facts)
        draw_skeleton(prediction, _transform(found[i, :, :2], matrices[i]) * zoom, seen[i], *facts)
        panels += [ground_truth, _heat(image, targets[i]), _heat(image, predicted[i]), prediction]
    return contact_sheet(panels, columns=4)


def _transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a (2, 3) matrix to points (K, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _enlarged(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) resized to PANEL_HEIGHT."""
    width = round(image.shape[1] * PANEL_HEIGHT / image.shape[0])
    return cv2.resize(image, (width, PANEL_HEIGHT), interpolation=cv2.INTER_LINEAR)


def _heat(image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """The maximum of heatmaps (K, h, w) in colours over the image (H, W, 3), resized to PANEL_HEIGHT."""
    highest = maps.amax(dim=0).clamp(0, heatmap.PEAK).round().byte().numpy()
    enlarged = _enlarged(image)
    colours = cv2.resize(
        cv2.applyColorMap(highest, cv2.COLORMAP_INFERNO), enlarged.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    return cv2.addWeighted(enlarged, FADED, colours, 1, 0)
