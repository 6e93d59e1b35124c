"""Pictures of samples under way: what the network was given, what it should have found, what it found."""

import cv2
import numpy as np
import torch
from easydict import EasyDict

from lib.datasets.joints import Records, TestSamples
from lib.inference import PoseEstimator
from lib.loader import dataset_of
from lib.utils import heatmap
from lib.utils.transforms import crop_matrix
from lib.utils.visualize import PANEL_HEIGHT, contact_sheet, draw_skeleton, visible_joints

# What is left of the input's brightness under the heat's colours.
FADED = 0.4


@torch.inference_mode()
def sample_sheet(cfg: EasyDict, estimator: PoseEstimator, people: Records, device: torch.device) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a row a person: the true skeleton, the target heatmaps, the predicted ones, the prediction.

    Heatmaps are shown as their highest value over the joints, from nothing (0) to yellow (a target's peak, or more).

    people: with their joints, in image pixels; estimator: on the device
    """
    dataset, codec = dataset_of(cfg), cfg.CODEC
    positions, visibility = people.labels
    samples = TestSamples(people, cfg.TEST.X_EXTENSION, cfg.TEST.Y_EXTENSION, cfg.INPUT_SHAPE, codec)
    crops = [samples[index] for index in range(len(samples))]
    batch = {name: torch.from_numpy(np.stack([crop[name] for crop in crops])).to(device) for name in crops[0]}
    heatmaps = estimator.heatmaps(batch['image'])
    found = estimator.decode(heatmaps, batch['center'], batch['scale']).double().cpu().numpy()
    predicted = heatmaps.cpu()
    seen = visible_joints(found[..., 2])
    matrices = [crop_matrix(crop['center'], crop['scale'], 0.0, cfg.INPUT_SHAPE, codec) for crop in crops]
    true = np.stack([_moved(joints, matrix) for joints, matrix in zip(positions, matrices)])
    targets = heatmap.encode(
        torch.from_numpy(true).float(),
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
        draw_skeleton(ground_truth, true[i] * zoom, visibility[i] > 0, *facts)
        draw_skeleton(prediction, _moved(found[i, :, :2], matrices[i]) * zoom, seen[i], *facts)
        panels += [ground_truth, _heat(image, targets[i]), _heat(image, predicted[i]), prediction]
    return contact_sheet(panels, columns=4)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (K, 2) under a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _enlarged(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) at PANEL_HEIGHT."""
    width = round(image.shape[1] * PANEL_HEIGHT / image.shape[0])
    return cv2.resize(image, (width, PANEL_HEIGHT), interpolation=cv2.INTER_LINEAR)


def _heat(image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """The highest of the maps (K, h, w) in colours over the image (H, W, 3), at PANEL_HEIGHT."""
    highest = maps.amax(dim=0).clamp(0, heatmap.PEAK).round().byte().numpy()
    enlarged = _enlarged(image)
    colours = cv2.resize(
        cv2.applyColorMap(highest, cv2.COLORMAP_INFERNO), enlarged.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    return cv2.addWeighted(enlarged, FADED, colours, 1, 0)
