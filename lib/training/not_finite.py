"""The report of a run whose losses or gradients are not finite: the images and losses of the iteration."""

import math
from pathlib import Path
from typing import cast

from torch.utils.data import DataLoader

from cvpack import dist
from cvpack.checkpoint_order import newest_saved
from cvpack.errors import NotFinite
from cvpack.files import write_json
from cvpack.samplers import TrainBatchSampler
from lib.datasets.joints import TrainSamples
from lib.training.trainer import Trainer


def explain(trainer: Trainer, error: NotFinite, loader: DataLoader) -> NotFinite:
    """Writes the images and losses of the iteration on every rank to a file; returns the error with its name.

    To be called on every rank, when no checkpoint is being written.
    """
    accumulate = trainer.cfg.SOLVER.ACCUM_STEPS
    first = (error.iteration - trainer.start_iteration - 1) * accumulate
    batches = [cast(TrainBatchSampler, loader.batch_sampler).batch(first + number) for number in range(accumulate)]
    records = cast(TrainSamples, loader.dataset).records
    here = {
        'rank': dist.rank(),
        'losses': {name: value if math.isfinite(value) else str(value) for name, value in error.losses.items()},
        'images': [str(records.path(index)) for batch in batches for index, _ in batch],
    }
    ranks = dist.gather(here)
    file = Path(trainer.cfg.OUTPUT_DIR) / f'not-finite-iter-{error.iteration}.json'

    def report() -> str:
        try:
            write_json(file, {'iteration': error.iteration, 'ranks': ranks})
            where = f'its images and losses are in {file}'
        except OSError as full:
            where = f'its images and losses cannot be written to {file} ({full.strerror or full})'
        return f'{where}; {newest_saved(file.parent)}'

    return NotFinite(
        error.iteration,
        error.losses,
        f'{error}: {dist.agree(report)}; check the images, lower SOLVER.BASE_LR, or set another SOLVER.PRECISION',
    )
