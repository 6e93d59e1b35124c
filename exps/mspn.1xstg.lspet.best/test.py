"""Test 1-stage MSPN on LSPET, 128x96, by the recipe of docs/options.md.

    python test.py -i last

Expect COCO's ten metrics under LSPET's own sigmas, PCK at 0.1 and 0.05 of the bounding box,
and test_dir/iter-N in the output folder.
"""

from config import cfg
from lib.engine import test
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    test(cfg, build_mspn)
