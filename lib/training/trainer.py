"""A training run of an experiment: what it computes, saves and goes on from."""

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from cvpack import checkpoint, dist
from cvpack.counters import CountedTogether
from cvpack.ema import EMA
from cvpack.errors import InputError, OtherRun
from cvpack.files import write_json
from cvpack.logger import LOGGER
from cvpack.order import in_order
from cvpack.precision import autocast
from cvpack.replay import Replay, on_stream
from cvpack.solver import Schedule, build_optimizer, load_optimizer, scale_schedule
from cvpack.trainer import Losses, TrainStep
from lib.config import REFERENCE_GPUS, git_revision, to_plain
from lib.models.bias import drop_biases, zero_gradients
from lib.models.compiled import compile_blocks
from lib.models.loss import build_loss
from lib.models.normalize import build_normalize, memory_format
from lib.models.own import refuse_other_network
from lib.models.weights import check_state, load_state
from lib.utils import heatmap
from lib.utils.codec import trained_codec

# Steps before one is captured; DistributedDataParallel takes so many to settle.
WARM_UP, WARM_UP_PARALLEL = 3, 11


def build_schedule(cfg: EasyDict) -> Schedule:
    """The learning rate of this run's number of processes and batches."""
    s = cfg.SOLVER
    gpus = dist.world_size() * s.ACCUM_STEPS
    return scale_schedule(
        s.BASE_LR, s.MAX_ITER, s.CHECKPOINT_PERIOD, s.WARMUP_ITERS, s.WARMUP_FACTOR, gpus, REFERENCE_GPUS
    )


def keep_config(cfg: EasyDict) -> None:
    """Writes the resolved configuration and the code's revision beside the outputs."""
    if dist.is_main():
        content = {'git_revision': git_revision(), 'config': to_plain(cfg)}
        write_json(Path(cfg.OUTPUT_DIR) / 'config.json', content)


