"""Each part as a straightforward program writes it, with PyTorch, torchvision and numpy, to be measured against.

Correct but not tuned: tests compare the results with this code's. For the standard codec.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from easydict import EasyDict
from PIL import Image
from torchvision.transforms.v2 import functional as F

from lib.datasets.joints import TrainSamples
from lib.models.loss import build_loss
from lib.models.mspn import build_mspn
from lib.utils.heatmap import DECODE_PADDING, PEAK, SCORE_OFFSET
from lib.utils.transforms import (
    PIXELS_PER_SCALE,
    AugmentationSample,
    crop_matrix,
    mirror_permutation,
    sample_augmentation,
)


class PlainSamples:
    """Training samples that are ready for the network: image (3, H, W) float32 RGB, normalised, and targets
    (5, K, h, w) float32; visibility (K, 1).

    samples: this code's, for the records and the same augmentation
    """

    def __init__(self, cfg: EasyDict, samples: TrainSamples) -> None:
        self.cfg, self.samples = cfg, samples

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray | torch.Tensor]:
        index, position = key
        rng = np.random.default_rng([self.samples.seed, position])
        return self.sample(index, sample_augmentation(rng, self.samples.augmentation))

    def sample(self, index: int, sampled: AugmentationSample) -> dict[str, np.ndarray | torch.Tensor]:
        """The sample of a record under a given augmentation."""
        cfg, samples = self.cfg, self.samples
        records, (height, width) = samples.records, cfg.INPUT_SHAPE
        joints, visibility = (values[index] for values in records.labels)
        center, scale = samples.box(index, sampled)
        image = F.pil_to_tensor(Image.open(records.path(index)).convert('RGB'))
        if sampled.flip:
            image, last = F.horizontal_flip(image), image.shape[2] - 1
            center = np.array([last - center[0], center[1]])
            joints, visibility = joints[samples.permutation], visibility[samples.permutation]
            joints[:, 0] = last - joints[:, 0]
        columns, rows = (scale * PIXELS_PER_SCALE).round().astype(int).tolist()
        if sampled.rotation:
            side = math.ceil(math.hypot(columns, rows))  # what the crop may turn within
            image = F.rotate(_cut(image, center, side, side), sampled.rotation, F.InterpolationMode.BILINEAR)
            image = F.center_crop(image, [rows, columns])
        else:
            image = _cut(image, center, rows, columns)
        image = F.resize(image, [height, width])
        image = F.normalize(F.to_dtype(image, torch.float32, scale=True), cfg.INPUT.MEANS[::-1], cfg.INPUT.STDS[::-1])
        matrix = crop_matrix(center, scale, sampled.rotation, (height, width))
        joints = joints @ matrix[:, :2].T + matrix[:, 2]
        inside = ((joints >= 0) & (joints <= [width - 1, height - 1])).all(axis=1)
        visibility = np.where(inside, visibility, 0)
        return {
            'image': image,
            'targets': plain_targets(joints, visibility, cfg),
            'visibility': visibility[:, None].astype(np.float32),
        }


def _cut(image: torch.Tensor, center: np.ndarray, rows: int, columns: int) -> torch.Tensor:
    """(3, rows, columns) around a centre (x, y); black outside the image."""
    left, top = (center - np.array([columns, rows]) / 2).round().astype(int).tolist()
    return F.crop(image, top, left, rows, columns)


def plain_targets(joints: np.ndarray, visibility: np.ndarray, cfg: EasyDict) -> np.ndarray:
    """(5, K, h, w) float32, of one person, map by map. joints: (K, 2) in crop pixels; visibility: (K,)"""
    (height, width), (h, w), kernels = cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS
    targets = np.zeros((len(kernels), len(joints), h, w), np.float32)
    for maps, kernel in zip(targets, kernels):
        for k, (x, y) in enumerate(joints):
            column, row = int(x * w / width), int(y * h / height)
            if visibility[k] >= 1 and 0 <= column < w and 0 <= row < h:
                maps[k, row, column] = 1
                maps[k] = cv2.GaussianBlur(maps[k], (kernel, kernel), 0)
                maps[k] *= PEAK / maps[k].max()
    return targets


def plain_decode(heatmaps: np.ndarray, center: np.ndarray, scale: np.ndarray, cfg: EasyDict) -> np.ndarray:
    """(K, 3) x and y in image pixels, score, of one person, joint by joint. heatmaps: (K, h, w); center, scale: (2,)"""
    kernel, h, w = cfg.TEST.GAUSSIAN_KERNEL, *heatmaps.shape[1:]
    found = np.zeros((len(heatmaps), 3))
    for k, heatmap in enumerate(heatmaps):
        blurred = cv2.GaussianBlur(np.pad(heatmap, DECODE_PADDING), (kernel, kernel), 0)
        xy = _take_highest(blurred)
        for shift in cfg.TEST.SHIFT_RATIOS:
            step = _take_highest(blurred) - xy
            if (distance := np.linalg.norm(step)) > 1e-3:
                xy = xy + shift * step / distance
        x, y = np.clip(xy, 0, [w - 1, h - 1])
        in_crop = np.array([4 * x + 2, 4 * y + 2]) / cfg.INPUT_SHAPE[::-1]
        score = heatmap[round(y), round(x)] / PEAK + SCORE_OFFSET
        found[k] = [*((in_crop - 0.5) * scale * PIXELS_PER_SCALE + center), score]
    return found


def _take_highest(blurred: np.ndarray) -> np.ndarray:
    """(2,) x and y of the highest cell, in cells of the map without padding; it is set to 0."""
    row, column = np.unravel_index(blurred.argmax(), blurred.shape)
    blurred[row, column] = 0
    return np.array([column, row]) - DECODE_PADDING


class PlainStep:
    """A training step on a random batch, in float32: eager, NCHW, PyTorch's own defaults; calling it takes one."""

    def __init__(self, cfg: EasyDict, device: torch.device) -> None:
        torch.manual_seed(0)
        batch, joints = cfg.SOLVER.IMS_PER_GPU, cfg.DATASET.KEYPOINT.NUM
        self.device, self.criterion = device, build_loss(cfg)
        self.model = build_mspn(cfg).to(device).train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
        )
        self.batch = (
            torch.randn(batch, 3, *cfg.INPUT_SHAPE),
            torch.randint(0, 3, (batch, joints, 1)).float(),
            255 * torch.rand(batch, 5, joints, *cfg.OUTPUT_SHAPE),
        )

    def __call__(self) -> float:
        images, visibility, labels = (values.to(self.device) for values in self.batch)
        loss = self.criterion(self.model(images), visibility, labels)['total_loss']
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class PlainTest:
    """A flip test of a random batch, in float32: eager, NCHW, decoded person by person; calling it takes one."""

    def __init__(self, cfg: EasyDict, device: torch.device) -> None:
        torch.manual_seed(0)
        self.cfg, self.device = cfg, device
        self.model = build_mspn(cfg).to(device).eval()
        self.images = torch.randn(cfg.TEST.IMS_PER_GPU, 3, *cfg.INPUT_SHAPE)
        keypoint = cfg.DATASET.KEYPOINT
        self.permutation = torch.from_numpy(mirror_permutation(keypoint.NUM, keypoint.FLIP_PAIRS))

    @torch.no_grad()
    def __call__(self) -> Sequence[np.ndarray]:
        images = self.images.to(self.device)
        mirrored = self.model(images.flip(3)).flip(3)[:, self.permutation]
        maps = ((self.model(images) + mirrored) / 2).cpu().numpy()
        return [plain_decode(one, np.zeros(2), np.ones(2), self.cfg) for one in maps]
