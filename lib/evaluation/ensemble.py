"""Several checkpoints in one test: heatmaps averaged, as in the row "MSPN+" of the paper's tables."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from easydict import EasyDict

from cvpack.errors import InputError
from lib.config.experiment import OWN
from lib.deploy.saved import load_network, saved_config
from lib.inference import PoseEstimator, build_estimator
from lib.models.mspn import build_mspn
from lib.models.own import BuildModel, refuse_other_network, remark_other_experiment
from lib.models.weights import read
from lib.utils.codec import refuse_mixed_lengths, trained_codec

MAX_NAME_LENGTH = 100


def load_estimators(
    cfg: EasyDict,
    build_model: BuildModel,
    files: Sequence[Path],
    ema: bool,
    device: torch.device,
    logger: logging.Logger,
) -> list[PoseEstimator]:
    """The networks of checkpoints, ready to be tested together.

    cfg, build_model: of the experiment that is tested. A single file is its network; of several each is rebuilt from
    the configuration in its own file, if it has one. The settings of the test are the experiment's in any case.
    ema: the moving averages of the weights (SOLVER.EMA) instead of the last ones

    Raises InputError for a file that is unfit, or would be decoded in other lengths; a single one of another network;
    one of several whose maps cannot be averaged with the experiment's: of other joints or another aspect ratio.
    """
    estimators = []
    for file in files:
        state, own, build = read(file), cfg, build_model
        if len(files) > 1:
            own, build = _member(cfg, build_model, state, file)
        else:
            _compare_with_training(cfg, state, file, logger)
        refuse_mixed_lengths(state, cfg.CODEC, file)
        network = load_network(own, build, state, file, ema)
        own.update(TEST=cfg.TEST, DATASET=cfg.DATASET, CODEC=cfg.CODEC)
        estimators.append(build_estimator(own, network, device))
    return estimators


def _compare_with_training(cfg: EasyDict, state: dict, file: Path, logger: logging.Logger) -> None:
    """A network fits inputs of any size and may be decoded otherwise, but does best as it was trained.

    Raises InputError where it is another network.
    """
    refuse_other_network(state, cfg, file)
    if remark := remark_other_experiment(state, cfg, file):
        logger.info(remark)
    if trained_codec(state) != cfg.CODEC:
        logger.info(f'{file} was trained with CODEC {trained_codec(state)}; this test decodes with {cfg.CODEC}')
    trained = (state.get('config') or {}).get('INPUT_SHAPE', list(cfg.INPUT_SHAPE))
    if trained != list(cfg.INPUT_SHAPE):
        logger.info(f'{file} was trained at INPUT_SHAPE {trained}; this test is at {list(cfg.INPUT_SHAPE)}')


def _member(cfg: EasyDict, build_model: BuildModel, state: dict, file: Path) -> tuple[EasyDict, BuildModel]:
    """A checkpoint's own configuration, and what rebuilds it: of this experiment build_model, of others build_mspn."""
    if not isinstance(state.get('config'), dict):
        return cfg, build_model
    own = saved_config(state, file)
    _refuse_unlike(cfg, own, file)
    is_ours = own.EXPERIMENT == cfg.EXPERIMENT
    if own.NETWORK != OWN:
        return own, build_model if is_ours and own.NETWORK is None else build_mspn
    if not is_ours or cfg.NETWORK != OWN:
        raise InputError(
            f"{file} is of the own network of experiment {own.EXPERIMENT!r}: beside this experiment's, an ensemble can "
            'rebuild MSPN alone'
        )
    return own, build_model


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
