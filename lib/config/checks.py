"""Checks of a configuration: keys, types, values. Each error is one line that names the key."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError
from cvpack.precision import DTYPES
from cvpack.solver import DECAYS, OPTIMIZERS
from lib.config.defaults import FORMER
from lib.datasets.checks import shown
from lib.models.resnet import BACKBONES
from lib.utils.codec import CODECS
from lib.utils.heatmap import DECODE_PADDING

# Every stage halves the input five times, and a level must have exactly half the size of the next.
INPUT_DIVISOR = 32

CHOICES = {
    'CODEC': tuple(CODECS),
    'DATASET.FORMAT': ('COCO', 'MPII'),
    'MODEL.BACKBONE': tuple(BACKBONES),
    'MODEL.DEVICE': ('cuda', 'cpu'),
    'MODEL.WEIGHT_STAGES': ('all', 'first', 'stem'),
    'SOLVER.OPTIMIZER': OPTIMIZERS,
    'SOLVER.SCHEDULE': DECAYS,
    'SOLVER.PRECISION': tuple(DTYPES),
    'TEST.PRECISION': tuple(DTYPES),
    'TEST.NMS': ('none', 'oks', 'soft'),
    'TEST.RESCORE': ('mean', 'confident'),
}

# Limits, both included, of a number or of every number of a list. The first pattern that matches the key counts.
RANGES = {
    'INPUT_SHAPE': (INPUT_DIVISOR, 8192),
    'INPUT.MEANS': (0, 1),  # of pixels divided by 255
    'INPUT.STDS': (0.001, 10),
    'DATASET.KEYPOINT.NUM': (1, 10_000),
    'DATASET.KEYPOINT.SIGMAS': (0.0001, 10),
    'DATASET.TRAIN.SCALE_FACTOR_*': (-0.9, 9),
    'DATASET.TRAIN.SCALE_SHRINK_RATIO': (0.1, 10),
    'DATASET.TRAIN.ROTATION_FACTOR': (0, 180),
    'DATASET.TRAIN.PROB_*': (0, 1),
    'DATASET.TRAIN.BRIGHTNESS': (0, 1),
    'DATASET.TRAIN.CONTRAST': (0, 1),
    'DATASET.TRAIN.SATURATION': (0, 1),
    'DATASET.TRAIN.GAUSSIAN_KERNELS': (1, 999),
    '*_EXTENSION*': (0, 10),
    'MODEL.STAGE_NUM': (1, 100),
    'MODEL.WIDTH': (1, 4096),
    'MODEL.UPSAMPLE_CHANNEL_NUM': (1, 65536),
    'SOLVER.BASE_LR': (0, 1000),
    'SOLVER.WARMUP_FACTOR': (0, 1),
    'SOLVER.WEIGHT_DECAY': (0, 1),
    'SOLVER.MOMENTUM': (0, 0.999999),
    'SOLVER.EMA': (0, 0.999999),
    'SOLVER.SEED': (0, 2**32 - 1),
    'SOLVER.ACCUM_STEPS': (1, 2**20),
    'SOLVER.REFERENCE_GPUS': (1, 2**20),
    'SOLVER.TIMEOUT': (1, 2**20),
    'SOLVER.MAX_ITER': (1, 2**40),
    'SOLVER.CHECKPOINT_PERIOD': (1, 2**40),
    'DATALOADER.NUM_WORKERS': (0, 1024),
    'TEST.GAUSSIAN_KERNEL': (1, 2 * DECODE_PADDING - 1),
    'TEST.SHIFT_RATIOS': (0, 1),
    'TEST.SCALES': (0.25, 4),
    'TEST.NMS_THRESHOLD': (0, 1),
    '*.IMS_PER_GPU': (1, 2**20),
    '*': (0, 2**40),
}

# Of lists with a fixed length.
LENGTHS = {'INPUT_SHAPE': 2, 'INPUT.MEANS': 3, 'INPUT.STDS': 3, 'DATASET.TRAIN.GAUSSIAN_KERNELS': 5}

MAX_DEPTH = 50  # of USER; a value that contains itself has no end


def check(cfg: EasyDict, defaults: dict) -> None:
    """Raises InputError, which names the key, for an invalid configuration.

    defaults: in plain values, for the names of the keys and the types of their values; None: any type
    """
    _check_keys(cfg, defaults, '')
    _check_relations(cfg)
    _check_joints(cfg.DATASET.KEYPOINT, cfg.DATASET.FORMAT)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f'config: {message}')


def _check_keys(cfg: dict, defaults: dict, prefix: str) -> None:
    for name in defaults:
        _require(name in cfg, f'{prefix}{name} is missing; start from coco_defaults() or mpii_defaults()')
    for name in cfg:  # not items(), which a key of that name would hide
        key, value = f'{prefix}{name}', cfg[name]
        known = f'it is now {FORMER[key]}' if FORMER.get(key) else f'known keys: {", ".join(sorted(defaults))}'
        _require(name in defaults, f'unknown key {shown(key)[1:-1]}; {known} (your own keys belong under USER)')
        if isinstance(value, dict) and key == 'USER':
            _check_user(value, key)
        elif isinstance(value, dict) and isinstance(defaults[name], dict):
            _check_keys(value, defaults[name], f'{key}.')
        elif defaults[name] is not None:
            _check_value(key, value, defaults[name])


def _check_user(value: Any, key: str, depth: int = 0) -> None:
    """Refuses values that JSON, and so a checkpoint, cannot hold, and keys that would hide an attribute of EasyDict."""
    _require(depth <= MAX_DEPTH, f'{key[:100]}... is nested more than {MAX_DEPTH} deep: flatten it')
    if isinstance(value, dict):
        for name in value:
            valid = isinstance(name, str) and not hasattr(EasyDict, name)
            _require(valid, f'{key} cannot have a key {shown(name)}, an attribute of dictionaries: rename it')
            _check_user(value[name], f'{key}.{name}', depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            _check_user(entry, f'{key}[{index}]', depth + 1)
    else:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f'config: {key} = {shown(value)} cannot be saved in a checkpoint: {error}') from None


def _check_value(key: str, value: Any, default: Any) -> None:
    setting = f'{key} = {shown(value)}'
    if isinstance(default, list):
        valid = _same_type(value, default) and len(value) == LENGTHS.get(key, len(value))
        length = f'{LENGTHS[key]} ' if key in LENGTHS else ''
        _require(valid, f'{setting} should be a list of {length}{type(default[0]).__name__}s')
    else:
        valid = _same_type(value, default)
        _require(valid, f'{setting} should be a {type(default).__name__}, like {shown(default)}')
    if key in CHOICES:
        _require(value in CHOICES[key], f'{setting} should be one of {", ".join(CHOICES[key])}')
    if isinstance(value, str):
        valid = '\0' not in value and value.encode(errors='ignore').decode() == value
        _require(valid, f'{setting} has characters that are not allowed in paths: remove them')
    low, high = next(limits for pattern, limits in RANGES.items() if fnmatchcase(key, pattern))
    # The comparison is false for NaN.
    in_range = all(low <= number <= high for number in _numbers(value))
    _require(in_range, f'{setting} should be {low} to {high}')


def _same_type(value: Any, default: Any) -> bool:
    """Whether a value has the default's type, and a list's entries that of the default's."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, list):
        return isinstance(value, (list, tuple)) and all(_same_type(entry, default[0]) for entry in value)
    return isinstance(value, type(default))


