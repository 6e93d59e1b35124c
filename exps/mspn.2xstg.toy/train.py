"""Train the toy network on synthetic people.

    python -m torch.distributed.launch --nproc_per_node=2 train.py

Expect a line every 20 iterations and iter-N.pth files in model_logs/<user>/mspn.2xstg.toy.
"""

from config import cfg
from lib.engine import train
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    train(cfg, build_mspn)
