"""Configurations: the paper's defaults, and what becomes of an experiment's changes to them.

An experiment's config.py takes the defaults, changes a few keys and ends with `finalize(cfg, __file__)`. Run as a
script it prints what it resolves to:

    python config.py          the resolved configuration, the number of parameters, the multiply-adds
    python config.py -log     also links ./log to the output folder
"""

import argparse
import ast
import functools
import getpass
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly
from lib.config_checks import check_keys, check_values
from lib.datasets import coco, mpii
from lib.datasets.description import Description

REPOSITORY = Path(__file__).resolve().parent.parent

OUTPUT_STRIDE = 4


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
            WEIGHT_STAGES='all',  # 'all' or 'first': the trunks that WEIGHT goes into
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
            EMA=0.0,  # decay of a moving average of the weights; 0: none
            SEED=0,
            KEEP_CHECKPOINTS=0,  # so many of the newest; 0: all
            TIMEOUT=600,  # seconds after which a process gives up waiting for the others
        ),
        LOSS=dict(OHKM=True, TOPK=8, COARSE_TO_FINE=True),
        DATALOADER=dict(NUM_WORKERS=4),  # a process; no more than there are cores
        TEST=dict(
            FLIP=True,
            X_EXTENSION=0.09,
            Y_EXTENSION=0.135,
            SHIFT_RATIOS=[0.25],  # of the standard codec; the others read between cells without
            GAUSSIAN_KERNEL=5,
            IMS_PER_GPU=32,
            PRECISION='fp32',  # or 'bf16', 'fp16', which change the results
            DURING_TRAINING=0,  # validate at every so many checkpoints while training; 0: never
            DURING_TRAINING_IMAGES=0,  # on so many images of the validation set, evenly spaced; 0: all
            SCALES=[1.0],  # of the box: heatmaps of several are averaged
            NMS='none',  # or 'oks', 'soft': people found twice (lib/datasets/nms.py)
            NMS_THRESHOLD=0.9,  # OKS above which two are one
            RESCORE='mean',  # a person's score: the box's times that of all joints, or of the 'confident' ones
        ),
        RUN_EFFICIENT=False,  # activation checkpointing
        EXPERIMENT=None,  # derived: the name of the experiment's folder
        OUTPUT_DIR='',  # '': home()/model_logs/<user>/<experiment>
        TEST_DIR=None,  # derived
        TENSORBOARD_DIR=None,  # derived
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
        exits_cleanly(_command)(cfg)


def _finalize(cfg: EasyDict, experiment: Path) -> None:
    cfg.EXPERIMENT = experiment.name
    if not cfg.get('OUTPUT_DIR'):
        cfg.OUTPUT_DIR = str(home() / 'model_logs' / _user() / experiment.name)
    _check_and_derive(cfg)


def _user() -> str:
    """The user's name; in a container that knows none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def override(cfg: EasyDict, assignments: list[str]) -> None:
    """Applies `KEY=VALUE` strings of a command line (--set) to a finalized configuration, in place.

    A value is read as a Python literal where it is one, else as a string. Raises InputError as finalize does.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition('=')
        if not equals:
            raise InputError(f'--set {assignment}: write it as KEY=VALUE, for example SOLVER.BASE_LR=1e-3')
        *parents, name = key.split('.')
        node = cfg
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name not in node:
            raise InputError(f'--set {assignment}: there is no key {key}')
        if name in ('EXPERIMENT', 'OUTPUT_SHAPE', 'TEST_DIR', 'TENSORBOARD_DIR'):
            raise InputError(f'--set {assignment}: {key} follows from the folder, INPUT_SHAPE or OUTPUT_DIR; set these')
        node[name] = _parse(text)
    _check_and_derive(cfg)


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


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


def _command(cfg: EasyDict) -> None:
    """`python config.py`: prints what the configuration resolves to."""
    parser = argparse.ArgumentParser(description='Print the resolved configuration, parameters and GMACs.')
    parser.add_argument('-log', action='store_true', help='link ./log to the output folder')
    args = parser.parse_args()
    from lib.models.mspn import count_cost

    print(json.dumps(cfg, indent=2))
    parameters, macs, test_macs = count_cost(cfg)
    size = 'x'.join(map(str, cfg.INPUT_SHAPE))
    print(f'parameters: {parameters:,}')
    print(f'GMACs: {macs / 1e9:.2f} a {size} image ({test_macs / 1e9:.2f} in testing, which needs one head)')
    if args.log:
        link = Path('log')
        if link.exists() and not link.is_symlink():
            raise InputError(f'{link.absolute()} is in the way: move it, then run `python config.py -log` again')
        new = link.with_name('log.tmp')
        try:
            Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.symlink_to(cfg.OUTPUT_DIR)
            os.replace(new, link)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise InputError(
                f'cannot link {link.absolute()} to {cfg.OUTPUT_DIR} ({reason}): look for the outputs there'
            ) from None
        print(f'log -> {cfg.OUTPUT_DIR}')
