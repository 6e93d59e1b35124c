"""Packages that only some commands need."""

import importlib
from types import ModuleType

from cvpack.errors import InputError


def load(name: str, extra: str) -> ModuleType:
    """The module of that name. Raises InputError that says what to install where it is absent.

    extra: of this project, in setup.py, that brings it
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition('.')[0]
        raise InputError(f"{package} is not installed: pip install {package}, or pip install -e '.[{extra}]'") from None
