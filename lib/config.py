"""Configurations: the paper's defaults, and what becomes of an experiment's changes to them.

An experiment's config.py takes the defaults, changes a few keys and ends with `finalize(cfg, __file__)`. Run as a
script it prints what it resolves to:

    python config.py          the resolved configuration, the number of parameters, the multiply-adds
    python config.py -log     also links ./log to the output folder
"""

import functools
import getpass
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

from easydict import EasyDict

import lib.clone  # noqa: F401
from cvpack.errors import InputError, exits_cleanly
from lib.config_checks import check_keys, check_values
from lib.config_overrides import assign
from lib.datasets import coco, mpii
from lib.datasets.description import Description
from lib.experiment import importing_from, set_folder
from lib.network import OWN, own_file

REPOSITORY = Path(__file__).resolve().parent.parent

OUTPUT_STRIDE = 4

# SOLVER.MAX_ITER and CHECKPOINT_PERIOD are written for this many GPUs.
REFERENCE_GPUS = 8


def home() -> Path:
    """The folder that holds `dataset/` and `model_logs/`: $MSPN_HOME if set, else the repository."""
    return Path(os.environ.get('MSPN_HOME') or REPOSITORY).expanduser().resolve()


def coco_defaults(dataset: Description = coco.COCO) -> EasyDict:
    """The published COCO runs, but for the number of stages; of COCO itself or of another data set."""
    description = dataset.to_config()
    return EasyDict(
        DATASET=dict(
            **{key: value for key, value in description.items() if key != 'KEYPOINT'},
            KEYPOINT=dict(
                **description['KEYPOINT'],
                LOAD_MIN_NUM=1,  # people with fewer labelled joints are not trained on
            ),
            TRAIN=dict(
                BASIC_EXTENSION=0.05,
                RANDOM_EXTENSION=True,
                X_EXTENSION=0.6,
                Y_EXTENSION=0.8,
                SCALE_FACTOR_LOW=-0.25,
                SCALE_FACTOR_HIGH=0.25,
                SCALE_SHRINK_RATIO=0.8,
                ROTATION_FACTOR=45,  # degrees
                PROB_ROTATION=0.5,
                PROB_FLIP=0.5,
                NUM_KEYPOINTS_HALF_BODY=3,
                PROB_HALF_BODY=0.3,
                X_EXTENSION_HALF_BODY=0.6,
                Y_EXTENSION_HALF_BODY=0.8,
                GAUSSIAN_KERNELS=[15, 11, 9, 7, 5],
            ),
        ),
        INPUT_SHAPE=[256, 192],  # height, width
        OUTPUT_SHAPE=None,  # derived: INPUT_SHAPE / 4
        CODEC='standard',  # the published code's; or 'dark', 'udp', unbiased: lib/utils/codec.py
        INPUT=dict(MEANS=[0.406, 0.456, 0.485], STDS=[0.225, 0.224, 0.229]),  # BGR
        MODEL=dict(
            BACKBONE='Res-50',
            WIDTH=64,  # channels of the stem; a ResNet has 64
            STAGE_NUM=2,
            UPSAMPLE_CHANNEL_NUM=256,
            WEIGHT='lib/models/resnet-50_rename.pth',  # relative to the repository; '' starts from scratch
            WEIGHT_STAGES='all',  # or 'first', 'stem': what WEIGHT's ResNet goes into (lib/models/weights.py)
            DEVICE='cuda',
            SYNC_BN=False,
        ),
        SOLVER=dict(
            OPTIMIZER='Adam',  # or 'SGD'
            BASE_LR=5e-4,  # a GPU's: times the number of GPUs
            MOMENTUM=0.9,  # SGD's
            WEIGHT_DECAY=1e-5,
            IMS_PER_GPU=32,
            ACCUM_STEPS=1,  # batches to an iteration: a GPU with n counts for n GPUs
            MAX_ITER=96000,  # for 8 GPUs: times 8 / GPUs
            CHECKPOINT_PERIOD=2400,  # likewise
            WARMUP_FACTOR=0.1,
            WARMUP_ITERS=2400,
            PRECISION='fp32',  # or 'bf16', 'fp16'; heatmaps and loss stay in float32
            CHANNELS_LAST=True,  # memory layout: faster, the same but for rounding
            COMPILE=False,
            CUDA_GRAPH=False,  # on a GPU the whole step is captured once and replayed
            DROP_BIAS=False,  # train without biases that BatchNorm takes out again: faster, the same but for rounding
            EMA=0.0,  # decay of a moving average of the weights; 0: none
            SEED=0,
            KEEP_CHECKPOINTS=0,  # so many of the newest; 0: all
            TIMEOUT=600,  # seconds after which a process gives up waiting for the others
        ),
        LOSS=dict(OHKM=True, TOPK=8, COARSE_TO_FINE=True),
        DATALOADER=dict(
            NUM_WORKERS=4,  # a process; no more than there are cores
            # Decode JPEGs to train on at 1/2, 1/4 or 1/8 where a crop needs no more: faster, slightly other pixels.
            # Never in testing, whose results it would change.
            REDUCED_JPEG=False,
        ),
        TEST=dict(
            FLIP=True,
            X_EXTENSION=0.09,
            Y_EXTENSION=0.135,
            SHIFT_RATIOS=[0.25],  # of the standard codec; the others read between cells without
            GAUSSIAN_KERNEL=5,
            IMS_PER_GPU=32,
            PRECISION='fp32',  # or 'bf16', 'fp16', which change the results
            CUDA_GRAPH=False,  # as in training
            DURING_TRAINING=0,  # validate at every so many checkpoints while training; 0: never
            DURING_TRAINING_IMAGES=0,  # on so many images of the validation set, evenly spaced; 0: all
            SCALES=[1.0],  # of the box: heatmaps of several are averaged
            NMS='none',  # or 'oks', 'soft': people found twice (lib/datasets/nms.py)
            NMS_THRESHOLD=0.9,  # OKS above which two are one
            RESCORE='mean',  # a person's score: the box's times that of all joints, or of the 'confident' ones
        ),
        RUN_EFFICIENT=False,  # activation checkpointing
        EXPERIMENT=None,  # derived: the name of the experiment's folder
        NETWORK=None,  # derived: 'own' with a network.py in it; training says so, or 'mspn'
        OUTPUT_DIR='',  # '': home()/model_logs/<user>/<experiment>
        TEST_DIR=None,  # derived
        TENSORBOARD_DIR=None,  # derived
        USER=dict(),  # an experiment's own keys; values that json holds
    )


