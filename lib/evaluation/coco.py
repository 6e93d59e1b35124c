"""Evaluation on COCO and data sets in its format: COCO's ten keypoint metrics, and PCK on annotated boxes."""

import contextlib
import dataclasses
import importlib.metadata
import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from cvpack.files import read_json, sha256
from lib.datasets.checks import PREPARE
from lib.datasets.coco import CocoTestSet
from lib.datasets.coco_categories import PERSON
from lib.datasets.description import Description
from lib.datasets.records import select
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.cases import Case
from lib.evaluation.evaluator import RESULTS, Evaluator, Resampled, ResultRows, evenly_spaced
from lib.evaluation.ground_truth import MAX_DETECTIONS, GroundTruth, as_arrays, parse_detections, parse_ground_truth
from lib.evaluation.nms import PUBLISHED, Scoring, scored
from lib.evaluation.oks import Evaluation
from lib.evaluation.oks_sections import oks_sections
from lib.evaluation.pckh import BOX_METRICS, box_errors, pck, pck_metrics
from lib.evaluation.precision import coco_metrics
from lib.evaluation.submission import check_coco
from lib.utils.transforms import centers_and_scales

METRICS: tuple[str, ...] = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
SLOW, FAST = 'pycocotools', 'faster-coco-eval'


class CocoEvaluator(Evaluator):
    """COCO's metrics, and PCK on annotated boxes. A row of results.json is a detection in COCO's format."""

    main_metrics = ('AP', 'PCK@0.1', 'PCK@0.05', 'AR')

    def __init__(self, dataset: Description, test_set: CocoTestSet) -> None:
        super().__init__(dataset, test_set)
        self.test_set: CocoTestSet = test_set
        library = _fastest()
        self.library = f'{library} {importlib.metadata.version(library)}'

    @cached_property
    def ground_truth(self) -> GroundTruth:
        """The annotations as arrays."""
        return as_arrays(self.test_set.content, self.test_set.paths, len(self.dataset.joint_names))

    @property
    def _names(self) -> list[str]:
        """Paths, in the image folder, of the images of the ground truth, in the order of its image_ids."""
        return [self.test_set.paths[i] for i in self.ground_truth.image_ids.tolist()]

    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> ResultRows:
        records = self.records
        rows = np.concatenate([keypoints, scores], axis=2).round(4).reshape(len(records), -1)
        kept, instance_scores = scored(records, keypoints, scores[..., 0], scoring)
        return [
            {'image_id': int(image_id), 'category_id': PERSON, 'keypoints': row, 'score': float(score)}
            for image_id, row, score in zip(records.ids[kept], rows[kept].tolist(), instance_scores[kept])
        ]

    def evaluate(self, rows: ResultRows) -> dict[str, float] | None:
        metrics = keypoint_metrics(self.test_set.content, rows, self.dataset.sigmas)
        if metrics is not None and self.records.joints is not None:
            keypoints = np.array([row['keypoints'] for row in rows]).reshape(len(rows), -1, 3)
            metrics |= pck(keypoints, self.records)
        return metrics

    def caveats(self) -> list[str]:
        people = np.bincount(self.ground_truth.image[~self.ground_truth.ignored])
        crowded, most = int((people > MAX_DETECTIONS).sum()), people.max(initial=0)
        counted = f'AP and AR count {MAX_DETECTIONS} detections an image, as for COCO, and cannot reach 100'
        what = f'images with more than {MAX_DETECTIONS} people: {crowded:,}, up to {most}; {counted}'
        return [what] if crowded else []

    def check_submission(self, results: Path) -> list[str]:
        return check_coco(results, self.test_set.ground_truth_file, len(self.dataset.joint_names))

    def sections(self, rows: ResultRows) -> tuple[list[str], list[Case]]:
        detections = parse_detections(rows, Path(RESULTS), self.ground_truth)
        evaluation = Evaluation(self.ground_truth, detections, np.array(self.dataset.sigmas))
        return oks_sections(evaluation, self._names, self.dataset.joint_names, self.dataset.flip_pairs)

    def people(self) -> dict[str, np.ndarray]:
        if 'annotations' not in self.test_set.content:
            return {}
        counted = ~self.ground_truth.ignored
        image, keypoints = self.ground_truth.image[counted], self.ground_truth.keypoints[counted]
        return {self._names[i]: keypoints[image == i] for i in np.unique(image).tolist()}

    def subset(self, images: int) -> 'CocoEvaluator':
        """A subset of all images; detections in images without people are false positives."""
        content, paths = self.test_set.content, self.test_set.paths
        ids = np.array(sorted(paths))
        ids = ids[evenly_spaced(images, len(ids))]
        chosen = set(ids.tolist())
        smaller = {
            'images': [image for image in content['images'] if image['id'] in chosen],
            'annotations': [person for person in content['annotations'] if person['image_id'] in chosen],
        }
        test_set = dataclasses.replace(
            self.test_set,
            records=select(self.records, np.isin(self.records.ids, ids) & bool(smaller['annotations'])),
            content=content | smaller,
            paths={image_id: path for image_id, path in paths.items() if image_id in chosen},
        )
        return CocoEvaluator(self.dataset, test_set)

    @classmethod
    def resampled(cls, path: Path, content: dict[str, Any], ground_truth: Path, results: Path) -> Resampled:
        try:
            sigmas = np.array(content['sigmas'], np.float64)
        except (TypeError, ValueError):
            raise InputError(f'{path}: sigmas should be numbers: run the test again') from None
        annotations = read_json(ground_truth, f'{PREPARE}, or name it with --truth')
        people = parse_ground_truth(annotations, ground_truth, len(sigmas))
        rows = read_json(results, 'run the test again')
        names: tuple[str, ...] = METRICS
        parts = [coco_metrics(Evaluation(people, parse_detections(rows, results, people), sigmas))]
        if BOX_METRICS[0] in content['metrics']:
            names += BOX_METRICS
            parts.append(_resampled_pck(rows, results, people))
        return Resampled(
            names,
            lambda weights: np.concatenate([part(weights) for part in parts]),
            people.image_ids.tolist(),
            (sha256(ground_truth), *sigmas.tolist()),
        )


