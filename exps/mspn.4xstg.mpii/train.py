"""Train 4-stage MSPN on MPII, 256x256.

    python -m torch.distributed.launch --nproc_per_node=8 train.py

Expect a line every 20 iterations and iter-N.pth files in model_logs/<user>/mspn.4xstg.mpii.
"""

from config import cfg
from lib.engine import train
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    train(cfg, build_mspn)
