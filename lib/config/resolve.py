"""What becomes of an experiment's changes to the defaults.

An experiment's config.py takes the defaults, changes a few keys and ends with `finalize(cfg, __file__)`. Run as a
script it prints what it resolves to:

    python config.py          the resolved configuration, the number of parameters, the multiply-adds
    python config.py -log     also links ./log to the output folder
"""

import getpass
import json
import os
import runpy
import sys
from pathlib import Path

from easydict import EasyDict

import lib.clone  # noqa: F401
from cvpack.errors import InputError, exits_cleanly
from lib.config.checks import check_keys, check_values
from lib.config.defaults import OUTPUT_STRIDE, coco_defaults
from lib.config.experiment import OWN, importing_from, own_file, set_folder
from lib.config.overrides import assign
from lib.config.places import home


def finalize(cfg: EasyDict, file: str) -> None:
    """Checks an experiment's configuration and fills in what follows from it, in place; creates nothing.

    file: the experiment's __file__; its folder names the experiment. When that file is being run as a script, it
    goes on to the command of this module's docstring. Raises InputError that names the key; in the experiment's own
    scripts that is one line and an exit.
    """
    file = Path(file).resolve()
    script = Path(getattr(sys.modules['__main__'], '__file__', None) or '.').resolve()
    if script.parent != file.parent:
        _finalize(cfg, file.parent)
        return
    exits_cleanly(_finalize)(cfg, file.parent)
    if script == file:
        from lib.config.command import main  # which needs what needs this module

        exits_cleanly(main)(cfg)


def _finalize(cfg: EasyDict, experiment: Path) -> None:
    cfg.EXPERIMENT = experiment.name
    cfg.NETWORK = OWN if own_file(experiment) else None
    set_folder(cfg, experiment)
    if not cfg.get('OUTPUT_DIR'):
        cfg.OUTPUT_DIR = str(home() / 'model_logs' / _user() / experiment.name)
    _check_and_derive(cfg)


def _user() -> str:
    """The user's name; in a container that knows none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid()) if hasattr(os, 'getuid') else 'user'


def override(cfg: EasyDict, assignments: list[str]) -> None:
    """Applies `KEY=VALUE` strings of a command line (--set) to a finalized configuration, in place.

    A value is read as a Python literal where it is one, else as a string. Raises InputError as finalize does.
    """
    for assignment in assignments:
        assign(cfg, assignment)
    _check_and_derive(cfg)


def _check_and_derive(cfg: EasyDict) -> None:
    """Raises InputError for what is wrong, then sets the keys that follow from others."""
    check_keys(cfg, coco_defaults())
    check_values(cfg)
    cfg.OUTPUT_SHAPE = [size // OUTPUT_STRIDE for size in cfg.INPUT_SHAPE]
    cfg.TEST_DIR = str(Path(cfg.OUTPUT_DIR) / 'test_dir')
    cfg.TENSORBOARD_DIR = str(Path(cfg.OUTPUT_DIR) / 'tb_dir')


def to_plain(cfg: EasyDict) -> dict:
    """The configuration as plain dictionaries, lists and numbers, fit for json and checkpoints."""
    return json.loads(json.dumps(cfg))


def run_config(experiment: Path) -> EasyDict:
    """The configuration of an experiment's folder. Raises InputError if there is none."""
    file = experiment / 'config.py'
    if not file.is_file():
        raise InputError(f'{file} does not exist: name the folder of an experiment, like exps/mspn.2xstg.coco')
    with importing_from(experiment):
        return runpy.run_path(str(file))['cfg']