@contextlib.contextmanager
def _too_few_values_refused(cfg: EasyDict) -> Iterator[None]:
    """Raises InputError where a BatchNorm of the network, whichever that is, gets a single value to normalise."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # the latter of a compiled network
        if 'more than 1 value per channel' not in str(error):
            raise
        shape, images = list(cfg.INPUT_SHAPE), cfg.SOLVER.IMS_PER_GPU
        raise InputError(
            f'INPUT_SHAPE = {shape} and SOLVER.IMS_PER_GPU = {images} leave a BatchNorm one value a channel, '
            'which it cannot train on: make the one or the other larger'
        ) from None


class Trainer:
    """The state of a training run: network, optimiser, gradient scaler, moving average; what it computes and saves."""

    def __init__(self, cfg: EasyDict, model: nn.Module, schedule: Schedule, device: torch.device) -> None:
        self.cfg, self.schedule, self.device = cfg, schedule, device
        solver = cfg.SOLVER
        self.dropped = drop_biases(model) if solver.DROP_BIAS else []
        if cfg.MODEL.SYNC_BN and dist.is_distributed():
            if device.type != 'cuda':
                raise InputError('MODEL.SYNC_BN works on CUDA devices only: set it to False on a CPU')
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.to(device, memory_format=memory_format(cfg)).train()
        replayed = self._is_replayed()
        self.optimizer = build_optimizer(
            solver.OPTIMIZER, self.model.parameters(), solver.WEIGHT_DECAY, solver.MOMENTUM, capturable=replayed
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=solver.PRECISION == 'fp16')
        self.ema = None
        if solver.EMA:
            self.ema = EMA(self.model, solver.EMA)
        if solver.COMPILE:
            compile_blocks(self.model)
        stream = torch.cuda.Stream(device) if replayed else None
        with on_stream(stream):  # gradients are summed on the stream that their network was wrapped on
            self.parallel = self._parallel()
        self.counted = CountedTogether(self.model)
        self.normalize, self.criterion = build_normalize(cfg).to(device), build_loss(cfg)
        self.step = TrainStep(self.losses, self.optimizer, schedule, self.scaler, self.parallel, self.ema, solver.SEED)
        if replayed:
            warm_up = WARM_UP_PARALLEL if dist.is_distributed() else WARM_UP
            say, option = logging.getLogger(LOGGER).info, 'SOLVER.CUDA_GRAPH'
            self.step.compute = Replay(self.step.compute, device, warm_up, option, say, stream)
        self.samples_an_iteration = solver.IMS_PER_GPU * dist.world_size() * solver.ACCUM_STEPS
        self.start, self.first = 0, 0  # where in the run this process began, and its position in the data
        self.earlier_batch = self.samples_an_iteration  # of the checkpoint that this run goes on from

    def _is_replayed(self) -> bool:
        """Whether steps are replayed as a CUDA graph; the log says why not."""
        if not self.cfg.SOLVER.CUDA_GRAPH:
            return False
        fp16 = "fp16's scale of gradients changes from step to step"
        holds = {'there is no GPU': self.device.type != 'cuda', fp16: self.cfg.SOLVER.PRECISION == 'fp16'}
        for reason in (reason for reason in holds if holds[reason]):
            logging.getLogger(LOGGER).info(f'SOLVER.CUDA_GRAPH: no CUDA graph, since {reason}')
        return not any(holds.values())

    def _parallel(self) -> nn.Module:
        """The network as every process calls it; statistics of BatchNorm stay each process's own."""
        if not dist.is_distributed():
            return self.model
        ddp = nn.parallel.DistributedDataParallel
        # torch 2.14 gave the option a new name.
        names = inspect.signature(ddp).parameters
        buffers = 'forward_sync_buffers' if 'forward_sync_buffers' in names else 'broadcast_buffers'
        device_ids = [self.device.index] if self.device.type == 'cuda' else None
        return ddp(self.model, device_ids=device_ids, gradient_as_bucket_view=True, **{buffers: False})

    def losses(self, batch: dict[str, torch.Tensor]) -> Losses:
        """One batch of train_loader -> the losses; targets are drawn here, on the device."""
        cfg, device = self.cfg, self.device
        image, keypoints = (batch[name].to(device, non_blocking=True) for name in ('image', 'keypoints'))
        joints, visibility = keypoints.split([2, 1], dim=-1)
        labels = heatmap.encode(
            joints, visibility, cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS, cfg.CODEC
        )
        with autocast(device.type, cfg.SOLVER.PRECISION), _too_few_values_refused(cfg), self.counted:
            outputs = self.parallel(self.normalize(image))
        losses = self.criterion(outputs, visibility, labels)
        if self.dropped:
            losses['total_loss'] = zero_gradients(losses['total_loss'], self.dropped)
        return losses

    def close(self) -> None:
        """Frees what would keep the process group from closing."""
        if isinstance(self.step.compute, Replay):
            self.step.compute.release()

    def network_to_test(self) -> nn.Module:
        """A copy, the moving average's where there is one, with the statistics that a checkpoint holds: rank 0's."""
        copied = copy.deepcopy(self.model if self.ema is None else self.ema.module)
        statistics = dist.broadcast({name: value.cpu() for name, value in copied.named_buffers()})
        copied.load_state_dict(statistics, strict=False)
        return copied

    def samples(self, iteration: int) -> int:
        """How many samples training has seen by the end of an iteration; those before `start` had other batches."""
        return self.first + (iteration - self.start) * self.samples_an_iteration

    def iteration(self, samples: int) -> int:
        """The iteration of the present batches by whose end so many samples have been seen."""
        return self.start + round((samples - self.first) / self.samples_an_iteration)

    def state(self, iteration: int) -> dict[str, Any]:
        """What a checkpoint of an iteration holds: the published code's keys, and what else resuming needs."""
        state: dict[str, Any] = {
            'model': self.model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'scheduler': asdict(self.schedule),
            'iteration': iteration,
            'samples': self.samples(iteration),
            'samples_an_iteration': self.samples_an_iteration,
            'config': to_plain(self.cfg),
            'git_revision': git_revision(),
        }
        if self.ema is not None:
            state['ema'] = self.ema.module.state_dict()
            state['ema_updates'] = torch.tensor(self.ema.updates)
        if self.scaler.is_enabled():
            state['scaler'] = self.scaler.state_dict()
        return state

    def resume(self, path: Path, logger: logging.Logger) -> None:
        """Takes everything from a checkpoint, ours or the published code's.

        A run of another global batch keeps its place in the data; its iteration is that place in its own batches.
        Raises InputError, before anything is changed, if the file cannot be gone on from.
        """
        state = checkpoint.load(path)
        missing = [key for key in ('optimizer', 'iteration') if key not in state]
        if missing:
            raise InputError(f'{path} has no {missing[0]!r}: it holds weights alone, which -c cannot go on from')
        if trained_codec(state) != self.cfg.CODEC:
            raise OtherRun(f'{path} was trained with CODEC {trained_codec(state)}: set that, or begin a new run')
        refuse_other_network(state, self.cfg, path)
        weights = check_state(self.model, state, path)
        load_optimizer(self.optimizer, state['optimizer'], path, 'SOLVER.OPTIMIZER')
        self.model.load_state_dict(weights)
        if self.ema is not None and 'ema' in state:
            load_state(self.ema.module, state['ema'], path)
            self.ema.updates = int(state['ema_updates'])
        elif self.ema is not None:
            logger.info(f'{path} has no moving average of the weights: it begins here')
        if self.scaler.is_enabled() and 'scaler' in state:
            self.scaler.load_state_dict(state['scaler'])
        self._take_place(path, state, logger)

    def resume_newest(self, folder: Path, logger: logging.Logger) -> bool:
        """Goes on from the newest checkpoint in the folder that can be gone on from; says which could not.

        Raises InputError where a newer one is of another run, which must not be mixed with this one.
        """
        chosen = dist.agree(lambda: self._resume_first_good(folder, logger))
        if chosen is None:
            logger.info(f'{folder} has no checkpoint to go on from: a fresh start')
            return False
        if not dist.is_main():
            self.resume(chosen, logger)
        logger.info(f'going on from {chosen}')
        return True

    def _resume_first_good(self, folder: Path, logger: logging.Logger) -> Path | None:
        """Rank 0's part of resume_newest; the checkpoint that was good."""
        for saved in reversed(in_order(folder)):
            try:
                self.resume(saved.path, logger)
                return saved.path
            except OtherRun as error:
                raise InputError(f'{error}; or choose another folder with --set OUTPUT_DIR=...') from None
            except InputError as error:
                logger.info(f'{error}; trying the checkpoint before')
        return None

    def _take_place(self, path: Path, state: dict[str, Any], logger: logging.Logger) -> None:
        batch = state.get('samples_an_iteration', self.samples_an_iteration)
        self.start, self.earlier_batch = state['iteration'], batch
        self.first = state.get('samples', self.start * batch)
        if batch != self.samples_an_iteration:
            self.start = self.first // self.samples_an_iteration
            logger.info(
                f'{path}: {self.first} samples in batches of {batch} are behind it; going on with batches of '
                f'{self.samples_an_iteration}, at iteration {self.start} of {self.schedule.max_iter}'
            )
        was = state.get('scheduler', {})
        changed = [key for key, value in asdict(self.schedule).items() if was.get(key, value) != value]
        if changed:
            logger.info(f'{path} was trained under another {", ".join(changed)}: going on with {self.schedule}')
