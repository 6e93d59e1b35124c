"""Test the toy network on synthetic people.

    python test.py -i last

Expect COCO's ten metrics
and test_dir/iter-N in the output folder.
"""

from config import cfg
from lib.engine import test
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    test(cfg, build_mspn)
