"""Test 4-stage MSPN on COCO, 256x192.

    python test.py -i last

Expect COCO's ten metrics (paper: AP 75.9 on val with a detector's boxes)
and test_dir/iter-N in the output folder.
"""

from config import cfg
from lib.engine import test
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    test(cfg, build_mspn)
