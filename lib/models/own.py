"""Which network an experiment trains: MSPN, or its own, which the network.py in its folder builds.

    def build_model(cfg):  # the finalized configuration -> nn.Module
        ...

What such a network takes and returns is in README.md, "A new network". Only a folder that the user names, or whose
script runs, is looked at: a checkpoint says that its network is its experiment's own, and no more.
"""

import contextlib
import importlib
import logging
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from cvpack.errors import CleanExit, InputError, OtherRun
from cvpack.precision import autocast
from lib.config.experiment import FILE, MSPN, OWN, folder_of, importing_from, own_file
from lib.models.mspn import build_mspn

BuildModel = Callable[[EasyDict], nn.Module]

LEVELS = 4
# Where an experiment's own code does not lie.
LIBRARIES = '<', str(Path(__file__).parents[1]), sysconfig.get_path('stdlib')
IMAGES = 2  # one alone would leave a BatchNorm of 1x1 maps without statistics


@dataclass(frozen=True)
class OwnNetwork:
    """The build_model of an experiment's network.py, called among the modules of its folder.

    Raises InputError, with the place in its file, for whatever it raises, and if it returns no network.
    """

    file: Path
    function: BuildModel

    def __call__(self, cfg: EasyDict) -> nn.Module:
        with importing_from(self.file.parent), in_one_line(f'{self.file}: build_model(cfg) fails'):
            model = self.function(cfg)
        if not isinstance(model, nn.Module):
            raise InputError(f'{self.file}: build_model(cfg) returns {_shown(model)}: it should be a torch.nn.Module')
        return model

    def __str__(self) -> str:
        return str(self.file)


def network_of(cfg: EasyDict, build_model: BuildModel = build_mspn) -> BuildModel:
    """What builds a configuration's network: network.py's build_model if its experiment has one, else `build_model`.

    Raises InputError for a network.py that cannot be used.
    """
    file = own_file(folder_of(cfg))
    if file is None:
        return build_model
    with importing_from(file.parent), in_one_line(f'{file} cannot be imported'):
        function = getattr(importlib.import_module(file.stem), 'build_model', None)
    if not callable(function):
        raise InputError(f'{file} has no build_model(cfg): define it, to return the network')
    return OwnNetwork(file, function)


def select_network(
    cfg: EasyDict, build_model: BuildModel, device: torch.device, training: bool, logger: logging.Logger
) -> BuildModel:
    """What a run builds its network with (network_of); an own one is said, noted in cfg.NETWORK, and tried out.

    Raises InputError if its outputs are not what training, if `training`, and testing need.
    """
    chosen = network_of(cfg, build_model)
    cfg.NETWORK = MSPN if chosen is build_mspn else OWN
    if cfg.NETWORK == OWN:
        source = chosen if isinstance(chosen, OwnNetwork) else getattr(chosen, '__qualname__', chosen)
        check_outputs(cfg, chosen(cfg), device, source, training)
        logger.info(f'network: of {source}')
    return chosen


def check_outputs(cfg: EasyDict, model: nn.Module, device: torch.device, source: object, training: bool) -> None:
    """Has a network, which is moved to the device, predict two empty images in eval mode and, if `training`, before
    that in train mode, which changes its running statistics.

    source: what it was built by. Raises InputError that names it if the network fails or returns other outputs.
    """
    size = (IMAGES, cfg.DATASET.KEYPOINT.NUM, *cfg.OUTPUT_SHAPE)
    images = torch.zeros(IMAGES, 3, *cfg.INPUT_SHAPE, device=device)
    model = model.to(device)
    for mode in (True, False) if training else (False,):
        name, precision = ('train', cfg.SOLVER.PRECISION) if mode else ('eval', cfg.TEST.PRECISION)
        failure = f'{source}: the network fails in {name} mode on images {tuple(images.shape)}'
        with in_one_line(failure), torch.no_grad(), autocast(device.type, precision):
            outputs = model.train(mode)(images)
        fault = _fault_of_stages(outputs, size) if mode else _fault_of_maps(outputs, size)
        if fault:
            raise InputError(f'{source}: in {name} mode the network returns {fault}')