def _numbers(value: Any) -> Iterator[float]:
    """A number, or every number of a list."""
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, (int, float)):
        yield value


def _check_relations(cfg: EasyDict) -> None:
    """Conditions between values."""
    dataset, keypoint, train, test = cfg.DATASET, cfg.DATASET.KEYPOINT, cfg.DATASET.TRAIN, cfg.TEST
    for key in ('NAME', 'ROOT', 'TRAIN_JSON', 'VAL_JSON'):
        _require(dataset[key] != '', f'DATASET.{key} is empty: set it')
    _require(cfg.OUTPUT_DIR != '', 'OUTPUT_DIR is empty: set a folder')
    shape, kernels = list(cfg.INPUT_SHAPE), [*train.GAUSSIAN_KERNELS, test.GAUSSIAN_KERNEL]
    divisible = not any(size % INPUT_DIVISOR for size in shape)
    _require(divisible, f'INPUT_SHAPE = {shape} should be [height, width], both divisible by {INPUT_DIVISOR}')
    odd = all(kernel % 2 for kernel in kernels)
    _require(odd, f'GAUSSIAN_KERNELS and TEST.GAUSSIAN_KERNEL should be odd sizes, not {kernels}')
    low, high = train.SCALE_FACTOR_LOW, train.SCALE_FACTOR_HIGH
    _require(low <= high, f'DATASET.TRAIN.SCALE_FACTOR_LOW = {low} should be at most SCALE_FACTOR_HIGH = {high}')
    exclusive = not (cfg.SOLVER.TRITON and cfg.MODEL.SYNC_BN)
    _require(exclusive, 'SOLVER.TRITON and MODEL.SYNC_BN exclude each other: set one of them to False')
    _require(len(test.SCALES) > 0, 'TEST.SCALES is empty: set [1.0] for the unscaled box')
    if dataset.FORMAT == 'MPII':
        setting = f'TEST.NMS = {test.NMS!r}, TEST.RESCORE = {test.RESCORE!r}'
        why = "people in DATASET.FORMAT MPII have no scores: set 'none' and 'mean'"
        _require((test.NMS, test.RESCORE) == ('none', 'mean'), f'{setting}: {why}')
        why = 'are not used with DATASET.FORMAT MPII, whose metric is PCKh: set []'
        _require(not keypoint.SIGMAS, f'DATASET.KEYPOINT.SIGMAS {why}')
        why = 'is not used with DATASET.FORMAT MPII, which trains on everybody: set 1'
        _require(keypoint.LOAD_MIN_NUM == 1, f'DATASET.KEYPOINT.LOAD_MIN_NUM = {keypoint.LOAD_MIN_NUM} {why}')
    for key, count in {'DATASET.KEYPOINT.LOAD_MIN_NUM': keypoint.LOAD_MIN_NUM, 'LOSS.TOPK': cfg.LOSS.TOPK}.items():
        _require(1 <= count <= keypoint.NUM, f'{key} = {count} should be 1 to {keypoint.NUM}, the number of joints')


