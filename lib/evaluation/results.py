"""What a test writes: results.json, metrics.json, report.html, and pictures."""

import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from easydict import EasyDict

from cvpack.errors import InputError
from cvpack.files import write_json
from lib.datasets.description import Description
from lib.datasets.image_files import read_image
from lib.datasets.joints import Records
from lib.evaluation.coco import evaluator
from lib.evaluation.nms import Scoring
from lib.evaluation.report import write_report
from lib.loader import dataset_of, format_of
from lib.utils.visualize import contact_sheet, draw_skeleton, side_by_side, visible_joints


def report(
    cfg: EasyDict,
    records: Records,
    keypoints: np.ndarray,
    scores: np.ndarray,
    folder: Path,
    test: dict[str, Any],
    logger: logging.Logger,
) -> None:
    """Writes results.json, metrics.json and report.html into the folder and prints the table.

    test: as lib.results.describe has it
    """
    reader, dataset, split = format_of(cfg), dataset_of(cfg), test['split']
    scoring = Scoring(cfg.TEST.RESCORE, cfg.TEST.NMS, cfg.TEST.NMS_THRESHOLD, dataset.sigmas)
    results = reader.write_results(records, keypoints, scores, folder, scoring)
    for line in reader.check_submission(dataset, results, records) if split == 'test' else ():
        logger.info(line)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        raise InputError(f'{results} holds numbers that are not finite, as the network gives: take another checkpoint')
    metrics = reader.evaluate(dataset, split, results, records)
    content = {
        'metrics': metrics,
        **test,
        'results': results.name,
        'evaluator': evaluator() if metrics and dataset.format == 'COCO' else None,
        'truth': str(reader.ground_truth_file(dataset, split).resolve()) if metrics else None,
    }
    write_json(folder / 'metrics.json', content)
    logger.info(f'{results}: {len(records)} people, boxes from {records.boxes_from}s, flip {cfg.TEST.FLIP}')
    if metrics is None:
        logger.info(f'not evaluated: {dataset.root} has no truth for {split}; the file above can be submitted')
        return
    if records.boxes_from == 'annotation' and dataset.val_boxes:
        logger.info('tested on annotated boxes: these figures are not comparable with published ones')
    table = reader.format_metrics(metrics)
    widths = [max(len(name), len(value)) for name, value in table.items()]
    logger.info(' | '.join(name.rjust(width) for name, width in zip(table, widths)))
    logger.info(' | '.join(value.rjust(width) for value, width in zip(table.values(), widths)))
    start = time.perf_counter()
    facts = dataset.joint_names, dataset.flip_pairs, dataset.skeleton
    page = write_report(content, table, folder, records.root, *facts)
    logger.info(f'{page}: where the predictions err, in {time.perf_counter() - start:.1f} s')


def save_pictures(
    records: Records,
    ground_truth: dict[str, np.ndarray],
    keypoints: np.ndarray,
    scores: np.ndarray,
    dataset: Description,
    count: int,
    file: Path,
) -> None:
    """Writes one picture of the first `count` images: truth left, prediction right.

    truth: path -> (people, K, 3), x and y in image pixels and visibility
    keypoints (n, K, 2) in image pixels, scores (n, K, 1)

    """
    visible = visible_joints(scores[..., 0])
    panels = []
    for path in list(dict.fromkeys(records.paths.tolist()))[:count]:
        image = read_image(records.root / path.decode())
        left, right = image.copy(), image
        for person in ground_truth.get(path.decode(), []):
            draw_skeleton(left, person[:, :2], person[:, 2] > 0, dataset.skeleton, dataset.joint_names)
        for index in np.flatnonzero(records.paths == path):
            draw_skeleton(right, keypoints[index], visible[index], dataset.skeleton, dataset.joint_names)
        panels.append(side_by_side(left, right))
    cv2.imwrite(str(file), contact_sheet(panels))