def mpii_defaults() -> EasyDict:
    """The published MPII runs, but for the number of stages."""
    cfg = coco_defaults(mpii.MPII)
    cfg.DATASET.TRAIN.update(
        BASIC_EXTENSION=0.0,
        RANDOM_EXTENSION=False,
        X_EXTENSION=0.25,
        Y_EXTENSION=0.25,
        SCALE_SHRINK_RATIO=1.0,
        ROTATION_FACTOR=60,
        NUM_KEYPOINTS_HALF_BODY=8,
        PROB_HALF_BODY=0.5,
        X_EXTENSION_HALF_BODY=0.6,
        Y_EXTENSION_HALF_BODY=0.6,
    )
    cfg.INPUT_SHAPE = [256, 256]
    cfg.SOLVER.update(MAX_ITER=28800, CHECKPOINT_PERIOD=1600)
    cfg.TEST.update(X_EXTENSION=0.25, Y_EXTENSION=0.25, GAUSSIAN_KERNEL=9)
    cfg.RUN_EFFICIENT = True
    return cfg


def finalize(cfg: EasyDict, file: str) -> None:
    """Checks an experiment's configuration and fills in what follows from it, in place; creates nothing.

    file: the experiment's __file__; its folder names the experiment. When that file is being run as a script, it
    goes on to the command of this module's docstring. Raises InputError that names the key; in the experiment's own
    scripts that is one line and an exit.
    """
    file = Path(file).resolve()
    script = Path(getattr(sys.modules['__main__'], '__file__', None) or '.').resolve()
    if script.parent != file.parent:
        _finalize(cfg, file.parent)
        return
    exits_cleanly(_finalize)(cfg, file.parent)
    if script == file:
        from lib.config_command import main  # which needs what needs this module

        exits_cleanly(main)(cfg)


def _finalize(cfg: EasyDict, experiment: Path) -> None:
    cfg.EXPERIMENT = experiment.name
    cfg.NETWORK = OWN if own_file(experiment) else None
    set_folder(cfg, experiment)
    if not cfg.get('OUTPUT_DIR'):
        cfg.OUTPUT_DIR = str(home() / 'model_logs' / _user() / experiment.name)
    _check_and_derive(cfg)


def _user() -> str:
    """The user's name; in a container that knows none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid()) if hasattr(os, 'getuid') else 'user'


def override(cfg: EasyDict, assignments: list[str]) -> None:
    """Applies `KEY=VALUE` strings of a command line (--set) to a finalized configuration, in place.

    A value is read as a Python literal where it is one, else as a string. Raises InputError as finalize does.
    """
    for assignment in assignments:
        assign(cfg, assignment)
    _check_and_derive(cfg)


def _check_and_derive(cfg: EasyDict) -> None:
    """Raises InputError for what is wrong, then sets the keys that follow from others."""
    check_keys(cfg, coco_defaults())
    check_values(cfg)
    cfg.OUTPUT_SHAPE = [size // OUTPUT_STRIDE for size in cfg.INPUT_SHAPE]
    cfg.TEST_DIR = str(Path(cfg.OUTPUT_DIR) / 'test_dir')
    cfg.TENSORBOARD_DIR = str(Path(cfg.OUTPUT_DIR) / 'tb_dir')


def to_plain(cfg: EasyDict) -> dict:
    """The configuration as plain dictionaries, lists and numbers, fit for json and checkpoints."""
    return json.loads(json.dumps(cfg))


def run_config(experiment: Path) -> EasyDict:
    """The configuration of an experiment's folder. Raises InputError if there is none."""
    file = experiment / 'config.py'
    if not file.is_file():
        raise InputError(f'{file} does not exist: name the folder of an experiment, like exps/mspn.2xstg.coco')
    with importing_from(experiment):
        return runpy.run_path(str(file))['cfg']


@functools.cache
def git_revision() -> str:
    """The repository's commit, with '-dirty' when files differ from it; 'unknown' outside a git checkout.

    Asked once: a run is of the code that it began with, whatever is committed while it goes on.
    """
    command = ['git', '-C', str(REPOSITORY), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
