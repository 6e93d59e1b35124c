"""The evaluator of each data set format."""

from lib.datasets.description import Description
from lib.datasets.records import TestSet
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.mpii import MpiiEvaluator

EVALUATORS: dict[str, type[Evaluator]] = {'COCO': CocoEvaluator, 'MPII': MpiiEvaluator}


def evaluator_of(dataset: Description, test_set: TestSet) -> Evaluator:
    """The evaluator of a test set, by the format of its data set."""
    return EVALUATORS[dataset.format](dataset, test_set)
