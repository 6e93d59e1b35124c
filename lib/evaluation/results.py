"""The files that a test writes: results.json, metrics.json, report.html, and pictures."""

import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from easydict import EasyDict

from cvpack.errors import InputError
from cvpack.files import write_json
from lib.datasets.image_files import read_image
from lib.evaluation.evaluator import Evaluator, format_metrics
from lib.evaluation.nms import scoring_of
from lib.evaluation.report import write_report
from lib.utils.visualize import contact_sheet, draw_skeleton, side_by_side, visible_joints


def write_results(
    cfg: EasyDict,
    evaluator: Evaluator,
    keypoints: np.ndarray,
    scores: np.ndarray,
    folder: Path,
    test: dict[str, Any],
    logger: logging.Logger,
) -> None:
    """Writes results.json, metrics.json and report.html into the folder and prints the table.

    keypoints (n, K, 2) in image pixels, scores (n, K, 1); test: as test_folder.describe returns it
    Raises InputError, after writing results.json, for predictions that are not finite, and OSError.
    """
    dataset, records, split = evaluator.dataset, evaluator.records, test['split']
    rows = evaluator.rows(keypoints, scores, scoring_of(cfg, records))
    results = evaluator.write(rows, folder)
    remarks = evaluator.check_submission(results) if split == 'test' else []
    for remark in remarks:
        logger.info(remark)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        raise InputError(f'{results} holds predictions that are not finite: use another checkpoint')
    metrics = evaluator.evaluate(rows)
    content = {
        'metrics': metrics,
        **test,
        'results': results.name,
        'evaluator': evaluator.library if metrics else None,
        'truth': str(evaluator.test_set.ground_truth_file.resolve()) if metrics else None,
    }
    write_json(folder / 'metrics.json', content)
    logger.info(f'{results}: {len(records)} people, boxes from {records.boxes_from}s, flip {cfg.TEST.FLIP}')
    if metrics is None:
        file = evaluator.test_set.ground_truth_file
        absent = f'{file} has no people' if file.is_file() else f'{file} does not exist'
        missing = absent if split == 'val' else f'{dataset.root} has no ground truth for {split}'
        ending = '; this file can be submitted' if split == 'test' and not remarks else ''
        logger.info(f'not evaluated: {missing}{ending}')
        return
    if records.boxes_from == 'annotation' and dataset.val_boxes:
        logger.info('tested on annotated boxes: not comparable with published metrics')
    for caveat in evaluator.caveats():
        logger.warning(f'warning: {caveat}')
    table = format_metrics(metrics)
    widths = [max(len(name), len(value)) for name, value in table.items()]
    logger.info(' | '.join(name.rjust(width) for name, width in zip(table, widths)))
    logger.info(' | '.join(value.rjust(width) for value, width in zip(table.values(), widths)))
    start = time.perf_counter()
    page = write_report(content, table, evaluator, rows, folder)
    logger.info(f'{page}: written in {time.perf_counter() - start:.1f} s')


def save_pictures(evaluator: Evaluator, keypoints: np.ndarray, scores: np.ndarray, count: int, file: Path) -> None:
    """Writes a picture of the first `count` images: ground truth left, prediction right.

    keypoints (n, K, 2) in image pixels, scores (n, K, 1), of the evaluator's records
    Raises InputError if the file cannot be written: a JPEG has at most 65,500 pixels a side.
    """
    records, people, visible = evaluator.records, evaluator.people(), visible_joints(scores[..., 0])
    facts = evaluator.dataset.skeleton, evaluator.dataset.joint_names
    panels = []
    for path in list(dict.fromkeys(records.paths.tolist()))[:count]:
        image = read_image(records.root / path.decode())
        left, right = image.copy(), image
        for person in people.get(path.decode(), []):
            draw_skeleton(left, person[:, :2], person[:, 2] > 0, *facts)
        for index in np.flatnonzero(records.paths == path):
            draw_skeleton(right, keypoints[index], visible[index], *facts)
        panels.append(side_by_side(left, right))
    sheet = contact_sheet(panels)
    if not cv2.imwrite(str(file), sheet):
        height, width = sheet.shape[:2]
        raise InputError(f'{file} cannot be written ({width}x{height} pixels): draw fewer --pictures, or make room')
