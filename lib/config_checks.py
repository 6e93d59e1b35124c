"""What a configuration may hold: keys, types, values. Each refusal is one line that names the key."""

from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError
from cvpack.precision import DTYPES
from cvpack.solver import OPTIMIZERS
from lib.models.resnet import BACKBONES
from lib.utils.codec import CODECS
from lib.utils.heatmap import DECODE_PADDING

# Every stage halves the input five times, and a level's map must be exactly half of the next.
INPUT_DIVISOR = 32

CHOICES = {
    'CODEC': tuple(CODECS),
    'DATASET.FORMAT': ('COCO', 'MPII'),
    'MODEL.BACKBONE': tuple(BACKBONES),
    'MODEL.DEVICE': ('cuda', 'cpu'),
    'MODEL.WEIGHT_STAGES': ('all', 'first'),
    'SOLVER.OPTIMIZER': OPTIMIZERS,
    'SOLVER.PRECISION': tuple(DTYPES),
    'TEST.PRECISION': tuple(DTYPES),
    'TEST.NMS': ('none', 'oks', 'soft'),
    'TEST.RESCORE': ('mean', 'confident'),
}

# A test's crops may show so many times the box.
SCALES = 0.25, 4

# Low and high, both allowed.
RANGES = {
    'MODEL.STAGE_NUM': (1, 100),
    'MODEL.WIDTH': (1, 4096),
    'MODEL.UPSAMPLE_CHANNEL_NUM': (1, 65536),
    'SOLVER.IMS_PER_GPU': (1, 2**20),
    'SOLVER.ACCUM_STEPS': (1, 2**20),
    'SOLVER.MAX_ITER': (1, 2**40),
    'SOLVER.CHECKPOINT_PERIOD': (1, 2**40),
    'SOLVER.WARMUP_ITERS': (0, 2**40),
    'SOLVER.WEIGHT_DECAY': (0, 1),
    'SOLVER.EMA': (0, 0.999999),
    'SOLVER.SEED': (0, 2**32 - 1),
    'SOLVER.KEEP_CHECKPOINTS': (0, 2**40),
    'SOLVER.TIMEOUT': (1, 2**20),
    'DATALOADER.NUM_WORKERS': (0, 1024),
    'TEST.IMS_PER_GPU': (1, 2**20),
    'TEST.GAUSSIAN_KERNEL': (1, 2 * DECODE_PADDING - 1),
    'TEST.DURING_TRAINING': (0, 2**40),
    'TEST.DURING_TRAINING_IMAGES': (0, 2**40),
    'TEST.NMS_THRESHOLD': (0, 1),
}

# Number of elements (0: any) and their type.
LISTS = {
    'INPUT_SHAPE': (2, int),
    'INPUT.MEANS': (3, float),
    'INPUT.STDS': (3, float),
    'DATASET.TRAIN.GAUSSIAN_KERNELS': (5, int),
    'DATASET.KEYPOINT.NAMES': (0, str),
    'DATASET.KEYPOINT.UPPER_BODY_IDS': (0, int),
    'DATASET.KEYPOINT.SIGMAS': (0, float),
    'TEST.SHIFT_RATIOS': (0, float),
    'TEST.SCALES': (0, float),
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
        if _get(cfg, key) not in choices:
            raise InputError(f'config: {key} = {_get(cfg, key)!r} is none of {", ".join(choices)}')
    for key, (low, high) in RANGES.items():
        if not low <= _get(cfg, key) <= high:
            raise InputError(f'config: {key} = {_get(cfg, key)} should be {low} to {high}, both included')
    for key, (count, kind) in LISTS.items():
        if (count and len(_get(cfg, key)) != count) or not _all(kind, _get(cfg, key)):
            how_many = f'{count} ' if count else ''
            raise InputError(f'config: {key} = {_get(cfg, key)} should be a list of {how_many}{kind.__name__}s')
    _check_shapes(cfg)
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
    if any(size <= 0 or size % INPUT_DIVISOR for size in shape):
        raise InputError(f'config: INPUT_SHAPE = {shape} should be [height, width], both divisible by {INPUT_DIVISOR}')
    kernels = [*cfg.DATASET.TRAIN.GAUSSIAN_KERNELS, cfg.TEST.GAUSSIAN_KERNEL]
    if any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
        raise InputError(f'config: GAUSSIAN_KERNELS and TEST.GAUSSIAN_KERNEL should be odd sizes, not {kernels}')


def _check_test(cfg: EasyDict) -> None:
    test, (low, high) = cfg.TEST, SCALES
    if not test.SCALES or not all(low <= scale <= high for scale in test.SCALES):
        raise InputError(f'config: TEST.SCALES = {test.SCALES} should be numbers from {low} to {high}, at least one')
    if cfg.DATASET.FORMAT == 'MPII' and (test.NMS != 'none' or test.RESCORE != 'mean'):
        raise InputError(
            f'config: TEST.NMS = {test.NMS!r}, TEST.RESCORE = {test.RESCORE!r}: people of DATASET.FORMAT MPII have no '
            "scores: leave 'none' and 'mean'"
        )


def _check_joints(cfg: EasyDict) -> None:
    keypoint = cfg.DATASET.KEYPOINT
    if not 1 <= cfg.LOSS.TOPK <= keypoint.NUM:
        raise InputError(
            f'config: LOSS.TOPK = {cfg.LOSS.TOPK} should be between 1 and the {keypoint.NUM} joints: set it'
        )
    for key in ('FLIP_PAIRS', 'SKELETON'):
        pairs = keypoint[key]
        fit = all(isinstance(pair, (list, tuple)) and len(pair) == 2 and _all(int, pair) for pair in pairs)
        if not fit or not _are_joints([joint for pair in pairs for joint in pair], keypoint.NUM):
            raise InputError(
                f'config: DATASET.KEYPOINT.{key} (pairs) should name joints 0 to {keypoint.NUM - 1}, not {pairs}'
            )
    paired = [joint for pair in keypoint.FLIP_PAIRS for joint in pair]
    if len(set(paired)) < len(paired):
        raise InputError(f'config: DATASET.KEYPOINT.FLIP_PAIRS = {keypoint.FLIP_PAIRS} should name a joint once')
    _check_sides(keypoint)
    if not _are_joints(keypoint.UPPER_BODY_IDS, keypoint.NUM):
        raise InputError(
            f'config: DATASET.KEYPOINT.UPPER_BODY_IDS should name joints 0 to {keypoint.NUM - 1}, '
            f'not {keypoint.UPPER_BODY_IDS}'
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
            f'config: DATASET.KEYPOINT.NAMES should be {keypoint.NUM} different names (NUM), not {keypoint.NAMES}'
        )
    if dataset.FORMAT == 'COCO' and (len(keypoint.SIGMAS) != keypoint.NUM or min(keypoint.SIGMAS) <= 0):
        raise InputError(
            f'config: DATASET.KEYPOINT.SIGMAS should be {keypoint.NUM} numbers above 0 (NUM), not {keypoint.SIGMAS}'
        )
    if dataset.FORMAT == 'MPII' and keypoint.SIGMAS:
        raise InputError(
            'config: DATASET.KEYPOINT.SIGMAS are of no use for DATASET.FORMAT = MPII, which has PCKh: set []'
        )
    for key in ('NAME', 'ROOT', 'TRAIN_JSON', 'VAL_JSON'):
        if not dataset[key]:
            raise InputError(f'config: DATASET.{key} is empty: name it')
