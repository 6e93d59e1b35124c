"""1-stage MSPN on a data set of your own: LSPET, 14 joints, at 128x96 for a CPU.

python train.py
"""

from pathlib import Path

from lib.config import coco_defaults, finalize
from lib.datasets.description import Description

# Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011), cropped around the people.
LSPET = Description(
    name='LSPET',
    root=Path('dataset/LSPET'),
    train_json='person_keypoints_train.json',
    val_json='person_keypoints_val.json',
    joint_names=(
        'right_ankle',
        'right_knee',
        'right_hip',
        'left_hip',
        'left_knee',
        'left_ankle',
        'right_wrist',
        'right_elbow',
        'right_shoulder',
        'left_shoulder',
        'left_elbow',
        'left_wrist',
        'neck',
        'head_top',
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    upper_body_ids=(6, 7, 8, 9, 10, 11, 12, 13),
    skeleton=(
        (0, 1),
        (1, 2),
        (5, 4),
        (4, 3),
        (2, 3),
        (2, 8),
        (3, 9),
        (8, 12),
        (9, 12),
        (12, 13),
        (8, 7),
        (7, 6),
        (9, 10),
        (10, 11),
    ),
    # COCO's for the joints that it has; neck and head top like a shoulder.
    sigmas=(0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079, 0.079),
)

cfg = coco_defaults(LSPET)
cfg.MODEL.STAGE_NUM = 1

# A quarter of the paper's pixels; kernels half the paper's, like the heatmaps.
cfg.INPUT_SHAPE = [128, 96]
cfg.DATASET.TRAIN.GAUSSIAN_KERNELS = [9, 7, 5, 5, 3]

# Half an hour on 2 cores.
cfg.MODEL.DEVICE = 'cpu'
cfg.SOLVER.REFERENCE_GPUS = 1
cfg.SOLVER.MAX_ITER = 1000
cfg.SOLVER.CHECKPOINT_PERIOD = 248
cfg.SOLVER.WARMUP_ITERS = 25
finalize(cfg, __file__)
