"""How predictions are evaluated: the interface, with a class for each format of data sets (coco.py, mpii.py)."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lib.datasets.description import Description
from lib.datasets.records import Records, TestSet
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.cases import Case
from lib.evaluation.nms import PUBLISHED, Scoring

RESULTS = 'results.json'
Rows = list[dict[str, Any]]


@dataclass
class Resampled:
    """An earlier test, read again to be compared.

    names:   of its metrics, the first of which every test has
    metrics: how often each image counts -> (m,) in 0 .. 1
    images:  their names or ids
    measure: what has to be equal for metrics to be: the SHA-256 of the ground truth, and the sigmas
    """

    names: Sequence[str]
    metrics: Metrics
    images: list
    measure: tuple


class Evaluator(ABC):
    """Evaluates predictions on a split of a data set.

    main_metrics: what tests are ranked by: as these are printed, the first that differs decides; the first is in every
                  evaluation
    library:      what computes the metrics, with its version, where that is another project's
    """

    main_metrics: ClassVar[tuple[str, ...]]
    library: str | None = None

    def __init__(self, dataset: Description, test_set: TestSet) -> None:
        self.dataset, self.test_set = dataset, test_set

    @property
    def records(self) -> Records:
        """The people that are tested."""
        return self.test_set.records

    @abstractmethod
    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> Rows:
        """What results.json holds of predictions of the records; also what is evaluated.

        keypoints (n, K, 2) in image pixels, scores (n, K, 1)
        scoring: what an instance's score is made of, and who is left out
        """

    def write(self, rows: Rows, folder: Path) -> Path:
        """Writes results.json, and what a server takes beside it; returns its path. Raises OSError."""
        path = folder / RESULTS
        path.write_text(json.dumps(rows))
        return path

    @abstractmethod
    def evaluate(self, rows: Rows) -> dict[str, float] | None:
        """The metrics, in 0 .. 1, -1 where there is nothing to measure; None without a ground truth."""

    @abstractmethod
    def check_submission(self, results: Path) -> list[str]:
        """Raises InputError for files, written by `write`, that a server would refuse; returns remarks on others."""

    @abstractmethod
    def sections(self, rows: Rows) -> tuple[list[str], list[Case]]:
        """Of a report: sections of html, and people to show. Needs a ground truth."""

    @abstractmethod
    def people(self) -> dict[str, np.ndarray]:
        """The labelled people of the images: path in the image folder -> (people, K, 3), x, y, visibility."""

    @abstractmethod
    def subset(self, images: int) -> 'Evaluator':
        """The evaluation on so many of the images, evenly spaced, with all the people in them; on all if they are less.

        Whole images, since AP counts what was found in an image against all who are in it: on a choice of boxes
        everyone whose box was left out would count as missed, and nobody's second box as a false alarm.
        """

    @classmethod
    @abstractmethod
    def resampled(cls, path: Path, content: dict[str, Any], ground_truth: Path, results: Path) -> Resampled:
        """An earlier test. Raises InputError for files that do not fit together.

        path, content: its metrics.json; ground_truth, results: the files that this names, where they now are
        """


def format_metrics(metrics: dict[str, float]) -> dict[str, str]:
    """The metrics as papers print them: per cent, one decimal; a dash where there is nothing to measure."""
    return {name: f'{100 * value:.1f}' if value >= 0 else '-' for name, value in metrics.items()}


def fractions(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics in 0 .. 1, as which all are written; earlier versions wrote PCKh in per cent."""
    is_percent = max(metrics.values(), default=0) > 1
    return {name: value / 100 for name, value in metrics.items()} if is_percent else metrics


def rank(metrics: dict[str, float], names: Sequence[str]) -> list[float]:
    """What orders tests by the named metrics, the better one higher; metrics that print alike decide at last."""
    values = [100 * metrics.get(name, -1) for name in names]
    return [round(value, 1) for value in values] + values


def evenly_spaced(count: int, choices: int) -> np.ndarray:
    """(min(count, choices),) int64: so many different indices below `choices`, rising, as evenly spaced as can be."""
    count = min(count, choices)
    return np.arange(count) * choices // max(count, 1)
