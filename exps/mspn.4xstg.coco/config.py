"""4-stage MSPN on COCO, 256x192: 75.9 AP in the paper.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.STAGE_NUM = 4
finalize(cfg, __file__)
