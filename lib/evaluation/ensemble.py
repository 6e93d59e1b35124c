"""Ensembles: the averaged heatmaps of several checkpoints, as in the row "MSPN+" of the paper's tables."""

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
from lib.models.own import BuildModel
from lib.models.provenance import refuse_mixed_lengths, refuse_other_network, remark_other_experiment, trained_codec
from lib.models.weights import read

MAX_NAME_LENGTH = 100


def load_estimators(
    cfg: EasyDict,
    build_model: BuildModel,
    files: Sequence[Path],
    ema: bool,
    device: torch.device,
    logger: logging.Logger,
) -> list[PoseEstimator]:
    """The networks of one or more checkpoints, ready for testing.

    cfg, build_model: of the experiment that is tested. A single file is a checkpoint of its network; each of several
    is rebuilt from the configuration in its file, if there is one. The test settings are always the experiment's.
    ema: load the EMA of the weights (SOLVER.EMA)

    Raises InputError for an unusable file, an incompatible codec, a single file of another network, and a member of an
    ensemble whose heatmaps cannot be averaged with the others (other joints, another aspect ratio).
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
    """Logs where a test differs from the training, which costs accuracy. Raises InputError for another network."""
    refuse_other_network(state, cfg, file)
    if remark := remark_other_experiment(state, cfg, file):
        logger.info(remark)
    if trained_codec(state) != cfg.CODEC:
        logger.info(f'{file} was trained with CODEC {trained_codec(state)}; this test decodes with {cfg.CODEC}')
    trained = (state.get('config') or {}).get('INPUT_SHAPE', list(cfg.INPUT_SHAPE))
    if trained != list(cfg.INPUT_SHAPE):
        logger.info(f'{file} was trained at INPUT_SHAPE {trained}; this test is at {list(cfg.INPUT_SHAPE)}')


def _member(cfg: EasyDict, build_model: BuildModel, state: dict, file: Path) -> tuple[EasyDict, BuildModel]:
    """A checkpoint's own configuration, and what builds its network: build_model or, for other experiments, MSPN's."""
    if not isinstance(state.get('config'), dict):
        return cfg, build_model
    own = saved_config(state, file)
    _check_compatible(cfg, own, file)
    is_ours = own.EXPERIMENT == cfg.EXPERIMENT
    if own.NETWORK != OWN:
        return own, build_model if is_ours and own.NETWORK is None else build_mspn
    if not is_ours or cfg.NETWORK != OWN:
        raise InputError(
            f'{file} holds the own network of experiment {own.EXPERIMENT!r}: an ensemble can only combine networks of '
            'this experiment with MSPN'
        )
    return own, build_model


def _check_compatible(cfg: EasyDict, own: EasyDict, file: Path) -> None:
    joints, own_joints = (list(config.DATASET.KEYPOINT.NAMES) for config in (cfg, own))
    if joints != own_joints:
        text = f'{len(own_joints)} joints, not {len(joints)}' if len(joints) != len(own_joints) else 'other joints'
        raise InputError(f'{file} predicts {text}: all members of an ensemble need the same DATASET.KEYPOINT.NAMES')
    (height, width), (own_height, own_width) = cfg.INPUT_SHAPE, own.INPUT_SHAPE
    if height * own_width != width * own_height:
        raise InputError(
            f'{file} has INPUT_SHAPE {[own_height, own_width]}, whose aspect ratio is not that of the '
            f"experiment's {[height, width]}: all members of an ensemble need the same"
        )


def ensemble_name(files: Sequence[Path]) -> str:
    """The name of an ensemble's test: `ensemble.` and the files' stems.

    Where that is too long for a folder name, or stems are equal, a hash of the paths is appended.
    """
    stems = [file.resolve().stem for file in files]
    name = 'ensemble.' + '+'.join(stems)
    if len(name) <= MAX_NAME_LENGTH and len(set(stems)) == len(stems):
        return name
    digest = hashlib.sha256('\n'.join(str(file.resolve()) for file in files).encode()).hexdigest()[:8]
    return f'{name[: MAX_NAME_LENGTH - 9]}.{digest}'
