"""A trained network as a function: images in, people's joints out.

    from lib.deploy.predictor import PosePredictor

    predictor = PosePredictor('model_logs/USER/EXPERIMENT/iter-last.pth')
    for image, (keypoints, scores) in zip(images, predictor(images, boxes)):
        predictor.draw(image, keypoints, scores)

The experiment is read from the checkpoint. `python -m lib.tools.predict` does this to files.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import ArrayLike
from torch.utils.data import default_collate

from cvpack.errors import InputError
from lib.datasets.checks import MAX_NUMBER, shown
from lib.datasets.joints import crop_person
from lib.deploy.saved import load_experiment
from lib.inference import build_estimator
from lib.loader import dataset_of
from lib.utils.heatmap import SCORE_OFFSET
from lib.utils.transforms import centers_and_scales
from lib.utils.visualize import draw_skeleton, limb_colours, visible_joints

# Joints that the network is least sure of can still be seen in a picture.
MIN_OPACITY = 0.3
MIN_BOX = 0.01  # pixels


def whole_image(image: np.ndarray) -> np.ndarray:
    """(1, 4) float64: the image as the box x, y, w, h of one person."""
    height, width = image.shape[:2]
    return np.array([[0.0, 0.0, width, height]])


def crop_boxes(cfg: EasyDict, image: np.ndarray, boxes: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The test samples, as crop_person returns them, of boxes (n, 4) x, y, w, h in an image."""
    extension = cfg.TEST.X_EXTENSION, cfg.TEST.Y_EXTENSION
    for center, scale in zip(*centers_and_scales(boxes)):
        yield crop_person(image, center, scale, extension, cfg.INPUT_SHAPE, cfg.CODEC)


class PosePredictor:
    """Finds the joints of people in images, as a test of the same checkpoint would.

    weights:    a checkpoint
    device:     'cpu' or 'cuda'
    ema:        load the EMA of its weights (SOLVER.EMA)
    experiment: a folder with a config.py, for published checkpoints, which do not contain their configuration, or with
                a network.py, for checkpoints of an experiment's own network

    cfg: its configuration; joint_names: K of them; skeleton: pairs of joints
    Raises InputError for files that are unfit.
    """

    def __init__(
        self, weights: str | Path, device: str = 'cpu', ema: bool = False, experiment: str | Path | None = None
    ) -> None:
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise InputError(f'device {device}: this machine has no CUDA device: take cpu')
        self.weights, self.device = Path(weights), torch.device(device)
        self.cfg, model = load_experiment(self.weights, ema, Path(experiment) if experiment else None, self.device)
        self.estimator = build_estimator(self.cfg, model, self.device)
        dataset = dataset_of(self.cfg)
        self.joint_names, self.skeleton = dataset.joint_names, dataset.skeleton

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[ArrayLike] | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keypoints (n, K, 2) in image pixels and scores (n, K), both float64, of the n people of every image.

        images: (H, W, 3) uint8 BGR each; boxes: (n, 4) x, y, w, h in image pixels each; None: each image is
        one person. People of all images share batches of TEST.IMS_PER_GPU. Raises InputError for anything else.
        """
        for image in images:
            _check_image(image)
        given = [whole_image(image) for image in images] if boxes is None else boxes
        if len(given) != len(images):
            raise InputError(f'boxes: {len(given)} arrays for {len(images)} images: give one each, (0, 4) for nobody')
        checked = [_checked_boxes(own) for own in given]
        people = chain.from_iterable(crop_boxes(self.cfg, image, own) for image, own in zip(images, checked))
        parts = [torch.empty(0, len(self.joint_names), 3, device=self.device)]
        while crops := list(islice(people, self.cfg.TEST.IMS_PER_GPU)):
            batch = {name: value.to(self.device) for name, value in default_collate(crops).items()}
            parts.append(self.estimator(batch['image'], batch['center'], batch['scale']))
        rows = torch.cat(parts).double().cpu().numpy()
        if not np.isfinite(rows).all():
            raise InputError(f'{self.weights}: its network gives numbers that are not finite: take another checkpoint')
        found = np.split(rows, np.cumsum([len(own) for own in checked])[:-1]) if checked else []
        return [(own[..., :2], own[..., 2]) for own in found]

    def draw(self, image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> None:
        """Draws people onto their image, in place: a colour per limb, fainter for lower scores.

        keypoints (n, K, 2) in image pixels, scores (n, K). How high peaks get depends on the training, so opacity is
        relative to the highest of these peaks.
        """
        colours, peaks = limb_colours(len(self.skeleton)), scores - SCORE_OFFSET
        opacity = np.clip(peaks / peaks.max(initial=1e-6), MIN_OPACITY, 1)
        for points, visible, own in zip(keypoints, visible_joints(scores), opacity):
            draw_skeleton(image, points, visible, self.skeleton, self.joint_names, colours, own)


def _check_image(image: np.ndarray) -> None:
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not fits or not image.size:
        what = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f'an image is {what}: it should be an array (H, W, 3) of uint8, BGR, as cv2.imread gives it')


def _checked_boxes(boxes: ArrayLike) -> np.ndarray:
    """(n, 4) float64: boxes that can be cropped to."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):  # words; rows of different lengths
        array = np.array(np.nan)
    array = array if array.size else array.reshape(0, 4)
    is_list = array.shape[1:] == (4,) and (np.abs(array) < MAX_NUMBER).all()
    if not is_list or (array[:, 2:] < MIN_BOX).any():
        raise InputError(f'boxes of an image: {shown(boxes)}: should be rows of x, y, w, h in pixels, none empty')
    return array
