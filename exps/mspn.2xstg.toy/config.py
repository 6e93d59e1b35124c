"""A small 2-stage MSPN that learns the drawn people on 2 CPU cores: what `make quickstart` runs.

python -m torch.distributed.launch --nproc_per_node=2 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.DATASET.ROOT = 'dataset/TOY'
cfg.INPUT_SHAPE = [128, 96]
cfg.DATASET.TRAIN.GAUSSIAN_KERNELS = [9, 7, 5, 5, 3]  # half the paper's, as the maps are half its size
cfg.TEST.GAUSSIAN_KERNEL = 3
cfg.MODEL.BACKBONE = 'Res-18'
cfg.MODEL.STAGE_NUM = 2
cfg.MODEL.UPSAMPLE_CHANNEL_NUM = 64
cfg.MODEL.WEIGHT = ''  # nothing to fetch
cfg.MODEL.DEVICE = 'cpu'
cfg.SOLVER.IMS_PER_GPU = 16
cfg.SOLVER.BASE_LR = 5e-4
cfg.SOLVER.MAX_ITER = 150  # for 8 processes: 600 for 2
cfg.SOLVER.CHECKPOINT_PERIOD = 50
cfg.SOLVER.WARMUP_ITERS = 50
finalize(cfg, __file__)
