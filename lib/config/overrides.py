"""KEY=VALUE of a command line (--set), put into a configuration."""

import ast
from typing import Any

from easydict import EasyDict

from cvpack.errors import InputError
from lib.datasets.checks import shown

DERIVED = ('EXPERIMENT', 'NETWORK', 'OUTPUT_SHAPE', 'TEST_DIR', 'TENSORBOARD_DIR')


def assign(cfg: EasyDict, assignment: str) -> None:
    """Sets one key, in place; keys below USER are made where they are new. Whether the value fits is not looked at.

    Raises InputError for a key that is not there or follows from others, and for what cannot be read.
    """
    key, equals, text = assignment.partition('=')
    told = f'--set {shown(assignment)[1:-1]}'
    if not equals:
        raise InputError(f'{told}: write it as KEY=VALUE, for example SOLVER.BASE_LR=1e-3')
    if key in DERIVED:
        raise InputError(f'{told}: {key} follows from the folder, INPUT_SHAPE or OUTPUT_DIR; set these')
    *parents, name = key.split('.')
    is_own = parents[:1] == ['USER']
    node, value = cfg, _parse(text, told)
    try:
        for parent in parents:
            if is_own and parent and isinstance(node, dict) and parent not in node:
                node[parent] = EasyDict()  # EasyDict's setdefault sets no attribute in its older versions
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (name not in node and not (is_own and name)):
            raise InputError(f'{told}: there is no key {shown(key)[1:-1]}')
        node[name] = value
    except TypeError:  # EasyDict makes attributes of keys
        raise InputError(f'{told}: keys of a configuration should be names') from None


def _parse(text: str, told: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    except (TypeError, MemoryError, RecursionError) as error:
        reason = str(error) or 'nested too deeply'
        raise InputError(f'{told}: its value is no Python literal ({reason}): put quotes around a text') from None
