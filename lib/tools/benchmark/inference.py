"""Section test: how much of the test loop is not the network."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.datasets.records import Records
from lib.inference import build_estimator, predict
from lib.loader import test_loader
from lib.models.mspn import build_mspn
from lib.tools.benchmark.measure import Options, Row, take_turns

# So many that the loop's start and end hardly count.
BATCHES = {'cpu': 8, 'cuda': 128}
REACH = {'cpu': '<= 0.1', 'cuda': '<= 0.25'}


def test(options: Options) -> Iterator[Row]:
    """The test loop with flip test, from JPEGs to joints, against the network's forward passes alone."""
    options.needs_data()
    people = CocoReader(COCO.at(options.root)).test_set('val', gt_boxes=True).records
    records = _repeated(people, BATCHES[options.device.type], options)
    for precision in ('fp32', 'bf16') if options.has_bf16 else ('fp32',):
        yield from _share_of_the_rest(options, records, precision)


test.__test__ = False  # not a test case, whatever pytest makes of the name


def _repeated(records: Records, batches: int, options: Options) -> Records:
    """As many records as the batches hold: the first ones, or all again and again."""
    indices = np.resize(np.arange(len(records)), batches * options.batch)
    chosen = {name: getattr(records, name)[indices] for name in ('paths', 'center', 'scale', 'ids', 'scores')}
    return dataclasses.replace(records, **chosen)


@torch.inference_mode()
def _share_of_the_rest(options: Options, records: Records, precision: str) -> Iterator[Row]:
    settings = f'TEST.PRECISION={precision}', f'TEST.IMS_PER_GPU={options.batch}'
    cfg, device = options.config(*settings), options.device
    estimator = build_estimator(cfg, build_mspn(cfg), device)
    crops = next(iter(test_loader(cfg, records)))['image'].to(device)

    def forward() -> None:
        for _ in range(BATCHES[device.type]):
            estimator.heatmaps(crops)

    loop, alone = take_turns(
        options.repeats, lambda: predict(cfg, [estimator], records, device), forward, device=device
    )
    speed = len(records) / loop
    what = f'{options.stages} stages, {precision}'
    yield Row('test', f'{what}, flip test, images/s', speed)
    name = f'{what}, loop against forward alone, s; ratio: share of the rest'
    yield Row('test', name, loop, alone, (loop - alone) / loop, REACH[device.type])
