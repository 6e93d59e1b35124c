"""What a configuration may hold: keys, types, values. Each refusal is one line that names the key."""

import json
from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError
from lib.config.ranges import CHOICES, INPUT_DIVISOR, LISTS, RANGES
from lib.datasets.checks import shown

# Deeper than anybody writes down; what holds itself has no end.
MAX_DEPTH = 50


def check_keys(cfg: dict, defaults: dict, prefix: str = '') -> None:
    """Refuses keys that the defaults do not have or lack, and values of another type than the default's.

    Below USER there may be any keys, and any values that json holds: they go into checkpoints.
    """
    for name in defaults:
        if name not in cfg:
            raise InputError(f'config: {prefix}{name} is missing; begin with coco_defaults() or mpii_defaults()')
    for name in cfg:
        key, value = f'{prefix}{name}', cfg[name]
        if name not in defaults:
            raise InputError(
                f'config: unknown key {shown(key)[1:-1]}; there are: {", ".join(sorted(defaults))} '
                '(your own go below USER)'
            )
        default = defaults[name]
        if isinstance(default, dict) and isinstance(value, dict):
            _check_user(value, key) if key == 'USER' else check_keys(value, default, key + '.')
        elif default is not None and not _same_kind(value, default):
            kind = 'dict' if isinstance(default, dict) else type(default).__name__
            raise InputError(f'config: {key} = {shown(value)} should be a {kind}, like {shown(default)}')
        elif isinstance(value, str) and not _is_text(value):
            raise InputError(f'config: {key} = {shown(value)} holds characters that no path can: remove them')


