"""Objects of other projects in checkpoint files: read as data, without importing or calling anything that a file names.

torch.load with weights_only builds what is on its own list and refuses the rest, so that a numpy array in a file's
metadata hides the weights. Here it is given a stand-in of ours for every other name in the file: numpy's makes the
array, and those of other packages do nothing.
"""

import contextlib
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import serialization

# Of Python's own library a sound file may name these; the others are what attacks are made of, and stay refused.
HARMLESS = re.compile(
    r'builtins\.(getattr|bytes|bytearray|set|frozenset|complex|range|slice)|_codecs\.encode|argparse\.Namespace|'
    r'(datetime|pathlib)\.\w+'
)
PLAIN_DTYPE = re.compile(r'[<>|=]?[?biufcSUVmM]\d*')
OBJECT_DTYPE = re.compile(r'\|?O\d*')
# Before torch 1.6 a file was a row of pickles, of which the last of these has the content.
OLD_PICKLES = 4


class Foreign:
    """A class, function or object of another project: its name is all that is known of it, and it does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Foreign':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __repr__(self) -> str:
        return f'<{type(self).__module__}.{type(self).__qualname__}, not read>'


class DType:
    """For numpy.dtype, which would take over any flags from a file: here only the letter and the byte order count."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.is_object = code, bool(OBJECT_DTYPE.fullmatch(code))
        if not self.is_object and not PLAIN_DTYPE.fullmatch(code):
            raise ValueError(f'numpy arrays of {code!r} are not read')

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ('<', '>'):
            self.code = state[1] + self.code.lstrip('<>|=')

    def array(self, shape: tuple, content: bytes, order: str = 'C') -> Any:
        """A numpy array. Raises ValueError unless the content is as large as its shape."""
        content = bytearray(memoryview(content))
        flat = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        return flat.numpy().view(self.code).reshape(shape, order=order)


class Array:
    """For numpy.ndarray. value: the array; if it is of objects, the flat list of them."""

    value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = content if dtype.is_object else dtype.array(shape, content, 'F' if is_fortran else 'C')


def _new_array(*_: Any) -> Array:
    return Array()


def _scalar(dtype: DType, content: Any) -> Any:
    """A plain Python number."""
    return content if dtype.is_object else dtype.array((), content).item()


def _encode(text: str, encoding: str) -> bytes:
    """How pickles keep bytes; but for empty ones, which they call."""
    if encoding != 'latin1':
        raise ValueError(f'bytes encoded as {encoding!r} are not read')
    return text.encode(encoding)


def _named(path: str, stand_in: Callable) -> Callable:
    """The stand-in under the module and name that torch knows it by."""
    stand_in.__module__, _, stand_in.__name__ = path.rpartition('.')
    stand_in.__qualname__ = stand_in.__name__
    return stand_in


def _known() -> dict[str, Callable]:
    """The stand-ins that give values."""
    known = {'numpy.dtype': DType, 'numpy.ndarray': Array}
    known |= {'_codecs.encode': lambda *args: _encode(*args), 'builtins.bytes': lambda: b''}
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # before numpy 2, and since
        known[f'{module}._reconstruct'] = lambda *args: _new_array(*args)
        known[f'{module}.scalar'] = lambda *args: _scalar(*args)
    return {path: _named(path, stand_in) for path, stand_in in known.items()}


KNOWN = _known()


def _names(path: Path) -> set[str]:
    """The classes and functions that a file written by torch.save names, as module.name; none in a damaged file."""
    named = set()
    with path.open('rb') as file, contextlib.ExitStack() as stack, contextlib.suppress(ValueError):
        pickles = [file] * OLD_PICKLES
        if zipfile.is_zipfile(file):
            archive = stack.enter_context(zipfile.ZipFile(file))
            members = [name for name in archive.namelist() if name.endswith('/data.pkl')]
            pickles = [stack.enter_context(archive.open(name)) for name in members]
        else:
            file.seek(0)
        for step, argument, _ in chain.from_iterable(map(pickletools.genops, pickles)):
            if step.name == 'GLOBAL':
                named.add(re.sub(r'\A__builtin__\b', 'builtins', argument).replace(' ', '.'))
    return named


@contextlib.contextmanager
def stand_ins_for(path: Path) -> Iterator[None]:
    """While its body runs torch.load reads what the file names by stand-ins; `settled` makes plain values of them."""
    own = sys.stdlib_module_names
    names = [name for name in _names(path) if name.partition('.')[0] not in own or HARMLESS.fullmatch(name)]
    names = [name for name in names if not name.startswith('torch.')]
    before = list(serialization.get_safe_globals())
    new = [KNOWN.get(name) or _named(name, type('Foreign', (Foreign,), {})) for name in names]
    serialization.add_safe_globals(new)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def settled(value: Any) -> Any:
    """What was read with stand-ins, in place: with numpy's arrays for theirs."""
    if isinstance(value, Array):
        return settled(value.value)
    if isinstance(value, dict):
        for key in value:
            value[key] = settled(value[key])
    elif isinstance(value, list):
        value[:] = map(settled, value)
    elif type(value) is tuple:
        return tuple(map(settled, value))
    return value