def _check_joints(keypoint: EasyDict, form: str) -> None:
    """Conditions on the joints' names and sigmas, and on keys that refer to joints by index."""
    count, names = keypoint.NUM, keypoint.NAMES
    unique = len(names) == len(set(names)) == count
    _require(unique, f'DATASET.KEYPOINT.NAMES should be {count} different names (NUM), not {shown(names)}')
    valid = form != 'COCO' or len(keypoint.SIGMAS) == count
    _require(valid, f'DATASET.KEYPOINT.SIGMAS should be {count} numbers above 0 (NUM), not {shown(keypoint.SIGMAS)}')
    for key, size in {'FLIP_PAIRS': 2, 'SKELETON': 2, 'UPPER_BODY_IDS': 0}.items():
        valid = all(joint < count for joint in _numbers(keypoint[key]))
        valid = valid and all(len(pair) == size for pair in keypoint[key] if size)
        entries = 'pairs of joints' if size else 'joints'
        _require(valid, f'DATASET.KEYPOINT.{key} should be {entries} 0 to {count - 1}, not {shown(keypoint[key])}')
    paired = list(_numbers(keypoint.FLIP_PAIRS))
    once = len(set(paired)) == len(paired)
    _require(once, f'DATASET.KEYPOINT.FLIP_PAIRS = {keypoint.FLIP_PAIRS} should have each joint once')
    # A wrong pair would silently corrupt mirrored samples.
    pairs = {frozenset(names[joint] for joint in pair) for pair in keypoint.FLIP_PAIRS}
    for name in names:
        other = f'right_{name.removeprefix("left_")}'
        valid = not name.startswith('left_') or other not in names or frozenset((name, other)) in pairs
        _require(valid, f'DATASET.KEYPOINT.FLIP_PAIRS should pair {name} with {other}')
