"""Packages that only some commands need."""

import importlib
from types import ModuleType

from cvpack.errors import InputError


def load(name: str, extra: str) -> ModuleType:
    """Imports a module by name. Raises InputError that says what to install if it is absent.

    extra: the extra of setup.py that installs it
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition('.')[0]
        raise InputError(f"{package} is not installed: pip install {package}, or pip install -e '.[{extra}]'") from None
