"""lib.tools.check_data on a data set, in this process."""

from pathlib import Path

import cv2
import numpy as np

from lib.config import coco_defaults
from lib.datasets.checks import Issue
from lib.tools.check_data import __main__ as check_data

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
JPEG = cv2.imencode('.jpg', PIXELS)[1].tobytes()


def found(root: Path, *splits: str, workers: int = 2, defaults=coco_defaults) -> check_data.Findings:
    """What there is to find in splits ('train' if none is named) of a data set in COCO's or MPII's layout."""
    cfg = defaults()
    cfg.DATASET.ROOT = str(root)
    return check_data.check(cfg, splits or ('train',), workers)


def counts(findings: check_data.Findings) -> dict[Issue, int]:
    """The number of findings of each issue, without zeros."""
    return {issue: len(messages) for issue, messages in findings.messages.items() if messages}


def first(findings: check_data.Findings, issue: Issue) -> str:
    """The first message of an issue."""
    return next(iter(findings.messages[issue]))
