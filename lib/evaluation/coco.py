"""COCO's ten keypoint figures, by faster-coco-eval if installed, else by pycocotools, which is the same; and PCK."""

import contextlib
import importlib.metadata
import io
from pathlib import Path
from typing import Any

import numpy as np

from lib.datasets.coco_categories import PERSON
from lib.datasets.joints import Records
from lib.utils.transforms import PIXELS_PER_SCALE

METRICS = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
# So many detections of an image count, those of the highest scores.
MAX_DETECTIONS = 20
PCK_THRESHOLDS = (0.1, 0.05)  # of the longer side of the box
SLOW, FAST = 'pycocotools', 'faster-coco-eval'


def _fastest() -> str:
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError:
        return SLOW
    return FAST


def _classes(library: str) -> tuple[Any, Any]:
    """A library's COCO and COCOeval."""
    if library == FAST:
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def evaluator() -> str:
    """What `keypoint_figures` computes with: a package and its version."""
    library = _fastest()
    return f'{library} {importlib.metadata.version(library)}'


def keypoint_metrics(
    ground_truth_file: Path, results: Path, sigmas: tuple[float, ...], library: str | None = None
) -> dict[str, float] | None:
    """The ten figures of a results.json, in 0 .. 1, -1 where there is nothing to measure.

    Those of people: annotations of other categories are left alone.

    sigmas: (K,) the joints' OKS constants; library: 'pycocotools', 'faster-coco-eval', or None: the fastest there is
    None where the truth has no annotations, as COCO's test-dev has none that are public.
    """
    dataset, judge = _classes(library or _fastest())
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = dataset(str(ground_truth_file))
        if not ground_truth.anns:
            return None
        evaluation = judge(ground_truth, ground_truth.loadRes(str(results)), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.catIds = [PERSON]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, np.asarray(evaluation.stats)[: len(METRICS)].tolist()))


def pck(predictions: np.ndarray, records: Records) -> dict[str, float]:
    """Percentage of correct keypoints (Yang and Ramanan, PAMI 2013), in 0 .. 1: the share of labelled joints within
    0.1 and 0.05 of the longer side of the person's box.

    predictions: (n, K, 3), x, y in image pixels and score, of the records' people
    """
    errors = box_errors(predictions, records.joints, records.visibility, records.scale)
    errors = errors[np.isfinite(errors)]
    return {f'PCK@{share}': float((errors <= share).mean()) for share in PCK_THRESHOLDS}


def box_errors(predictions: np.ndarray, joints: np.ndarray, visibility: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, K) distances to the truth in units of the longer side of the person's box; NaN for joints not labelled.

    predictions: as pck's; joints (n, K, 2), visibility (n, K) and scale (n, 2): as in Records
    """
    longer = scale.max(axis=1, keepdims=True) * PIXELS_PER_SCALE
    errors = np.linalg.norm(predictions[..., :2] - joints, axis=2) / longer
    return np.where(visibility > 0, errors, np.nan)
