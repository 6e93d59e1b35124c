"""4-stage MSPN on MPII, 256x256: 91.1 mean PCKh on val in the paper.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import finalize, mpii_defaults

cfg = mpii_defaults()
cfg.MODEL.STAGE_NUM = 4
finalize(cfg, __file__)
