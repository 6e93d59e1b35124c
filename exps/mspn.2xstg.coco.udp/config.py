"""2-stage MSPN on COCO, 256x192, in unbiased coordinates: UDP.

Lengths are measured between pixel centres in crops, targets and decoding alike (Huang et al., CVPR 2020), and targets
and decoding are subpixel (lib/utils/codec.py). The MSPN paper reports nothing for it.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.STAGE_NUM = 2
cfg.CODEC = 'udp'
finalize(cfg, __file__)
