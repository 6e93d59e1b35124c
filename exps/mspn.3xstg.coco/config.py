"""3-stage MSPN on COCO, 256x192: 75.2 AP in the paper.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.STAGE_NUM = 3
finalize(cfg, __file__)
