"""What a configuration may hold: keys, types, values. Each refusal is one line that names the key."""

from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError
from cvpack.solver import OPTIMIZERS
from lib.models.resnet import BACKBONES

# Every stage halves the input five times, and a level's map must be exactly half of the next.
INPUT_DIVISOR = 32

CHOICES = {
    'DATASET.NAME': ('COCO', 'MPII'),
    'MODEL.BACKBONE': tuple(BACKBONES),
    'MODEL.DEVICE': ('cuda', 'cpu'),
    'MODEL.WEIGHT_STAGES': ('all', 'first'),
    'SOLVER.OPTIMIZER': OPTIMIZERS,
    'SOLVER.PRECISION': ('fp32', 'bf16', 'fp16'),
}


def check_keys(cfg: dict, defaults: dict, prefix: str = '') -> None:
    """Refuses keys that the defaults do not have or lack, and values of another type than the default's."""
    for name in defaults:
        if name not in cfg:
            raise InputError(f'config: {prefix}{name} is missing; begin with coco_defaults() or mpii_defaults()')
    for name, value in cfg.items():
        key = prefix + name
        if name not in defaults:
            raise InputError(f'config: unknown key {key}; there are: {", ".join(sorted(defaults))}')
        default = defaults[name]
        if isinstance(default, dict) and isinstance(value, dict):
            check_keys(value, default, key + '.')
        elif default is not None and not _same_kind(value, default):
            raise InputError(f'config: {key} = {value!r} should be a {type(default).__name__}, like {default!r}')


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple))
    return isinstance(value, type(default))


def check_values(cfg: EasyDict) -> None:
    """Refuses values that would fail later or, worse, would not."""
    for key, choices in CHOICES.items():
        group, name = key.split('.')
        if cfg[group][name] not in choices:
            raise InputError(f'config: {key} = {cfg[group][name]!r} is none of {", ".join(choices)}')
    shape = cfg.INPUT_SHAPE
    if len(shape) != 2 or any(not isinstance(s, int) or s <= 0 or s % INPUT_DIVISOR for s in shape):
        raise InputError(
            f'config: INPUT_SHAPE = {list(shape)} should be [height, width], both divisible by {INPUT_DIVISOR}'
        )
    kernels = [*cfg.DATASET.TRAIN.GAUSSIAN_KERNELS, cfg.TEST.GAUSSIAN_KERNEL]
    if len(kernels) != 6 or any(not isinstance(k, int) or k < 1 or k % 2 == 0 for k in kernels):
        raise InputError(f'config: GAUSSIAN_KERNELS (five) and TEST.GAUSSIAN_KERNEL should be odd sizes, not {kernels}')
    num_keypoints = cfg.DATASET.KEYPOINT.NUM
    if not 1 <= cfg.LOSS.TOPK <= num_keypoints:
        raise InputError(f'config: LOSS.TOPK = {cfg.LOSS.TOPK} should be between 1 and the {num_keypoints} joints')
    ids = [
        *cfg.DATASET.KEYPOINT.UPPER_BODY_IDS,
        *(i for pair in cfg.DATASET.KEYPOINT.FLIP_PAIRS for i in pair),
    ]
    if any(not 0 <= i < num_keypoints for i in ids):
        raise InputError(
            f'config: DATASET.KEYPOINT.FLIP_PAIRS and UPPER_BODY_IDS should name joints 0 to {num_keypoints - 1}'
        )
    positive = {
        'MODEL.STAGE_NUM',
        'SOLVER.IMS_PER_GPU',
        'SOLVER.MAX_ITER',
        'SOLVER.CHECKPOINT_PERIOD',
        'TEST.IMS_PER_GPU',
    }
    for key in sorted(positive):
        group, name = key.split('.')
        if cfg[group][name] < 1:
            raise InputError(f'config: {key} = {cfg[group][name]} should be 1 or more')
    if cfg.SOLVER.COMPILE and cfg.RUN_EFFICIENT:
        raise InputError('config: SOLVER.COMPILE and RUN_EFFICIENT exclude each other: set one of them to False')
