"""What a configuration's values may be: one of some words, a list of so many numbers, a number from low to high."""

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
    'MODEL.WEIGHT_STAGES': ('all', 'first', 'stem'),
    'SOLVER.OPTIMIZER': OPTIMIZERS,
    'SOLVER.PRECISION': tuple(DTYPES),
    'TEST.PRECISION': tuple(DTYPES),
    'TEST.NMS': ('none', 'oks', 'soft'),
    'TEST.RESCORE': ('mean', 'confident'),
}

# Low and high, both allowed, of a number or of every number of a list. Ids of joints and LOSS.TOPK: _check_joints.
RANGES = {
    'INPUT_SHAPE': (INPUT_DIVISOR, 8192),
    'INPUT.MEANS': (0, 1),  # of pixels divided by 255
    'INPUT.STDS': (0.001, 10),
    'DATASET.KEYPOINT.NUM': (1, 10_000),
    'DATASET.KEYPOINT.SIGMAS': (0.0001, 10),
    'DATASET.TRAIN.BASIC_EXTENSION': (0, 10),
    'DATASET.TRAIN.X_EXTENSION': (0, 10),
    'DATASET.TRAIN.Y_EXTENSION': (0, 10),
    'DATASET.TRAIN.SCALE_FACTOR_LOW': (-0.9, 9),
    'DATASET.TRAIN.SCALE_FACTOR_HIGH': (-0.9, 9),
    'DATASET.TRAIN.SCALE_SHRINK_RATIO': (0.1, 10),
    'DATASET.TRAIN.ROTATION_FACTOR': (0, 180),
    'DATASET.TRAIN.PROB_ROTATION': (0, 1),
    'DATASET.TRAIN.PROB_FLIP': (0, 1),
    'DATASET.TRAIN.NUM_KEYPOINTS_HALF_BODY': (0, 10_000),
    'DATASET.TRAIN.PROB_HALF_BODY': (0, 1),
    'DATASET.TRAIN.X_EXTENSION_HALF_BODY': (0, 10),
    'DATASET.TRAIN.Y_EXTENSION_HALF_BODY': (0, 10),
    'DATASET.TRAIN.GAUSSIAN_KERNELS': (1, 999),
    'MODEL.STAGE_NUM': (1, 100),
    'MODEL.WIDTH': (1, 4096),
    'MODEL.UPSAMPLE_CHANNEL_NUM': (1, 65536),
    'SOLVER.BASE_LR': (0, 1000),
    'SOLVER.MOMENTUM': (0, 0.999999),
    'SOLVER.IMS_PER_GPU': (1, 2**20),
    'SOLVER.ACCUM_STEPS': (1, 2**20),
    'SOLVER.MAX_ITER': (1, 2**40),
    'SOLVER.CHECKPOINT_PERIOD': (1, 2**40),
    'SOLVER.WARMUP_FACTOR': (0, 1),
    'SOLVER.WARMUP_ITERS': (0, 2**40),
    'SOLVER.WEIGHT_DECAY': (0, 1),
    'SOLVER.EMA': (0, 0.999999),
    'SOLVER.SEED': (0, 2**32 - 1),
    'SOLVER.KEEP_CHECKPOINTS': (0, 2**40),
    'SOLVER.TIMEOUT': (1, 2**20),
    'DATALOADER.NUM_WORKERS': (0, 1024),
    'TEST.X_EXTENSION': (0, 10),
    'TEST.Y_EXTENSION': (0, 10),
    'TEST.SHIFT_RATIOS': (0, 1),
    'TEST.IMS_PER_GPU': (1, 2**20),
    'TEST.GAUSSIAN_KERNEL': (1, 2 * DECODE_PADDING - 1),
    'TEST.DURING_TRAINING': (0, 2**40),
    'TEST.DURING_TRAINING_IMAGES': (0, 2**40),
    'TEST.SCALES': (0.25, 4),
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
