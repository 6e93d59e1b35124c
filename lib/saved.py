"""A checkpoint as all that is needed: its file holds the experiment's configuration beside the weights.

For the tools that take a model away: to predict, to export.
"""

from pathlib import Path

from easydict import EasyDict
from torch import nn

from cvpack import checkpoint
from cvpack.errors import InputError
from lib.config import from_plain, run_config
from lib.models.mspn import build_mspn
from lib.models.weights import load_state
from lib.utils.codec import refuse_mixed_lengths


def load_experiment(path: Path, average: bool = False, experiment: Path | None = None) -> tuple[EasyDict, nn.Module]:
    """The configuration and the network, in eval mode on the CPU, of a checkpoint.

    average:    take the moving average of the weights (SOLVER.EMA) instead of the last ones
    experiment: the folder of a config.py, for a file that does not hold its configuration, as published ones do not

    Networks of an experiment's own making (`build_my_model`) cannot be rebuilt from a file. Raises InputError for a
    file that is unfit, or has no configuration, or is of another codec's lengths than the experiment.
    """
    state = checkpoint.load(path)
    if experiment is not None:
        cfg = run_config(experiment)
        refuse_mixed_lengths(state, cfg.CODEC, path)
    elif isinstance(state.get('config'), dict):
        cfg = from_plain(state['config'], path)
    else:
        raise InputError(f'{path} does not say of which experiment it is: name it with --experiment exps/NAME')
    if average and 'ema' not in state:
        raise InputError(f'{path} has no moving average of the weights: train with SOLVER.EMA, or go without --ema')
    model = build_mspn(cfg)
    load_state(model, state['ema'] if average else state, path)
    return cfg, model.eval()
