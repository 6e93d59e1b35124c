"""Several checkpoints in one test: heatmaps averaged, as in the row "MSPN+" of the paper's tables."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from cvpack.errors import InputError
from lib.config.experiment import OWN
from lib.deploy.saved import saved_config
from lib.inference import Member, prepare_for_inference
from lib.models.mspn import build_mspn
from lib.models.own import refuse_other_network, remark_other_experiment
from lib.models.weights import load_state, read, select_weights
from lib.utils.codec import refuse_mixed_lengths, trained_codec

MAX_NAME_LENGTH = 100


def load_network(
    cfg: EasyDict,
    build_model: Callable[[EasyDict], nn.Module],
    files: Sequence[Path],
    ema: bool,
    device: torch.device,
    logger: logging.Logger,
) -> nn.Module | list[Member]:
    """What a test of a checkpoint, or of several together, predicts with; arguments and errors as load_members'."""
    if len(files) > 1:
        return load_members(cfg, build_model, files, ema, device)
    (file,) = files
    state, model = read(file), build_model(cfg)
    _compare_with_training(cfg, state, file, logger)
    load_state(model, select_weights(state, file, ema), file)
    return prepare_for_inference(cfg, model, device)


def _compare_with_training(cfg: EasyDict, state: dict, file: Path, logger: logging.Logger) -> None:
    """A network fits inputs of any size and may be decoded otherwise, but does best as it was trained.

    Raises InputError where it would be decoded in other lengths, or is another network.
    """
    refuse_other_network(state, cfg, file)
    if remark := remark_other_experiment(state, cfg, file):
        logger.info(remark)
    refuse_mixed_lengths(state, cfg.CODEC, file)
    if trained_codec(state) != cfg.CODEC:
        logger.info(f'{file} was trained with CODEC {trained_codec(state)}; this test decodes with {cfg.CODEC}')
    trained = (state.get('config') or {}).get('INPUT_SHAPE', list(cfg.INPUT_SHAPE))
    if trained != list(cfg.INPUT_SHAPE):
        logger.info(f'{file} was trained at INPUT_SHAPE {trained}; this test is at {list(cfg.INPUT_SHAPE)}')


def load_members(
    cfg: EasyDict,
    build_model: Callable[[EasyDict], nn.Module],
    files: Sequence[Path],
    ema: bool,
    device: torch.device,
) -> list[Member]:
    """The networks of checkpoints, each rebuilt from the configuration in its own file, ready to test.

    cfg, build_model: the experiment's that the test is of; files without a configuration are taken to be of it
    average: the moving averages of the weights (SOLVER.EMA) instead of the last ones

    Raises InputError for a file that is unfit or whose maps cannot be averaged with the experiment's: of other joints,
    another aspect ratio, a codec of other lengths.
    """
    members = []
    for file in files:
        state = read(file)
        if isinstance(state.get('config'), dict):
            own = saved_config(state, file)
            model = _builder(cfg, build_model, own, file)(own)
        else:
            own, model = cfg, build_model(cfg)
        _refuse_unlike(cfg, own, file)
        refuse_mixed_lengths(state, cfg.CODEC, file)
        load_state(model, select_weights(state, file, ema), file)
        members.append(Member(own, prepare_for_inference(own, model, device)))
    return members


def _builder(
    cfg: EasyDict, build_model: Callable[[EasyDict], nn.Module], own: EasyDict, file: Path
) -> Callable[[EasyDict], nn.Module]:
    """What rebuilds a member of the configuration `own`: of this experiment its build_model, of others build_mspn."""
    is_ours = own.EXPERIMENT == cfg.EXPERIMENT
    if own.NETWORK != OWN:
        return build_model if is_ours and own.NETWORK is None else build_mspn
    if not is_ours or cfg.NETWORK != OWN:
        raise InputError(
            f"{file} is of the own network of experiment {own.EXPERIMENT!r}: beside this experiment's, an ensemble can "
            'rebuild MSPN alone'
        )
    return build_model


def _refuse_unlike(cfg: EasyDict, own: EasyDict, file: Path) -> None:
    joints, own_joints = (list(config.DATASET.KEYPOINT.NAMES) for config in (cfg, own))
    if joints != own_joints:
        text = f'{len(own_joints)} joints' if len(joints) != len(own_joints) else 'joints of other names'
        raise InputError(f"{file} predicts {text} than the experiment's: an ensemble needs the same, in one order")
    (height, width), (own_height, own_width) = cfg.INPUT_SHAPE, own.INPUT_SHAPE
    if height * own_width != width * own_height:
        raise InputError(
            f'{file} has INPUT_SHAPE {[own_height, own_width]}, whose aspect ratio is not that of '
            f"the experiment's {[height, width]}: an ensemble needs one"
        )


def ensemble_name(files: Sequence[Path]) -> str:
    """What a test of the files together is called: `ensemble.` and their stems; those that are too long for a folder,
    or not told apart by their stems, get a number that follows from the paths."""
    stems = [file.resolve().stem for file in files]
    name = 'ensemble.' + '+'.join(stems)
    if len(name) <= MAX_NAME_LENGTH and len(set(stems)) == len(stems):
        return name
    number = hashlib.sha256('\n'.join(str(file.resolve()) for file in files).encode()).hexdigest()[:8]
    return f'{name[: MAX_NAME_LENGTH - 9]}.{number}'
