"""The state of a training run: its step, what its checkpoints hold, and how it is resumed."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from cvpack import checkpoint, dist
from cvpack.cuda_graph import CudaGraph, on_stream
from cvpack.ema import EMA
from cvpack.errors import InputError, OtherRun
from cvpack.logger import LOGGER
from cvpack.solver import Schedule, build_optimizer, load_optimizer, scale_schedule
from cvpack.trainer import TrainStep
from lib.config import git_revision, to_plain
from lib.models.conv_bn import drop_biases
from lib.models.kernels import use_kernels
from lib.models.normalize import memory_format
from lib.models.provenance import refuse_other_network, trained_codec
from lib.models.weights import check_state, load_state
from lib.training.losses import BatchLosses

# Steps before the CUDA graph is captured; DistributedDataParallel needs 11.
WARM_UP, WARM_UP_PARALLEL = 3, 11


def build_schedule(cfg: EasyDict, processes: int | None = None) -> Schedule:
    """The schedule for a number of processes, by default those of this run."""
    s = cfg.SOLVER
    gpus = (processes or dist.world_size()) * s.ACCUM_STEPS
    schedule = Schedule(s.BASE_LR, s.MAX_ITER, s.CHECKPOINT_PERIOD, s.WARMUP_ITERS, s.WARMUP_FACTOR, s.SCHEDULE)
    return scale_schedule(schedule, gpus, s.REFERENCE_GPUS)


class Trainer:
    """A training run: network, optimiser, gradient scaler, EMA, and the position in the data.

    step:                 trains on the batches of an iteration (cvpack/trainer.py)
    start_iteration:      after which this process starts; start_samples: those seen by then
    samples_an_iteration: of all processes
    earlier_batch:        samples_an_iteration of the checkpoint that was resumed
    """

    def __init__(self, cfg: EasyDict, model: nn.Module, schedule: Schedule, device: torch.device) -> None:
        self.cfg, self.schedule, self.device = cfg, schedule, device
        solver = cfg.SOLVER
        unbiased = drop_biases(model) if solver.DROP_BIAS else []
        if cfg.MODEL.SYNC_BN and dist.is_distributed():
            if device.type != 'cuda':
                raise InputError('MODEL.SYNC_BN works on CUDA devices only: set it to False on a CPU')
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.to(device).to(memory_format=memory_format(cfg)).train()
        if _can_use(cfg, 'TRITON', 'no kernels of our own', device):
            use_kernels(self.model)
        captures = _captures_steps(cfg, device)
        self.optimizer = build_optimizer(
            solver.OPTIMIZER, self.model.parameters(), solver.WEIGHT_DECAY, solver.MOMENTUM, capturable=captures
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=solver.PRECISION == 'fp16')
        self.ema = EMA(self.model, solver.EMA) if solver.EMA else None
        stream = torch.cuda.Stream(device) if captures else None
        with on_stream(stream):  # DistributedDataParallel reduces gradients on the stream of its construction
            network = dist.parallel(self.model, device)
        losses = BatchLosses(cfg, network, device, unbiased)
        self.step = TrainStep(losses, self.optimizer, schedule, self.scaler, network, self.ema, solver.SEED)
        if captures:
            warm_up = WARM_UP_PARALLEL if dist.is_distributed() else WARM_UP
            log, option = logging.getLogger(LOGGER).info, 'SOLVER.CUDA_GRAPH'
            self.step.compute = CudaGraph(self.step.compute, device, warm_up, option, log, stream)
        self.samples_an_iteration = solver.IMS_PER_GPU * dist.world_size() * solver.ACCUM_STEPS
        self.start_iteration, self.start_samples, self.earlier_batch = 0, 0, self.samples_an_iteration

    def close(self) -> None:
        """Frees the CUDA graph, which would keep the process group from closing."""
        if isinstance(self.step.compute, CudaGraph):
            self.step.compute.release()

    def network_to_test(self) -> nn.Module:
        """A copy of the network, or of its EMA, with the BatchNorm statistics of rank 0, as in a checkpoint."""
        copied = copy.deepcopy(self.model if self.ema is None else self.ema.module)
        statistics = dist.broadcast({name: value.cpu() for name, value in copied.named_buffers()})
        copied.load_state_dict(statistics, strict=False)
        return copied

    def samples(self, iteration: int) -> int:
        """How many samples have been seen by the end of an iteration, from `start_iteration` on."""
        return self.start_samples + (iteration - self.start_iteration) * self.samples_an_iteration

    def iteration(self, samples: int) -> int:
        """The iteration, in batches of the present size, by the end of which so many samples have been seen."""
        return self.start_iteration + round((samples - self.start_samples) / self.samples_an_iteration)

    def state(self, iteration: int) -> dict[str, Any]:
        """The contents of a checkpoint: the keys of the published code, and what else resuming needs."""
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
        """Restores the state from a checkpoint of this project or of the published code.

        With another global batch size the position in the data is kept, and the iteration is converted.
        Raises InputError, before anything is changed, if the file cannot be resumed from.
        """
        state = checkpoint.load(path)
        missing = [key for key in ('optimizer', 'iteration') if key not in state]
        if missing:
            raise InputError(f'{path} has no {missing[0]!r}: it only holds weights, -c needs a checkpoint of train.py')
        for key in ('iteration', 'samples', 'samples_an_iteration'):
            if not isinstance(state.get(key, 0), int):
                raise InputError(f'{path}: its {key!r} is no whole number, so it cannot be resumed from')
        if trained_codec(state) != self.cfg.CODEC:
            raise OtherRun(f'{path} was trained with CODEC {trained_codec(state)}: set that, or start a new run')
        refuse_other_network(state, self.cfg, path)
        weights = check_state(self.model, state, path)
        load_optimizer(self.optimizer, state['optimizer'], path, 'SOLVER.OPTIMIZER')
        self.model.load_state_dict(weights)
        if self.ema is not None and 'ema' in state:
            load_state(self.ema.module, state['ema'], path)
            self.ema.updates = int(state['ema_updates'])
        elif self.ema is not None:
            logger.info(f'{path} has no EMA of the weights: it starts here')
        elif 'ema' in state:
            logger.info(f'{path} has an EMA of the weights, which ends here, since SOLVER.EMA is 0')
        if self.scaler.is_enabled() and 'scaler' in state:
            self.scaler.load_state_dict(state['scaler'])
        self._resume_position(path, state, logger)

    def _resume_position(self, path: Path, state: dict[str, Any], logger: logging.Logger) -> None:
        batch = state.get('samples_an_iteration', self.samples_an_iteration)
        self.start_iteration, self.earlier_batch = state['iteration'], batch
        self.start_samples = state.get('samples', self.start_iteration * batch)
        if batch != self.samples_an_iteration:
            self.start_iteration = self.start_samples // self.samples_an_iteration
            logger.info(
                f'{path}: {self.start_samples} samples were seen in batches of {batch}; continuing with batches of '
                f'{self.samples_an_iteration} after iteration {self.start_iteration} of {self.schedule.max_iter}'
            )
        earlier, now = _plan(state.get('scheduler'), state.get('config')), _plan(asdict(self.schedule), self.cfg)
        changed = [f'{key} {earlier[key]}, now {now[key]}' for key in now if earlier.get(key, now[key]) != now[key]]
        if changed:
            logger.info(f'{path} was trained with another schedule: {"; ".join(changed)}')


def _plan(schedule: Any, config: Any) -> dict[str, Any]:
    """What a checkpoint or a run says about its learning rates and optimiser; a checkpoint may say anything."""
    solver = config.get('SOLVER') if isinstance(config, dict) else None
    optimizer = {'optimizer': solver['OPTIMIZER']} if isinstance(solver, dict) and 'OPTIMIZER' in solver else {}
    return (schedule if isinstance(schedule, dict) else {}) | optimizer


def _captures_steps(cfg: EasyDict, device: torch.device) -> bool:
    """Whether steps are captured as a CUDA graph; logs why not."""
    changes = 'the gradient scale of fp16 changes between steps'
    reasons = [changes] if cfg.SOLVER.PRECISION == 'fp16' else []
    return _can_use(cfg, 'CUDA_GRAPH', 'no CUDA graph', device, reasons)


def _can_use(cfg: EasyDict, option: str, otherwise: str, device: torch.device, reasons: Sequence[str] = ()) -> bool:
    """Whether an option of GPUs is on and works; logs why not."""
    if not cfg.SOLVER[option]:
        return False
    reasons = [*(['there is no GPU'] if device.type != 'cuda' else []), *reasons]
    for reason in reasons:
        logging.getLogger(LOGGER).info(f'SOLVER.{option}: {otherwise}, since {reason}')
    return not reasons
