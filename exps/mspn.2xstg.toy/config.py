"""A small 2-stage MSPN that learns synthetic people on 2 CPU cores: what `make quickstart` runs.

python -m torch.distributed.launch --nproc_per_node=2 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.DATASET.NAME = 'synthetic people'
cfg.DATASET.ROOT = 'dataset/TOY'

# A quarter of the paper's pixels, a fraction of its channels: some 80 people a second on two cores.
cfg.INPUT_SHAPE = [128, 96]
cfg.DATASET.TRAIN.GAUSSIAN_KERNELS = [9, 7, 5, 5, 3]  # half the paper's, like the heatmaps
cfg.TEST.GAUSSIAN_KERNEL = 3
cfg.MODEL.BACKBONE = 'Res-18'
cfg.MODEL.WIDTH = 32
cfg.MODEL.UPSAMPLE_CHANNEL_NUM = 64
cfg.MODEL.WEIGHT = ''  # nothing to download
cfg.MODEL.DEVICE = 'cpu'

# Minutes are not enough to profit from the paper's augmentation.
cfg.DATASET.TRAIN.X_EXTENSION = 0.3
cfg.DATASET.TRAIN.Y_EXTENSION = 0.3
cfg.DATASET.TRAIN.SCALE_FACTOR_LOW = -0.15
cfg.DATASET.TRAIN.SCALE_FACTOR_HIGH = 0.2
cfg.DATASET.TRAIN.SCALE_SHRINK_RATIO = 0.9
cfg.DATASET.TRAIN.ROTATION_FACTOR = 30
cfg.DATASET.TRAIN.PROB_ROTATION = 0.3
cfg.DATASET.TRAIN.PROB_HALF_BODY = 0.0

# Small batches, for more steps in the same time.
cfg.SOLVER.IMS_PER_GPU = 8
cfg.SOLVER.BASE_LR = 1e-3
cfg.SOLVER.REFERENCE_GPUS = 1
cfg.SOLVER.MAX_ITER = 3520  # of one process: 1,760 of two
cfg.SOLVER.CHECKPOINT_PERIOD = 880
cfg.SOLVER.WARMUP_ITERS = 100
finalize(cfg, __file__)