def _resampled_pck(rows: ResultRows, results: Path, ground_truth: GroundTruth) -> Metrics:
    """PCK from results on annotated boxes: rows have one for each person, in the order of the annotations."""
    people = np.flatnonzero(~ground_truth.ignored)  # sorted by image; within an image in the order of the annotations
    if len(rows) != len(people):
        raise InputError(
            f'{results} has {len(rows)} people, but the ground truth has {len(people)} annotated boxes: run the test '
            'again'
        )
    rows = sorted(rows, key=lambda row: row['image_id'])
    keypoints = ground_truth.keypoints[people].astype(np.float32)
    predictions = np.array([row['keypoints'] for row in rows], np.float64).reshape(keypoints.shape)
    scale = centers_and_scales(ground_truth.boxes[people])[1]
    errors = box_errors(predictions, keypoints[..., :2], keypoints[..., 2], scale)
    return pck_metrics(errors, ground_truth.image[people], len(ground_truth.image_ids))


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


def keypoint_metrics(
    content: dict[str, Any], rows: ResultRows, sigmas: tuple[float, ...], library: str | None = None
) -> dict[str, float] | None:
    """METRICS of people in 0 .. 1, -1 where there is nothing to measure; None without annotations (COCO's test-dev).

    content: of an annotation file, checked; rows: of results.json; sigmas: (K,) the joints' OKS constants
    library: 'pycocotools', 'faster-coco-eval' (same results), or None: the fastest that is installed
    """
    if not content.get('annotations'):
        return None
    dataset, judge = _classes(library or _fastest())
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = dataset()
        # Both libraries modify their input.
        ground_truth.dataset = content | {'annotations': [dict(person) for person in content['annotations']]}
        ground_truth.createIndex()
        evaluation = judge(ground_truth, ground_truth.loadRes([dict(row) for row in rows]), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.catIds = [PERSON]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, np.asarray(evaluation.stats)[: len(METRICS)].tolist()))
