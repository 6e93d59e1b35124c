"""Train 1-stage MSPN on LSPET, 128x96, by the recipe of docs/options.md.

    python train.py

Expect a line every 20 iterations and iter-N.pth files in model_logs/<user>/mspn.1xstg.lspet.best.
"""

from config import cfg
from lib.engine import train
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    train(cfg, build_mspn)
