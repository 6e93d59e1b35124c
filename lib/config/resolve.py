"""Resolves an experiment's configuration.

An experiment's config.py takes the defaults, changes some keys and ends with `finalize(cfg, __file__)`. Run as a script
it prints the result (command.py).
"""

import argparse
import ast
import getpass
import json
import os
from pathlib import Path
from typing import Any

from easydict import EasyDict

import lib.clone  # noqa: F401
from cvpack.errors import InputError, exits_cleanly
from lib.config.checks import check
from lib.config.defaults import FORMER, OUTPUT_STRIDE, coco_defaults
from lib.config.experiment import OWN, exits_in_experiments, own_file, running_script, set_folder
from lib.config.places import home
from lib.datasets.checks import shown

DERIVED = ('EXPERIMENT', 'NETWORK', 'OUTPUT_SHAPE', 'TEST_DIR', 'TENSORBOARD_DIR')


def finalize(cfg: EasyDict, file: str) -> None:
    """Checks an experiment's configuration and derives the remaining keys, in place; creates no files.

    file: the experiment's __file__, whose folder names the experiment. If it is the running script, this then runs the
    command `python config.py`. Raises InputError, which names the key; in a script of an experiment's folder it prints
    that and exits.
    """
    config = Path(file).resolve()
    _finalize(cfg, config.parent)
    if running_script() == config:
        from lib.config.command import main  # imports this module indirectly

        exits_cleanly(main)(cfg)


@exits_in_experiments
def _finalize(cfg: EasyDict, experiment: Path) -> None:
    outputs = home() / 'model_logs' / _user()
    base = cfg.get('EXPERIMENT')  # set where the configuration starts from another experiment's
    if cfg.get('OUTPUT_DIR') in (None, '', base and str(outputs / base)):
        cfg.OUTPUT_DIR = str(outputs / experiment.name)
    if cfg.get('NETWORK') == OWN and not own_file(experiment):
        raise InputError(
            f'{experiment}: the experiment {base} has a network.py, which this one should have too: copy it'
        )
    cfg.EXPERIMENT = experiment.name
    cfg.NETWORK = OWN if own_file(experiment) else None
    set_folder(cfg, experiment)
    override(cfg, [])


def _user() -> str:
    """The user's name, or the user id in a container without names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid()) if hasattr(os, 'getuid') else 'user'


def add_override_option(parser: argparse.ArgumentParser) -> None:
    """Adds --set, whose values `override` takes."""
    parser.add_argument(
        '--set',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override keys of the configuration, for example SOLVER.BASE_LR=1e-3',
    )


def override(cfg: EasyDict, assignments: list[str]) -> None:
    """Applies `KEY=VALUE` strings (--set) to a configuration, checks it and updates derived keys, in place.

    A value that is not a Python literal is taken as a string. Raises InputError as finalize does.
    """
    for assignment in assignments:
        _assign(cfg, assignment)
    check(cfg, to_plain(coco_defaults()))
    cfg.OUTPUT_SHAPE = [size // OUTPUT_STRIDE for size in cfg.INPUT_SHAPE]
    cfg.TEST_DIR = str(Path(cfg.OUTPUT_DIR) / 'test_dir')
    cfg.TENSORBOARD_DIR = str(Path(cfg.OUTPUT_DIR) / 'tb_dir')


def _assign(cfg: EasyDict, assignment: str) -> None:
    """Sets one key, without checking the value; new keys are allowed under USER."""
    key, equals, text = assignment.partition('=')
    option = f'--set {shown(assignment)[1:-1]}'
    if not equals:
        raise InputError(f'{option}: write KEY=VALUE, for example SOLVER.BASE_LR=1e-3')
    if key in DERIVED:
        raise InputError(f'{option}: {key} is derived from the folder, INPUT_SHAPE or OUTPUT_DIR: set these')
    *parents, name = key.split('.')
    is_own = parents[:1] == ['USER']
    node, value = cfg, _parse(text, option)
    try:
        for parent in parents:
            if is_own and parent and isinstance(node, dict) and parent not in node:
                node[parent] = EasyDict()  # setdefault of older EasyDicts sets no attribute
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (name not in node and not (is_own and name)):
            known = f'; known keys: {", ".join(sorted(node))}' if isinstance(node, dict) else ''
            now = f': it is now {FORMER[key]}' if FORMER.get(key) else ', which was removed' if key in FORMER else known
            raise InputError(f'{option}: there is no key {shown(key)[1:-1]}{now}')
        node[name] = value
    except TypeError:  # EasyDict makes attributes of keys
        raise InputError(f'{option}: keys should be names') from None


def _parse(text: str, option: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    except (TypeError, MemoryError, RecursionError) as error:
        reason = str(error) or 'nested too deeply'
        raise InputError(f'{option}: the value is not a Python literal ({reason}): put a text in quotes') from None


def to_plain(cfg: EasyDict) -> dict:
    """The configuration as plain dictionaries, lists, strings and numbers, for JSON and checkpoints."""
    return json.loads(json.dumps(cfg))
