"""Loads a network from a checkpoint, which holds its experiment's configuration beside the weights."""

import logging
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from cvpack.errors import InputError, OtherRun
from lib.config import coco_defaults, mpii_defaults, override, run_config
from lib.config.defaults import FORMER
from lib.config.experiment import NETWORK_FILE, OWN, folder_of, set_folder
from lib.deploy.mmpose import by_own_names
from lib.models.mspn import build_mspn
from lib.models.own import BuildModel, check_outputs, network_of
from lib.models.provenance import refuse_mixed_lengths, refuse_other_network, remark_other_experiment
from lib.models.weights import load_state, read, select_weights, unwrap


def load_experiment(
    path: Path, ema: bool = False, experiment: Path | None = None, device: str | torch.device = 'cpu'
) -> tuple[EasyDict, nn.Module]:
    """The configuration and the network, in eval mode, of a checkpoint.

    ema:        load the EMA of the weights (SOLVER.EMA) instead of the last ones
    experiment: see config_of
    device:     where the outputs of an experiment's own network are checked; it stays there

    Raises InputError for a file that is unfit, or has no configuration, or is of another codec's lengths or another
    network than the experiment.
    """
    state = read(path)
    cfg = config_of(state, path, experiment)
    build_model = network_of(cfg)
    is_own = build_model is not build_mspn
    try:
        model = load_network(cfg, build_model, state, path, ema)
    except OtherRun as error:
        if is_own:
            raise
        raise OtherRun(
            f"{error}; an experiment's own network needs --experiment DIR with {NETWORK_FILE} in it"
        ) from None
    if is_own:
        check_outputs(cfg, model, torch.device(device), build_model, training=False)
    return cfg, model.eval()


def load_network(cfg: EasyDict, build_model: BuildModel, state: dict, path: Path, ema: bool) -> nn.Module:
    """The network that build_model returns for a configuration, with a checkpoint's weights or their EMA."""
    model, weights = build_model(cfg), select_weights(state, path, ema)
    if not unwrap(weights).keys() >= model.state_dict().keys():  # maybe mmpose's
        weights = by_own_names(weights, path)
    load_state(model, weights, path)
    return model


def config_of(state: dict, path: Path, experiment: Path | None) -> EasyDict:
    """The configuration of the checkpoint at `path`: its own, or that of an experiment's folder.

    experiment: a folder with a config.py, for files without a configuration, such as the published ones; or with a
                network.py, which builds the network of a file that has its configuration
    """
    if experiment is None:
        refuse_other_network(state, None, path)
        return saved_config(state, path)
    cfg = run_config(experiment)
    refuse_other_network(state, cfg, path)
    if remark := remark_other_experiment(state, cfg, path):
        logging.getLogger(__name__).warning(remark)
    if cfg.NETWORK == OWN and isinstance(state.get('config'), dict):
        folder, cfg = folder_of(cfg), saved_config(state, path)
        cfg.NETWORK = OWN
        set_folder(cfg, folder)
    refuse_mixed_lengths(state, cfg.CODEC, path)
    return cfg


def saved_config(state: dict, path: Path) -> EasyDict:
    """The configuration stored in the checkpoint at `path`. Raises InputError if there is none, or an invalid one."""
    if isinstance(state.get('config'), dict):
        return _from_plain(state['config'], path)
    raise InputError(f'{path} does not say of which experiment it is: name it with --experiment exps/NAME')


def _from_plain(content: dict, source: Path) -> EasyDict:
    """The inverse of lib.config.to_plain. Keys newer than the file get their defaults; former keys are renamed.

    source: the file that `content` was read from, for the InputError if it is invalid
    """
    try:
        dataset = content['DATASET']
        cfg = mpii_defaults() if dataset.get('FORMAT', dataset['NAME']) == 'MPII' else coco_defaults()
        _update(cfg, content)
        for old, new in FORMER.items():
            _rename(cfg, old.split('.'), new.split('.') if new else None)
        override(cfg, [])  # checks it
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{source}: the configuration in it cannot be used ({error}): was it written by train.py?'
        ) from None
    return cfg


def _update(cfg: dict, content: dict) -> None:
    for name, value in content.items():
        if isinstance(value, dict) and isinstance(cfg.get(name), dict):
            _update(cfg[name], value)
        else:
            cfg[name] = value


def _rename(cfg: dict, old: list[str], new: list[str] | None) -> None:
    """Moves a key, [section, name], if it is there; new = None deletes it."""
    section, name = old
    if name in cfg[section]:
        value = cfg[section].pop(name)
        if new:
            cfg[new[0]][new[1]] = value
