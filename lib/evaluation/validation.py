"""Validation while training: metrics, the best checkpoint, sample pictures and curves.

It does not influence the training: a copy of the network is tested, and the random state is restored.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict

from cvpack import checkpoint, dist
from cvpack.checkpoint_order import Saved, in_order
from cvpack.errors import InputError
from cvpack.files import read_json, remove_unfinished, write_json
from cvpack.logger import TrainLog
from lib.datasets.records import Reader, Records, select
from lib.evaluation.curves import LOSS, RATE, draw_curves, read_scalars
from lib.evaluation.evaluator import evenly_spaced, format_metrics, fractions, rank
from lib.evaluation.formats import EVALUATORS, evaluator_of
from lib.evaluation.nms import scoring_of
from lib.evaluation.sample_sheet import sample_sheet
from lib.inference import build_estimator, predict
from lib.loader import reader_of
from lib.training import Trainer

FILE = 'validation.json'
PICTURES = 4  # people in the sample sheet


class Validation:
    """Tests the network at every VALIDATION.PERIOD-th checkpoint, and points iter-best.pth at the best.

    validation.json beside the checkpoints holds all metrics so far: {'metric': name of the main one, 'rows': [...]},
    each row {'iteration', 'samples', 'boxes', 'boxes_from', 'metrics'}, sorted by the number of samples seen, since
    iterations change their meaning with the batch size. validation/ holds the newest results.

    log: for TensorBoard; writer: of the checkpoints, used on rank 0
    Raises InputError where there is nothing to validate on, OSError where the output folder cannot be written.
    """

    def __init__(
        self,
        cfg: EasyDict,
        trainer: Trainer,
        log: TrainLog,
        writer: checkpoint.Writer,
        logger: logging.Logger,
    ) -> None:
        self.cfg, self.trainer, self.log, self.writer, self.logger = cfg, trainer, log, writer, logger
        reader, images = reader_of(cfg), cfg.VALIDATION.IMAGES
        file = reader.ground_truth_file('val')
        if not file.is_file():
            raise InputError(f'VALIDATION.PERIOD: the ground truth {file} does not exist: get it, or set 0')
        test_set = reader.test_set('val', gt_boxes=False)
        evaluator = evaluator_of(reader.dataset, test_set)
        if images:
            evaluator = evaluator.subset(images)
        self.records, self.main_metrics = evaluator.records, evaluator.main_metrics
        self.scoring = scoring_of(cfg, self.records)
        if not len(self.records):
            raise InputError(f'VALIDATION.IMAGES = {images}: nobody is in these images: set more, or 0 for all')
        self.evaluator = evaluator if dist.is_main() else None  # the annotations take memory
        self.people = dist.agree(lambda: _pictured(reader, test_set.records))
        self.output = Path(cfg.OUTPUT_DIR)
        self.folder = self.output / 'validation'
        self.folder.mkdir(parents=True, exist_ok=True)
        if dist.is_main():
            remove_unfinished(self.folder)
        # Rows after the checkpoint that was resumed belong to abandoned iterations.
        rows = read_rows(self.output, self.main_metrics[0], trainer.earlier_batch)
        self.rows = [row for row in rows if row['samples'] <= trainer.start_samples]
        self.done = dist.broadcast({row['samples'] for row in self.rows})
        if dist.is_main():
            self._mark_best()
        logger.info(f'validation: {len(self.records)} boxes from {self.records.boxes_from}s')

    def __call__(self, iteration: int) -> None:
        """Validates an iteration if it is due and was not validated before; to be called on every rank."""
        period = self.trainer.schedule.checkpoint_period * self.cfg.VALIDATION.PERIOD
        due = iteration % period == 0 or iteration == self.trainer.schedule.max_iter
        if not iteration or not due or self.trainer.samples(iteration) in self.done:
            return
        device = self.trainer.device
        # A loader takes a random seed for its workers.
        with self.log.paused(), torch.random.fork_rng([device] if device.type == 'cuda' else []):
            estimator = build_estimator(self.cfg, self.trainer.network_to_test(), device)
            keypoints, scores = predict(self.cfg, [estimator], self.records, device)
            if dist.is_main():
                sheet = sample_sheet(self.cfg, estimator, self.people, device)
                self.log.add(iteration, {}, {'samples': np.ascontiguousarray(sheet[..., ::-1])})
            dist.on_main(lambda: self._evaluate(iteration, keypoints, scores))
        self.done.add(self.trainer.samples(iteration))

    def _evaluate(self, iteration: int, keypoints: np.ndarray, scores: np.ndarray) -> None:
        """Evaluates and records predictions, and updates the best checkpoint; on rank 0.

        A full disk does not end the training: it is logged.
        """
        assert self.evaluator is not None
        self.writer.wait()  # so that it logs nothing while evaluation mutes stdout
        if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
            self.logger.error(f'validation at iteration {iteration}: predictions are not finite, so it is left out')
            return
        try:
            results = self.evaluator.rows(keypoints, scores, self.scoring)
            self.evaluator.write(results, self.folder)
            metrics = self.evaluator.evaluate(results)
            assert metrics is not None  # __init__ has seen the ground truth
            row = {'iteration': iteration, 'samples': self.trainer.samples(iteration), 'boxes': len(self.records)}
            self.rows.append({**row, 'boxes_from': self.records.boxes_from, 'metrics': metrics})
            write_json(self.output / FILE, {'metric': self.main_metrics[0], 'rows': self.rows})
            self._mark_best()
        except OSError as error:
            reason = f'{error.strerror or error}: {error.filename or self.output}'
            self.logger.error(f'validation at iteration {iteration} cannot be saved ({reason}): training continues')
            return
        self.log.add(iteration, {f'validation/{name}': value for name, value in metrics.items()})
        table = ' | '.join(f'{name} {value}' for name, value in format_metrics(metrics).items())
        self.logger.info(f'validation at iteration {iteration}: {table}')

    def best(self) -> Saved | None:
        """The best checkpoint, by the rows with as many boxes as now."""
        rows = [row for row in self.rows if row['boxes'] == len(self.records)]
        here = {row['samples']: rank(row['metrics'], self.main_metrics) for row in rows}
        ranked = {saved: here[saved.samples] for saved in in_order(self.output) if saved.samples in here}
        return max(ranked, key=ranked.__getitem__, default=None)

    def _mark_best(self) -> None:
        best = self.best()
        if best is None:
            return
        try:
            checkpoint.point(self.output / checkpoint.BEST, best.path)
            self.logger.info(f'best checkpoint so far: iteration {best.iteration} ({best.path.name})')
        except OSError as error:
            reason = error.strerror or error
            self.logger.error(f'{best.path} is the best, but {checkpoint.BEST} cannot be pointed at it ({reason})')


def _pictured(reader: Reader, records: Records) -> Records:
    """The people of the sample pictures: of the records, or where these are a detector's, of the annotations."""
    people = records if records.joints is not None else reader.test_set('val', gt_boxes=True).records
    return select(people, evenly_spaced(PICTURES, len(people)))


