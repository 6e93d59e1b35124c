"""The interface of evaluation, implemented for each data set format in coco.py and mpii.py."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cvpack.files import atomic_write
from lib.datasets.description import Description
from lib.datasets.records import Records, TestSet
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.cases import Case
from lib.evaluation.nms import PUBLISHED, Scoring

RESULTS = 'results.json'
ResultRows = list[dict[str, Any]]


@dataclass
class Resampled:
    """An earlier test, read from its files for comparison.

    names:   of its metrics; every test has the first
    metrics: how often each image counts -> (m,) in 0 .. 1
    images:  their names or ids
    measure: what must be equal for metrics to be comparable: the SHA-256 of the ground truth, and the sigmas
    """

    names: Sequence[str]
    metrics: Metrics
    images: list
    measure: tuple


class Evaluator(ABC):
    """Evaluates predictions on a split of a data set.

    main_metrics: rank tests: the first that differs as printed decides. Every evaluation has the first.
    library:      name and version of the library that computes the metrics; None: this project does
    """

    main_metrics: ClassVar[tuple[str, ...]]
    library: str | None = None

    def __init__(self, dataset: Description, test_set: TestSet) -> None:
        self.dataset, self.test_set = dataset, test_set

    @property
    def records(self) -> Records:
        """The people to test."""
        return self.test_set.records

    @abstractmethod
    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> ResultRows:
        """The rows of results.json, which are also what is evaluated.

        keypoints (n, K, 2) in image pixels, scores (n, K, 1), of the records
        scoring: how people are scored and suppressed
        """

    def write(self, rows: ResultRows, folder: Path) -> Path:
        """Writes results.json and, where a server takes another file, that too; returns its path. Raises OSError."""
        path = folder / RESULTS
        with atomic_write(path) as file:
            file.write(json.dumps(rows).encode())
        return path

    @abstractmethod
    def evaluate(self, rows: ResultRows) -> dict[str, float] | None:
        """The metrics in 0 .. 1, -1 where there is nothing to measure; None without ground truth."""

    def caveats(self) -> list[str]:
        """What to know of the metrics, a line each."""
        return []

    @abstractmethod
    def check_submission(self, results: Path) -> list[str]:
        """Raises InputError for files of `write` that a server would reject; returns warnings about the others."""

    @abstractmethod
    def sections(self, rows: ResultRows) -> tuple[list[str], list[Case]]:
        """The sections of a report as HTML, and cases to show. Needs ground truth."""

    @abstractmethod
    def people(self) -> dict[str, np.ndarray]:
        """The labelled people of each image: path in the image folder -> (people, K, 3), x, y, visibility."""

    @abstractmethod
    def subset(self, images: int) -> 'Evaluator':
        """The evaluator of at most so many images, evenly spaced, with all the people in them.

        A subset of images, not of boxes: AP would count people whose boxes were left out as missed.
        """

    @classmethod
    @abstractmethod
    def resampled(cls, path: Path, content: dict[str, Any], ground_truth: Path, results: Path) -> Resampled:
        """An earlier test. Raises InputError for files that do not fit together.

        path, content: of its metrics.json; ground_truth, results: where the files that it names are now
        """


def format_metrics(metrics: dict[str, float]) -> dict[str, str]:
    """The metrics as printed: per cent with one decimal, a dash where there is nothing to measure."""
    return {name: f'{100 * value:.1f}' if value >= 0 else '-' for name, value in metrics.items()}


def fractions(metrics: dict[str, float], is_earlier: bool) -> dict[str, float]:
    """The metrics in 0 .. 1. is_earlier: a version wrote them that had PCKh, which has a Mean, in per cent."""
    is_percent = is_earlier and 'Mean' in metrics
    return {name: value / 100 for name, value in metrics.items()} if is_percent else metrics


def rank(metrics: dict[str, float], names: Sequence[str]) -> list[float]:
    """The sort key of a test, higher is better: the named metrics as printed, then in full precision."""
    values = [100 * metrics.get(name, -1) for name in names]
    return [round(value, 1) for value in values] + values


def evenly_spaced(count: int, choices: int) -> np.ndarray:
    """(min(count, choices),) int64: different indices below `choices`, rising, evenly spaced."""
    count = min(count, choices)
    return np.arange(count) * choices // max(count, 1)
