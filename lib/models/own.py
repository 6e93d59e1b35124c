"""Which network an experiment trains: MSPN, or its own, built by the network.py in its folder.

    def build_model(cfg):  # the finalized configuration -> nn.Module
        ...

docs/own_network.md says what such a network takes and returns. Code is taken only from a folder that the user
names or whose script runs: all that a checkpoint says is that its network is its experiment's own.
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

from cvpack.errors import CleanExit, InputError
from cvpack.precision import autocast
from lib.config.experiment import MSPN, OWN, folder_of, importing_from, own_file
from lib.models.mspn import build_mspn

BuildModel = Callable[[EasyDict], nn.Module]

LEVELS = 4
# Where code is not an experiment's own.
LIBRARIES = '<', str(Path(__file__).parents[1]), sysconfig.get_path('stdlib')
IMAGES = 2  # one would leave a BatchNorm of 1x1 maps without statistics


@dataclass(frozen=True)
class OwnNetwork:
    """The build_model of an experiment's network.py, which can import the modules in its folder.

    Raises InputError, with the line in its file, for whatever it raises, and if it does not return an nn.Module.
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
    """The function that builds a configuration's network: from the experiment's network.py, else `build_model`.

    Raises InputError for a network.py that cannot be used.
    """
    file = own_file(folder_of(cfg))
    if file is None:
        return build_model
    with importing_from(file.parent), in_one_line(f'{file} cannot be imported'):
        function = getattr(importlib.import_module(file.stem), 'build_model', None)
    if not callable(function):
        raise InputError(f'{file} has no build_model(cfg): define it; it returns the network')
    return OwnNetwork(file, function)


def select_network(
    cfg: EasyDict, build_model: BuildModel, device: torch.device, training: bool, logger: logging.Logger
) -> BuildModel:
    """network_of for a run: sets cfg.NETWORK; logs and tries out a network other than MSPN.

    Raises InputError if its outputs are not what testing needs and, if `training`, training.
    """
    build = network_of(cfg, build_model)
    cfg.NETWORK = MSPN if build is build_mspn else OWN
    if cfg.NETWORK == OWN:
        source = build if isinstance(build, OwnNetwork) else getattr(build, '__qualname__', build)
        check_outputs(cfg, build(cfg), device, source, training)
        logger.info(f'network: of {source}')
    return build


def check_outputs(cfg: EasyDict, model: nn.Module, device: torch.device, source: object, training: bool) -> None:
    """Runs a network on two empty images: in train mode, if `training`, then in eval mode. Moves it to the device, and
    changes its running statistics.

    source: what built it

    Raises InputError, naming the source, if the network fails or its outputs are not the expected ones.
    """
    shape = (IMAGES, cfg.DATASET.KEYPOINT.NUM, *cfg.OUTPUT_SHAPE)
    images = torch.zeros(IMAGES, 3, *cfg.INPUT_SHAPE, device=device)
    model = model.to(device)
    for mode in (True, False) if training else (False,):
        name, precision = ('train', cfg.SOLVER.PRECISION) if mode else ('eval', cfg.TEST.PRECISION)
        failure = f'{source}: the network fails in {name} mode on images {tuple(images.shape)}'
        with in_one_line(failure), torch.no_grad(), autocast(device.type, precision):
            outputs = model.train(mode)(images)
        fault = _fault_of_stages(outputs, shape) if mode else _fault_of_maps(outputs, shape)
        if fault:
            raise InputError(f'{source}: in {name} mode the network returns {fault}')


def _fault_of_stages(outputs: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with outputs in train mode."""
    levels = f'a list of stages, each a list of {LEVELS} levels of heatmaps, coarse to fine'
    if not isinstance(outputs, (list, tuple)) or not outputs:
        return f'{_shown(outputs)}: it should be {levels}'
    for number, stage in enumerate(outputs):
        if not isinstance(stage, (list, tuple)) or len(stage) != LEVELS:
            return f'{_shown(stage)} as stage {number}: it should be {levels}'
        for level, maps in enumerate(stage):
            if fault := _fault_of_maps(maps, shape):
                return f'for stage {number}, level {level}, {fault}'
    return None


def _fault_of_maps(maps: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with heatmaps (N, K, h, w)."""
    fits = isinstance(maps, torch.Tensor) and maps.shape == shape
    if fits and maps.dtype in (torch.float32, torch.float64):
        return None
    return f'{_shown(maps)}: it should be heatmaps, a tensor {shape} (images, joints, INPUT_SHAPE / 4) of float32'


def _shown(value: Any) -> str:
    """A value that a network returned, in a few words."""
    if isinstance(value, torch.Tensor):
        return f'a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix("torch.")}'
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return 'None' if value is None else f'a {type(value).__name__}'


@contextlib.contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turns whatever an experiment's own code raises into an InputError of one line."""
    try:
        yield
    except CleanExit:
        raise
    except Exception as error:  # the user's code may raise anything
        raise InputError(f'{what}: {_in_words(error)}') from error


def _in_words(error: Exception) -> str:
    """An exception in a line, with the innermost file and line outside libraries."""
    message = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_librarys(frame.filename)]
    return message if not frames else f'{message} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})'


def _is_librarys(file: str) -> bool:
    return file.startswith(LIBRARIES) or 'site-packages' in Path(file).parts
