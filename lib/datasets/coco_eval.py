"""COCO's ten keypoint figures, by faster-coco-eval where it is installed, else by pycocotools: they are the same."""

import contextlib
import importlib.metadata
import io
from pathlib import Path
from typing import Any

import numpy as np

from lib.datasets.coco_categories import PERSON

FIGURES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
# So many detections of an image count, those of the highest scores.
MOST_DETECTIONS = 20
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


def keypoint_figures(
    truth_file: Path, results: Path, sigmas: tuple[float, ...], library: str | None = None
) -> dict[str, float] | None:
    """The ten figures of a results.json, in 0 .. 1, -1 where there is nothing to measure.

    Those of people: annotations of other categories are left alone.

    sigmas: (K,) the joints' OKS constants; library: 'pycocotools', 'faster-coco-eval', or None: the fastest there is
    None where the truth has no annotations, as COCO's test-dev has none that are public.
    """
    dataset, judge = _classes(library or _fastest())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = dataset(str(truth_file))
        if not truth.anns:
            return None
        evaluation = judge(truth, truth.loadRes(str(results)), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.catIds = [PERSON]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, np.asarray(evaluation.stats)[: len(FIGURES)].tolist()))
