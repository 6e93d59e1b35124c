"""The evaluation of COCO and data sets in its format: its ten keypoint metrics, and PCK on annotated boxes."""

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
from lib.evaluation import pck
from lib.evaluation.bootstrap import Metrics
from lib.evaluation.cases import Case
from lib.evaluation.evaluator import RESULTS, Evaluator, Resampled, Rows, evenly_spaced
from lib.evaluation.ground_truth import GroundTruth, as_arrays, parse_detections, parse_ground_truth
from lib.evaluation.nms import PUBLISHED, Scoring, scored
from lib.evaluation.oks import Evaluation
from lib.evaluation.oks_sections import oks_sections
from lib.evaluation.precision import coco_metrics
from lib.evaluation.submission import check_coco
from lib.utils.transforms import centers_and_scales

METRICS: tuple[str, ...] = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
SLOW, FAST = 'pycocotools', 'faster-coco-eval'


class CocoEvaluator(Evaluator):
    """AP and its kin, and PCK where the boxes are annotated. A row of results.json is a detection, as COCO has it."""

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
        """Of the images of the ground truth, in its order: paths in the image folder."""
        return [self.test_set.paths[i] for i in self.ground_truth.image_ids.tolist()]

    def rows(self, keypoints: np.ndarray, scores: np.ndarray, scoring: Scoring = PUBLISHED) -> Rows:
        records = self.records
        rows = np.concatenate([keypoints, scores], axis=2).round(4).reshape(len(records), -1)
        kept, instance_scores = scored(records, keypoints, scores[..., 0], scoring)
        return [
            {'image_id': int(image_id), 'category_id': PERSON, 'keypoints': row, 'score': float(score)}
            for image_id, row, score in zip(records.ids[kept], rows[kept].tolist(), instance_scores[kept])
        ]

    def evaluate(self, rows: Rows) -> dict[str, float] | None:
        """COCO's ten keypoint metrics under the data set's sigmas, and PCK where the boxes are annotated."""
        metrics = keypoint_metrics(self.test_set.content, rows, self.dataset.sigmas)
        if metrics is not None and self.records.joints is not None:
            keypoints = np.array([row['keypoints'] for row in rows]).reshape(len(rows), -1, 3)
            metrics |= pck.pck(keypoints, self.records)
        return metrics

    def check_submission(self, results: Path) -> list[str]:
        return check_coco(results, self.test_set.ground_truth_file, len(self.dataset.joint_names))

    def sections(self, rows: Rows) -> tuple[list[str], list[Case]]:
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
        """Chosen from all images, also those without people: what is found in them are false alarms."""
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
            raise InputError(f'{path}: sigmas should be numbers: test again') from None
        annotations = read_json(ground_truth, f'{PREPARE}, or name it with --truth')
        people = parse_ground_truth(annotations, ground_truth, len(sigmas))
        rows = read_json(results, 'test again')
        names: tuple[str, ...] = METRICS
        parts = [coco_metrics(Evaluation(people, parse_detections(rows, results, people), sigmas))]
        if pck.METRICS[0] in content['metrics']:
            names += pck.METRICS
            parts.append(_resampled_pck(rows, results, people))
        return Resampled(
            names,
            lambda weights: np.concatenate([part(weights) for part in parts]),
            people.image_ids.tolist(),
            (sha256(ground_truth), *sigmas.tolist()),
        )


def _resampled_pck(rows: Rows, results: Path, ground_truth: GroundTruth) -> Metrics:
    """Of the rows of results for the annotated boxes: one for each person, in the order of the annotations."""
    people = np.flatnonzero(~ground_truth.ignored)  # by image, in it in that order
    if len(rows) != len(people):
        raise InputError(
            f'{results} has {len(rows)} people, the ground truth {len(people)} annotated boxes: one of them is of '
            'another test: test again'
        )
    rows = sorted(rows, key=lambda row: row['image_id'])
    keypoints = ground_truth.keypoints[people].astype(np.float32)
    predictions = np.array([row['keypoints'] for row in rows], np.float64).reshape(keypoints.shape)
    scale = centers_and_scales(ground_truth.boxes[people])[1]
    errors = pck.box_errors(predictions, keypoints[..., :2], keypoints[..., 2], scale)
    return pck.pck_metrics(errors, ground_truth.image[people], len(ground_truth.image_ids))


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
    content: dict[str, Any], rows: Rows, sigmas: tuple[float, ...], library: str | None = None
) -> dict[str, float] | None:
    """METRICS, in 0 .. 1, -1 where there is nothing to measure; of people: other categories are left alone.

    content: of a file of annotations, checked; rows: of results.json; sigmas: (K,) the joints' OKS constants
    library: 'pycocotools', 'faster-coco-eval', which finds the same, or None: the fastest there is
    None where there are no annotations, as COCO's test-dev has none that are public.
    """
    if not content.get('annotations'):
        return None
    dataset, judge = _classes(library or _fastest())
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = dataset()
        # Both libraries write into what they are given.
        ground_truth.dataset = content | {'annotations': [dict(person) for person in content['annotations']]}
        ground_truth.createIndex()
        evaluation = judge(ground_truth, ground_truth.loadRes([dict(row) for row in rows]), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.catIds = [PERSON]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, np.asarray(evaluation.stats)[: len(METRICS)].tolist()))
