"""The folder of an experiment and its modules."""

import contextlib
import functools
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly

# An attribute, not a key: the folder, whose code is run, must not come from a checkpoint.
FOLDER = '_folder'

CONFIG = 'config.py'
NETWORK_FILE = 'network.py'  # an experiment's own network (lib/models/own.py)
MSPN, OWN = 'mspn', 'own'  # values of cfg.NETWORK, which checkpoints hold; None: unknown, taken as MSPN

P = ParamSpec('P')
T = TypeVar('T')


def set_folder(cfg: EasyDict, folder: Path | None) -> None:
    """Records the folder of the config.py that made a configuration."""
    object.__setattr__(cfg, FOLDER, folder)


def folder_of(cfg: EasyDict) -> Path | None:
    """The experiment's folder; None for a configuration that comes from a checkpoint."""
    return getattr(cfg, FOLDER, None)


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Lets an experiment's files import each other by name, as if one of them were the running script.

    Afterwards sys.modules and sys.path are restored, since other experiments and the caller's program may use the same
    names; modules of the running script's own folder stay imported. Modules of the folder cannot import each other
    later.
    """
    folder = folder.resolve()
    is_scripts = bool(sys.path) and Path(sys.path[0]).resolve() == folder
    names = _names(folder)
    others = {name: module for name, module in sys.modules.items() if name.partition('.')[0] in names}
    others = {name: module for name, module in others.items() if not _lies_in(module, folder)}
    for name in others:
        del sys.modules[name]
    before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = writes_bytecode or not is_scripts
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(folder))
        for name in () if is_scripts else set(sys.modules) - before:
            if _lies_in(sys.modules[name], folder):
                del sys.modules[name]
        for name, module in others.items():
            sys.modules.setdefault(name, module)


def _names(folder: Path) -> set[str]:
    """The top-level modules and packages in the folder."""
    names = {file.stem for file in folder.glob('*.py')}
    names |= {file.parent.name for file in folder.glob('*/__init__.py')}
    return names - set(sys.stdlib_module_names) - {'lib', 'cvpack'}


def _lies_in(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, '__file__', None), *getattr(module, '__path__', ())]
    return any(folder in Path(place).resolve().parents for place in places if isinstance(place, str))


def own_file(folder: Path | None) -> Path | None:
    """The network.py in an experiment's folder, or None."""
    file = folder / NETWORK_FILE if folder is not None else None
    return file if file is not None and file.is_file() else None


def running_script() -> Path:
    """The program's file; the working directory in an interactive shell."""
    return Path(getattr(sys.modules['__main__'], '__file__', None) or '.').resolve()


def exits_in_experiments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates what an experiment's scripts call outside any main that would catch: in these it exits cleanly."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        is_in_one = (running_script().parent / CONFIG).is_file()
        return (exits_cleanly(function) if is_in_one else function)(*args, **kwargs)

    return run


@exits_in_experiments
def run_config(experiment: Path) -> EasyDict:
    """The configuration of an experiment's folder. Raises InputError without a config.py, in scripts as finalize."""
    file = experiment / CONFIG
    if not file.is_file():
        raise InputError(f'{file} does not exist: give the folder of an experiment, like exps/mspn.2xstg.coco')
    with importing_from(experiment):
        return runpy.run_path(str(file))['cfg']
