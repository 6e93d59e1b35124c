"""2-stage MSPN on COCO, 256x192, in unbiased coordinates: DARK.

Subpixel targets and decoding (Zhang et al., CVPR 2020; lib/utils/codec.py). The MSPN paper reports nothing for it.
`test.py --weights FILE` also takes networks trained without it, published ones included.

python -m torch.distributed.launch --nproc_per_node=8 train.py
"""

from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.STAGE_NUM = 2
cfg.CODEC = 'dark'
finalize(cfg, __file__)
