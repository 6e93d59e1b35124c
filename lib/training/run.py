"""A training run: iterations, log, checkpoints, validation."""

import logging
from collections.abc import Callable
from pathlib import Path

from cvpack import checkpoint, dist
from cvpack.errors import InputError, NotFinite, Preempted
from cvpack.files import remove_unfinished, write_json
from cvpack.logger import DataTimer, TrainLog
from cvpack.preemption import StopRequest
from cvpack.prefetch import Prefetch
from cvpack.trainer import train_loop
from lib.config import git_revision, to_plain, writing
from lib.datasets.joints import TrainSamples
from lib.loader import train_loader
from lib.training.not_finite import explain
from lib.training.trainer import Trainer

# The run's log and the writer of its checkpoints -> a function that validates a saved iteration.
BuildValidation = Callable[[TrainLog, checkpoint.Writer], Callable[[int], None]]


def run(
    trainer: Trainer,
    samples: TrainSamples,
    logger: logging.Logger,
    stop: StopRequest,
    build_validation: BuildValidation | None,
) -> None:
    """Trains to the end. Checkpoints that are being written are completed in any case.

    Raises NotFinite where losses or gradients are not finite, Preempted where the process was asked to stop, and
    InputError where files cannot be written.
    """
    cfg, schedule, start = trainer.cfg, trainer.schedule, trainer.start_iteration
    plan = f'iterations {start + 1} to {schedule.max_iter}, warm-up to {schedule.warmup_iters}'
    if start >= schedule.max_iter:
        plan = f'all {schedule.max_iter} iterations are done'
    logger.info(f'{len(samples)} people to train on; {plan}')
    accumulate = cfg.SOLVER.ACCUM_STEPS
    loader = train_loader(cfg, samples, trainer.start_samples, max(schedule.max_iter - start, 0) * accumulate)
    timer = DataTimer(loader)
    with writing(cfg):
        keep_config(trainer)
        if dist.is_main():
            remove_unfinished(Path(cfg.OUTPUT_DIR))
        same_batch = trainer.earlier_batch == trainer.samples_an_iteration
        folder, device = Path(cfg.TENSORBOARD_DIR), trainer.device
        log = TrainLog(logger, folder, start, schedule.max_iter, trainer.samples, timer, device, replaces=same_batch)
        writer = checkpoint.Writer(Path(cfg.OUTPUT_DIR), cfg.SOLVER.KEEP_CHECKPOINTS, logger.error)  # rank 0's is used
        validate = build_validation(log, writer) if build_validation else None

    def save(iteration: int) -> None:
        if dist.is_main():
            writer.save(iteration, trainer.state(iteration))
        if validate is not None and not dist.any_rank(stop.requested)[0]:
            validate(iteration)

    try:
        if validate is not None:
            validate(start)  # the resumed run may have ended between saving and validating
        batches = Prefetch(timer, trainer.device)
        train_loop(trainer.step, batches, start, schedule, log, save, accumulate, stop)
    except NotFinite as error:
        dist.on_main(writer.wait)
        raise explain(trainer, error, loader) from None
    except Preempted as stopped:
        _close(writer, f'stopped after iteration {stopped.iteration} as requested, but not saved: ')
        raise
    finally:
        log.close()
        writer.wait()
        trainer.close()
    _close(writer)


def keep_config(trainer: Trainer) -> None:
    """Writes the resolved configuration and the code's revision beside the outputs."""
    if dist.is_main():
        content = {'git_revision': git_revision(), 'config': to_plain(trainer.cfg)}
        write_json(Path(trainer.cfg.OUTPUT_DIR) / 'config.json', content)


def _close(writer: checkpoint.Writer, ending: str = '') -> None:
    """Waits, on every rank, for the last checkpoint; raises InputError on all if it could not be written.

    If a process exited before, the launcher would end the one that is still writing.
    """

    def close() -> None:
        try:
            writer.close()
        except InputError as error:
            raise InputError(f'{ending}{error}') from None

    dist.on_main(writer.wait)
    dist.agree(close)
