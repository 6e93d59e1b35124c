"""2-stage MSPN on MPII, 256x256; the paper reports nothing for it.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import finalize, mpii_defaults

cfg = mpii_defaults()
cfg.MODEL.STAGE_NUM = 2
finalize(cfg, __file__)
