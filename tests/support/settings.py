"""Configurations of experiments, and --set values that make their runs a matter of seconds."""

import importlib.util
from pathlib import Path

from easydict import EasyDict

from lib.config import REPOSITORY

PUBLISHED = (
    'mspn.1xstg.coco',
    'mspn.2xstg.coco',
    'mspn.3xstg.coco',
    'mspn.4xstg.coco',
    'mspn.4xstg.coco.384x288',
    'mspn.2xstg.mpii',
    'mspn.4xstg.mpii',
)


def load_config(experiment: str, folder: Path = REPOSITORY / 'exps') -> EasyDict:
    """The finalized configuration of an experiment, freshly made."""
    file = folder / experiment / 'config.py'
    spec = importlib.util.spec_from_file_location('experiment_config', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cfg


def tiny_settings(root: Path, output: Path) -> list[str]:
    """--set values that make any COCO experiment a matter of seconds on one core."""
    return [
        f'DATASET.ROOT={root}',
        f'OUTPUT_DIR={output}',
        'INPUT_SHAPE=[64,64]',
        'MODEL.BACKBONE=Res-18',
        'MODEL.WIDTH=16',
        'MODEL.STAGE_NUM=2',
        'MODEL.UPSAMPLE_CHANNEL_NUM=16',
        'MODEL.WEIGHT=',
        'SOLVER.IMS_PER_GPU=3',
        'SOLVER.WARMUP_ITERS=2',
        'DATALOADER.NUM_WORKERS=1',
    ]


def fast_settings(root: Path, output: Path) -> list[str]:
    """The same for a run of 2 iterations on one process, a checkpoint at each."""
    run = ['SOLVER.IMS_PER_GPU=1', 'SOLVER.ACCUM_STEPS=8', 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.MAX_ITER=2']
    return [*tiny_settings(root, output), *run, 'DATALOADER.NUM_WORKERS=0', 'TEST.FLIP=False']


def small(root: Path, output: Path) -> list[str]:
    """--set values of a run of seconds, should it not be refused, without worker processes."""
    return [*tiny_settings(root, output), 'SOLVER.MAX_ITER=1', 'DATALOADER.NUM_WORKERS=0']


def keypoints(count: int) -> dict[str, object]:
    """Settings that describe a data set of so many joints."""
    values = {
        'NUM': count,
        'NAMES': [f'joint_{i}' for i in range(count)],
        'FLIP_PAIRS': [],
        'UPPER_BODY_IDS': [],
        'SKELETON': [],
        'SIGMAS': [0.1] * count,
    }
    return {f'DATASET.KEYPOINT.{key}': value for key, value in values.items()}


def earlier(config: dict) -> dict:
    """A plain configuration as versions wrote it that validated by TEST.DURING_TRAINING, here at every checkpoint."""
    solver = {**config['SOLVER'], 'COMPILE': False}
    del solver['REFERENCE_GPUS']
    test = {**config['TEST'], 'DURING_TRAINING': 1, 'DURING_TRAINING_IMAGES': 50}
    others = {key: value for key, value in config.items() if key != 'VALIDATION'}
    return {**others, 'SOLVER': solver, 'TEST': test, 'DATASET': {**config['DATASET'], 'WHOLE_JOINTS': True}}