def check_validation(cfg: EasyDict) -> None:
    """Raises InputError, on every rank, if a test would refuse the validation annotations, so that training does not
    start with them. There may be none.
    """
    reader = reader_of(cfg)

    def check() -> None:
        if not reader.dataset.annotations('val').is_file():
            return
        try:
            reader.check_validation()
        except InputError as error:
            raise InputError(f'{error} (a test would fail; python -m lib.tools.check_data lists all issues)') from None

    dist.agree(check)


def read_rows(folder: Path, metric: str, batch: int = 1) -> list[dict[str, Any]]:
    """The rows of a run's validation.json, by rising number of samples; none without the file.

    metric: the name of the main one; batch: samples per iteration, for rows of earlier versions without `samples`.
    Raises InputError where the file is damaged or has another main metric.
    """
    file = folder / FILE
    if not file.exists():
        return []
    remedy = 'remove it'
    content = read_json(file, remedy)
    try:
        rows = [{**row, 'samples': int(row.get('samples', int(row['iteration']) * batch))} for row in content['rows']]
        for row in rows:
            float(row['metrics'][metric]), int(row['boxes'])
            row['metrics'] = fractions(row['metrics'], is_earlier='figure' in content)
    except (KeyError, TypeError, ValueError):
        raise InputError(f'{file} does not hold validations by {metric}: {remedy}') from None
    by_samples = {row['samples']: row for row in rows}
    return [by_samples[samples] for samples in sorted(by_samples)]


def deciding_metric(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """The first of the main metrics that differs between rows as printed; if none does, the first."""
    columns = zip(names, zip(*(rank(row['metrics'], names) for row in rows)))
    return next((name for name, column in columns if len({*column}) > 1), names[0])


def save_curves(trainer: Trainer, logger: logging.Logger) -> None:
    """Plots the run's curves.png, over iterations of the present batch size; logs why if it cannot."""
    cfg = trainer.cfg
    file, names = Path(cfg.OUTPUT_DIR) / 'curves.png', EVALUATORS[cfg.DATASET.FORMAT].main_metrics
    try:
        rows = read_rows(file.parent, names[0], trainer.earlier_batch)
        metric = deciding_metric(rows, names)
        values = [100 * row['metrics'].get(metric, np.nan) for row in rows]
        validated = [trainer.iteration(row['samples']) for row in rows], values
        scalars = read_scalars(Path(cfg.TENSORBOARD_DIR), (LOSS, RATE), trainer.iteration)
        draw_curves(file, scalars, metric, validated)
    except InputError as error:
        logger.info(f'no {file.name}: {error}')
    except OSError as error:
        logger.info(f'no {file.name}: {file} cannot be written ({error.strerror})')
    else:
        logger.info(f'{file}: loss, learning rate{" and validation metric" if rows else ""}')
