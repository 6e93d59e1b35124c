"""Train 2-stage MSPN on COCO, 256x192, with the UDP codec.

    python -m torch.distributed.launch --nproc_per_node=8 train.py

Expect a line every 20 iterations and iter-N.pth files in model_logs/<user>/mspn.2xstg.coco.udp.
"""

from config import cfg
from lib.engine import train
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    train(cfg, build_mspn)
