"""To be imported before anything else: ends in a line, with exit code 2, where lib or cvpack is another clone's.

Packages of these names in an old clone, on PYTHONPATH, come before those of an editable install. That one still adds
the modules which the old clone lacks, ours among them, and sooner or later the two do not fit.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

for package in ('lib', 'cvpack'):
    spec = find_spec(package)
    folders = [Path(folder).resolve().parent for folder in spec.submodule_search_locations or ()] if spec else []
    if folders and folders[0] != HERE:
        print(
            f'error: Python takes {package} from {folders[0]}, not from {HERE}: take that folder out of PYTHONPATH '
            '(unset PYTHONPATH); this code needs no environment variable',
            file=sys.stderr,
        )
        sys.exit(2)