def _check_user(value: Any, key: str, depth: int = 0) -> None:
    """Refuses what json cannot hold, and names that would hide a dictionary's own attributes."""
    if depth > MAX_DEPTH:
        raise InputError(f'config: {key[:100]}... is nested more than {MAX_DEPTH} deep: make it flatter')
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str) or hasattr(EasyDict, name):
                raise InputError(f'config: {key} cannot have a key {shown(name)}, which dictionaries have: rename it')
            _check_user(value[name], f'{key}.{name}', depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            _check_user(entry, f'{key}[{index}]', depth + 1)
    else:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f'config: {key} = {shown(value)} cannot be kept in a checkpoint: {error}') from None


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it, and a path."""
    return '\0' not in value and value.encode(errors='ignore').decode() == value


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
        if _get(cfg, key) not in choices:
            raise InputError(f'config: {key} = {shown(_get(cfg, key))} is none of {", ".join(choices)}')
    for key, (count, kind) in LISTS.items():
        if (count and len(_get(cfg, key)) != count) or not _all(kind, _get(cfg, key)):
            how_many = f'{count} ' if count else ''
            raise InputError(f'config: {key} = {shown(_get(cfg, key))} should be a list of {how_many}{kind.__name__}s')
    for key, (low, high) in RANGES.items():
        value = _get(cfg, key)
        # The comparison is false for NaN.
        if not all(low <= number <= high for number in (value if isinstance(value, (list, tuple)) else [value])):
            raise InputError(f'config: {key} = {shown(value)} should be {low} to {high}, both included')
    _check_shapes(cfg)
    _check_train(cfg)
    _check_test(cfg)
    _check_joints(cfg)
    _check_description(cfg)
    if not cfg.OUTPUT_DIR:
        raise InputError('config: OUTPUT_DIR is empty: name a folder')
    if cfg.SOLVER.COMPILE and cfg.RUN_EFFICIENT:
        raise InputError('config: SOLVER.COMPILE and RUN_EFFICIENT exclude each other: set one of them to False')


def _get(cfg: EasyDict, key: str) -> Any:
    for name in key.split('.'):
        cfg = cfg[name]
    return cfg


def _all(kind: type, values: list) -> bool:
    return all(_same_kind(value, kind()) for value in values)


def _check_shapes(cfg: EasyDict) -> None:
    shape = list(cfg.INPUT_SHAPE)
    if any(size % INPUT_DIVISOR for size in shape):
        raise InputError(f'config: INPUT_SHAPE = {shape} should be [height, width], both divisible by {INPUT_DIVISOR}')
    kernels = [*cfg.DATASET.TRAIN.GAUSSIAN_KERNELS, cfg.TEST.GAUSSIAN_KERNEL]
    if any(kernel % 2 == 0 for kernel in kernels):
        raise InputError(f'config: GAUSSIAN_KERNELS and TEST.GAUSSIAN_KERNEL should be odd sizes, not {kernels}')


def _check_train(cfg: EasyDict) -> None:
    low, high = cfg.DATASET.TRAIN.SCALE_FACTOR_LOW, cfg.DATASET.TRAIN.SCALE_FACTOR_HIGH
    if low > high:
        raise InputError(f'config: DATASET.TRAIN.SCALE_FACTOR_LOW = {low} should be at most SCALE_FACTOR_HIGH = {high}')
    if not 1 <= cfg.DATASET.KEYPOINT.LOAD_MIN_NUM <= cfg.DATASET.KEYPOINT.NUM:
        raise InputError(
            f'config: DATASET.KEYPOINT.LOAD_MIN_NUM = {shown(cfg.DATASET.KEYPOINT.LOAD_MIN_NUM)} should be between 1 '
            f'and the {cfg.DATASET.KEYPOINT.NUM} joints'
        )


def _check_test(cfg: EasyDict) -> None:
    test = cfg.TEST
    if not test.SCALES:
        raise InputError('config: TEST.SCALES is empty: leave [1.0] for the box as it is')
    if cfg.DATASET.FORMAT == 'MPII' and (test.NMS != 'none' or test.RESCORE != 'mean'):
        raise InputError(
            f'config: TEST.NMS = {test.NMS!r}, TEST.RESCORE = {test.RESCORE!r}: people of DATASET.FORMAT MPII have no '
            "scores: leave 'none' and 'mean'"
        )


def _check_joints(cfg: EasyDict) -> None:
    keypoint = cfg.DATASET.KEYPOINT
    if not 1 <= cfg.LOSS.TOPK <= keypoint.NUM:
        raise InputError(
            f'config: LOSS.TOPK = {shown(cfg.LOSS.TOPK)} should be between 1 and the {keypoint.NUM} joints: set it'
        )
    for key in ('FLIP_PAIRS', 'SKELETON'):
        pairs = keypoint[key]
        fit = all(isinstance(pair, (list, tuple)) and len(pair) == 2 and _all(int, pair) for pair in pairs)
        if not fit or not _are_joints([joint for pair in pairs for joint in pair], keypoint.NUM):
            raise InputError(
                f'config: DATASET.KEYPOINT.{key} (pairs) should name joints 0 to {keypoint.NUM - 1}, not {shown(pairs)}'
            )
    paired = [joint for pair in keypoint.FLIP_PAIRS for joint in pair]
    if len(set(paired)) < len(paired):
        raise InputError(f'config: DATASET.KEYPOINT.FLIP_PAIRS = {keypoint.FLIP_PAIRS} should name a joint once')
    _check_sides(keypoint)
    if not _are_joints(keypoint.UPPER_BODY_IDS, keypoint.NUM):
        raise InputError(
            f'config: DATASET.KEYPOINT.UPPER_BODY_IDS should name joints 0 to {keypoint.NUM - 1}, '
            f'not {shown(keypoint.UPPER_BODY_IDS)}'
        )


def _check_sides(keypoint: EasyDict) -> None:
    """Joints called left_x and right_x have to be a pair: a wrong one would quietly spoil all that is mirrored."""
    if len(keypoint.NAMES) != keypoint.NUM:
        return  # told elsewhere
    pairs = {frozenset(keypoint.NAMES[joint] for joint in pair) for pair in keypoint.FLIP_PAIRS}
    for name in keypoint.NAMES:
        other = f'right_{name.removeprefix("left_")}'
        if name.startswith('left_') and other in keypoint.NAMES and frozenset((name, other)) not in pairs:
            raise InputError(f'config: DATASET.KEYPOINT.FLIP_PAIRS should pair {name} with {other}, by their names')


def _are_joints(ids: list[int], count: int) -> bool:
    return all(0 <= joint < count for joint in ids)


def _check_description(cfg: EasyDict) -> None:
    """What the data set's description lists a joint each, and the files that no data set goes without."""
    dataset, keypoint = cfg.DATASET, cfg.DATASET.KEYPOINT
    if len(keypoint.NAMES) != keypoint.NUM or len(set(keypoint.NAMES)) < keypoint.NUM:
        raise InputError(
            f'config: DATASET.KEYPOINT.NAMES should be {keypoint.NUM} different names (NUM), not '
            f'{shown(keypoint.NAMES)}'
        )
    if dataset.FORMAT == 'COCO' and len(keypoint.SIGMAS) != keypoint.NUM:
        raise InputError(
            f'config: DATASET.KEYPOINT.SIGMAS should be {keypoint.NUM} numbers above 0 (NUM), not '
            f'{shown(keypoint.SIGMAS)}'
        )
    if dataset.FORMAT == 'MPII' and keypoint.SIGMAS:
        raise InputError(
            'config: DATASET.KEYPOINT.SIGMAS are of no use for DATASET.FORMAT = MPII, which has PCKh: set []'
        )
    for key in ('NAME', 'ROOT', 'TRAIN_JSON', 'VAL_JSON'):
        if not dataset[key]:
            raise InputError(f'config: DATASET.{key} is empty: name it')
