"""A checkpoint as all that is needed: its file holds the experiment's configuration beside the weights.

For the tools that take a model away: to predict, to export.
"""

from collections.abc import Collection
from pathlib import Path

from easydict import EasyDict
from torch import nn

from cvpack.errors import InputError
from lib.config import coco_defaults, mpii_defaults, override, run_config
from lib.models.mmpose import by_own_names
from lib.models.mspn import build_mspn
from lib.models.weights import choose, load_state, read
from lib.utils.codec import refuse_mixed_lengths


def load_experiment(path: Path, average: bool = False, experiment: Path | None = None) -> tuple[EasyDict, nn.Module]:
    """The configuration and the network, in eval mode on the CPU, of a checkpoint.

    average:    take the moving average of the weights (SOLVER.EMA) instead of the last ones
    experiment: the folder of a config.py, for a file that does not hold its configuration, as published ones do not

    Networks of an experiment's own making (`build_my_model`) cannot be rebuilt from a file. Raises InputError for a
    file that is unfit, or has no configuration, or is of another codec's lengths than the experiment.
    """
    state = read(path)
    cfg = config_of(state, path, experiment)
    model = build_mspn(cfg)
    load_state(model, by_own_names(choose(state, path, average), path), path)
    return cfg, model.eval()


def config_of(state: dict, path: Path, experiment: Path | None) -> EasyDict:
    """The configuration of an experiment's folder, if one is given, else the one that a checkpoint of `path` holds."""
    if experiment is not None:
        cfg = run_config(experiment)
        refuse_mixed_lengths(state, cfg.CODEC, path)
        return cfg
    if isinstance(state.get('config'), dict):
        return _from_plain(state['config'], path)
    raise InputError(f'{path} does not say of which experiment it is: name it with --experiment exps/NAME')


# Keys that checkpoints of earlier versions hold and nothing reads any more.
REMOVED = {'DATASET': {'WHOLE_JOINTS'}}


def _from_plain(content: dict, source: Path) -> EasyDict:
    """The configuration that lib.config.to_plain made `content` of; keys that did not exist then have their defaults,
    and those that exist no more are left out.

    source: the file that it was read from. Raises InputError that names it if the content makes no sense.
    """
    try:
        cfg = (
            mpii_defaults()
            if content['DATASET'].get('FORMAT', content['DATASET']['NAME']) == 'MPII'
            else coco_defaults()
        )
        _update(cfg, content)
        override(cfg, [])  # checks it
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{source}: the configuration in it cannot be used ({error}): was it written by train.py?'
        ) from None
    return cfg


def _update(cfg: dict, content: dict, removed: Collection[str] = ()) -> None:
    for name, value in content.items():
        if isinstance(value, dict) and isinstance(cfg.get(name), dict):
            _update(cfg[name], value, REMOVED.get(name, ()))
        elif name not in removed:
            cfg[name] = value
