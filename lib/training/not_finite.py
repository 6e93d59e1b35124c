"""What a run says whose numbers are no longer finite: which images it was at, with which losses."""

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
    """Writes which images of which ranks the iteration had, with their losses; returns the error that says so.

    To be called on every rank, once no checkpoint is being written any more.
    """
    accumulate = trainer.cfg.SOLVER.ACCUM_STEPS
    first = (error.iteration - trainer.start - 1) * accumulate
    batches = [cast(TrainBatchSampler, loader.batch_sampler).batch(first + number) for number in range(accumulate)]
    records = cast(TrainSamples, loader.dataset).records
    own = {
        'rank': dist.rank(),
        'losses': {name: value if math.isfinite(value) else str(value) for name, value in error.losses.items()},
        'images': [str(records.path(index)) for batch in batches for index, _ in batch],
    }
    ranks = dist.gather(own)
    file = Path(trainer.cfg.OUTPUT_DIR) / f'not-finite-iter-{error.iteration}.json'

    def report() -> str:
        try:
            write_json(file, {'iteration': error.iteration, 'ranks': ranks})
            where = f'its images and losses are in {file}'
        except OSError as full:
            where = f'its images and losses could not be written to {file} ({full.strerror or full})'
        return f'{where}; {newest_saved(file.parent)}'

    return NotFinite(
        error.iteration,
        error.losses,
        f'{error}: {dist.agree(report)}; look at the images, lower SOLVER.BASE_LR, or train in another '
        'SOLVER.PRECISION',
    )