def _fault_of_stages(outputs: Any, size: tuple[int, ...]) -> str | None:
    """What is wrong with outputs in train mode."""
    levels = f'a list of stages, each a list of {LEVELS} levels of heatmaps, coarse to fine'
    if not isinstance(outputs, (list, tuple)) or not outputs:
        return f'{_shown(outputs)}: it should be {levels}'
    for number, stage in enumerate(outputs):
        if not isinstance(stage, (list, tuple)) or len(stage) != LEVELS:
            return f'{_shown(stage)} as stage {number}: it should be {levels}'
        for level, maps in enumerate(stage):
            if fault := _fault_of_maps(maps, size):
                return f'for stage {number}, level {level}, {fault}'
    return None


def _fault_of_maps(maps: Any, size: tuple[int, ...]) -> str | None:
    """What is wrong with heatmaps (N, K, h, w)."""
    fits = isinstance(maps, torch.Tensor) and maps.shape == size
    if fits and maps.dtype in (torch.float32, torch.float64):
        return None
    return f'{_shown(maps)}: it should be heatmaps, a tensor {size} (images, joints, INPUT_SHAPE / 4) of float32'


def _shown(value: Any) -> str:
    """A value that a network returned, in few words."""
    if isinstance(value, torch.Tensor):
        return f'a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix("torch.")}'
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return 'None' if value is None else f'a {type(value).__name__}'


@contextlib.contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Makes an InputError, a line, of what an experiment's own code raises."""
    try:
        yield
    except CleanExit:
        raise
    except Exception as error:  # whatever people's code does
        raise InputError(f'{what}: {_in_words(error)}') from error


def _in_words(error: Exception) -> str:
    """An exception in a line, with the innermost place that is not a library's."""
    message = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_librarys(frame.filename)]
    return message if not frames else f'{message} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})'


def _is_librarys(file: str) -> bool:
    return file.startswith(LIBRARIES) or 'site-packages' in Path(file).parts


def refuse_other_network(state: dict, cfg: EasyDict | None, path: Path) -> None:
    """Raises OtherRun where a checkpoint says that its network is another than the one that is built for it.

    Its tensors may have the same names and shapes all the same, and mean another function.

    state: of the checkpoint at path; cfg: of the experiment that the network is built by; None: it is not known
    """
    trained, is_own = network_in(state), cfg is not None and cfg.NETWORK == OWN
    folder = folder_of(cfg) if cfg is not None else None
    if trained is None or (trained == OWN) == is_own:
        return
    if is_own:
        raise OtherRun(
            f'{path} was trained as MSPN, and this experiment has a network of its own: take an experiment without '
            f'{FILE}; a tool needs no --experiment'
        )
    where = 'name its folder with --experiment' if folder is None else f'{folder} has none: put it there'
    raise OtherRun(
        f"{path} is of a network of its experiment's own ({state['config'].get('EXPERIMENT')!r}), "
        f'which build_model(cfg) in the {FILE} of its folder builds: {where}'
    )


def remark_other_experiment(state: dict, cfg: EasyDict, path: Path) -> str | None:
    """What to say where a checkpoint was trained as another experiment than the one whose own network is built."""
    name = state['config'].get('EXPERIMENT') if network_in(state) == OWN else cfg.EXPERIMENT
    if name == cfg.EXPERIMENT:
        return None
    return f'{path} was trained as experiment {name!r}; the network is that of {folder_of(cfg)}: is it the same?'


def network_in(state: dict) -> str | None:
    """What a checkpoint says of its network; None in older ones: MSPN, or what their experiment has."""
    config = state.get('config')
    return config.get('NETWORK') if isinstance(config, dict) else None
