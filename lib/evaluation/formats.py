"""Which class evaluates which format of data sets."""

from lib.datasets.description import Description
from lib.datasets.records import TestSet
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.mpii import MpiiEvaluator

EVALUATORS: dict[str, type[Evaluator]] = {'COCO': CocoEvaluator, 'MPII': MpiiEvaluator}


def evaluator_of(dataset: Description, test_set: TestSet) -> Evaluator:
    """The evaluation of a test set that the data set's reader has read."""
    return EVALUATORS[dataset.format](dataset, test_set)
