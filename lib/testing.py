"""A test of a network: predictions of every record, and the report on them."""

import logging
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from easydict import EasyDict
from pycocotools.cocoeval import Params
from torch import nn
from tqdm import tqdm

from cvpack import dist
from cvpack.files import sha256, write_json
from cvpack.precision import autocast
from lib.analysis.report import write_report
from lib.config import git_revision, to_plain
from lib.datasets import mpii
from lib.datasets.joints import Records, read_image
from lib.loader import dataset_of, dataset_root, memory_format, normalize, test_loader
from lib.models.resnet import fold_batch_norm
from lib.utils import heatmap
from lib.utils.transforms import mirror_permutation
from lib.utils.visualize import contact_sheet, draw_skeleton, side_by_side

# A joint whose peak is below this share of its person's highest is not drawn.
MIN_PEAK = 0.25


def ready_to_test(cfg: EasyDict, model: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, in eval mode, BatchNorm folded into the convolutions; changed in place."""
    return fold_batch_norm(model.eval()).to(device, memory_format=memory_format(cfg))


def flip_permutation(cfg: EasyDict, device: torch.device) -> torch.Tensor:
    """(K,) int64, for every joint the index of its mirror joint, on the device."""
    keypoint = cfg.DATASET.KEYPOINT
    return torch.from_numpy(mirror_permutation(keypoint.NUM, keypoint.FLIP_PAIRS)).to(device)


def predict_heatmaps(cfg: EasyDict, model: nn.Module, images: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """(N, K, h, w) float32 heatmaps of normalised images; with TEST.FLIP the mean with the mirrored images'.

    permutation: flip_permutation on the images' device
    """
    with autocast(images.device.type, cfg.TEST.PRECISION):
        heatmaps = model(images)
        if not cfg.TEST.FLIP:
            return heatmaps
        return (heatmaps + heatmap.mirror(model(images.flip(-1)), permutation)) / 2


def predict(cfg: EasyDict, model: nn.Module, records: Records, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, K, 2) in image pixels and scores (n, K, 1) of all records, on rank 0; empty on the others.

    model: as ready_to_test leaves it
    """
    # Ranks hold contiguous parts, so their order is the records'.
    own = _predict_own(cfg, model, records, device)
    rows = np.concatenate(dist.gather(own) or [own[:0]])
    return rows[..., :2], rows[..., 2:]


@torch.inference_mode()
def _predict_own(cfg: EasyDict, model: nn.Module, records: Records, device: torch.device) -> np.ndarray:
    """(n, K, 3) float64: x, y and score of this rank's part of the records."""
    permutation = flip_permutation(cfg, device)
    parts = [torch.empty(0, len(permutation), 3, device=device)]
    for batch in tqdm(test_loader(cfg, records), desc='test', disable=None if dist.is_main() else True):
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        keypoints, scores = heatmap.decode(
            predict_heatmaps(cfg, model, normalize(batch['image'], cfg), permutation),
            batch['center'],
            batch['scale'],
            cfg.INPUT_SHAPE,
            cfg.TEST.GAUSSIAN_KERNEL,
            cfg.TEST.SHIFT_RATIOS,
        )
        # They stay on the device: fetching them would have the host wait before it launches the next batch.
        parts.append(torch.cat([keypoints, scores], dim=2))
    return torch.cat(parts).double().cpu().numpy()


def report(
    cfg: EasyDict,
    records: Records,
    keypoints: np.ndarray,
    scores: np.ndarray,
    folder: Path,
    file: Path,
    split: str,
    logger: logging.Logger,
) -> None:
    """Writes results.json, metrics.json and report.html into the folder and prints the table."""
    dataset, root = dataset_of(cfg), dataset_root(cfg)
    results = dataset.write_results(records, keypoints, scores, folder)
    metrics = dataset.evaluate(root, split, results)
    content = {
        'metrics': metrics,
        'experiment': Path(cfg.OUTPUT_DIR).name,
        'weights': str(file.resolve()),
        'weights_sha256': sha256(file),
        'results': results.name,
        'truth': str((root / _truth_file(dataset, split)).resolve()) if metrics else None,
        'sigmas': _sigmas(dataset),
        'boxes': len(records),
        'boxes_from': records.boxes_from,
        'flip': cfg.TEST.FLIP,
        'split': split,
        'git_revision': git_revision(),
        'config': to_plain(cfg),
    }
    write_json(folder / 'metrics.json', content)
    logger.info(f'{results}: {len(records)} people, boxes from {records.boxes_from}s, flip {cfg.TEST.FLIP}')
    if metrics is None:
        logger.info(f'not evaluated: there is no public truth for {split} in {root}; the file above can be submitted')
        return
    if records.boxes_from == 'annotation' and dataset.COMPARES_DETECTORS:
        logger.info('tested on annotated boxes: these figures are not comparable with published ones')
    table = dataset.format_metrics(metrics)
    widths = [max(len(name), len(value)) for name, value in table.items()]
    logger.info(' | '.join(name.rjust(width) for name, width in zip(table, widths)))
    logger.info(' | '.join(value.rjust(width) for value, width in zip(table.values(), widths)))
    facts = dataset.JOINT_NAMES, dataset.FLIP_PAIRS, dataset.SKELETON
    start = time.perf_counter()
    page = write_report(content, table, folder, records.root, *facts)
    logger.info(f'{page}: where the predictions err, in {time.perf_counter() - start:.1f} s')


def _truth_file(dataset: ModuleType, split: str) -> str:
    """What a split is evaluated against, relative to the data set's folder."""
    return dataset.TRUTH if dataset is mpii else dataset.TEST_FILES[split][0]


def _sigmas(dataset: ModuleType) -> list[float]:
    """The joints' OKS constants; none where the measure is another."""
    return [] if dataset is mpii else Params(iouType='keypoints').kpt_oks_sigmas.tolist()


def save_pictures(
    records: Records,
    truth: dict[str, np.ndarray],
    keypoints: np.ndarray,
    scores: np.ndarray,
    dataset: ModuleType,
    count: int,
    file: Path,
) -> None:
    """Writes one picture of the first `count` images: truth left, prediction right.

    truth: path -> (people, K, 3), x and y in image pixels and visibility
    keypoints (n, K, 2) in image pixels, scores (n, K, 1)

    """
    peaks = scores[..., 0] - 0.5
    visible = peaks >= MIN_PEAK * peaks.max(axis=1, keepdims=True)
    panels = []
    for path in list(dict.fromkeys(records.paths.tolist()))[:count]:
        image = read_image(records.root / path.decode())
        left, right = image.copy(), image
        for person in truth.get(path.decode(), []):
            draw_skeleton(left, person[:, :2], person[:, 2] > 0, dataset.SKELETON, dataset.JOINT_NAMES)
        for index in np.flatnonzero(records.paths == path):
            draw_skeleton(right, keypoints[index], visible[index], dataset.SKELETON, dataset.JOINT_NAMES)
        panels.append(side_by_side(left, right))
    cv2.imwrite(str(file), contact_sheet(panels))
