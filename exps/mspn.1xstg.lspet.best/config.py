"""1-stage MSPN on LSPET at 128x96: what beat the paper's recipe there at the same number of samples.

docs/options.md has the figures: a short budget and 3,000 people. Nothing of this was measured on COCO.

python train.py
"""

from lib.config import REPOSITORY, finalize, run_config

cfg = run_config(REPOSITORY / 'exps/mspn.1xstg.lspet')

# Targets at the joints' exact positions: the paper's hold nothing finer than 4 of the crop's 96 pixels.
cfg.CODEC = 'dark'

# Gentler augmentation: in 32,000 samples everybody is met 11 times, too few to overfit and to learn from cut people and
# extreme sizes what the test never asks: its people are whole, in boxes drawn around them.
cfg.DATASET.TRAIN.PROB_HALF_BODY = 0  # the paper's 0.3
cfg.DATASET.TRAIN.ROTATION_FACTOR = 30  # degrees; the paper's 45
cfg.DATASET.TRAIN.SCALE_FACTOR_LOW = -0.15  # the paper's -0.25 and 0.25
cfg.DATASET.TRAIN.SCALE_FACTOR_HIGH = 0.15

# The same samples in twice the steps, at the learning rate of the paper's batch of 32.
cfg.SOLVER.IMS_PER_GPU = 16
cfg.SOLVER.MAX_ITER *= 2
cfg.SOLVER.CHECKPOINT_PERIOD *= 2
cfg.SOLVER.WARMUP_ITERS *= 2
finalize(cfg, __file__)
