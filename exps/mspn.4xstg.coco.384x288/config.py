"""4-stage MSPN on COCO, 384x288: 76.9 AP in the paper.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.STAGE_NUM = 4
cfg.INPUT_SHAPE = [384, 288]
finalize(cfg, __file__)
