"""Objects of other projects in checkpoint files: read as data; nothing that a file names is imported or called.

torch.load with weights_only builds what is on its own list and refuses the rest, so a numpy array in a file's metadata
hides the weights. Here every other name in the file gets a stand-in: numpy's build the array, and those of other
packages do nothing.
"""

import contextlib
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from torch import serialization

# The names of Python's own library that harmless files contain. Attacks are made of the others, which stay refused.
HARMLESS = re.compile(
    r'builtins\.(getattr|bytes|bytearray|set|frozenset|complex|range|slice)|_codecs\.encode|argparse\.Namespace|'
    r'(datetime|pathlib)\.\w+'
)
PLAIN_DTYPE = re.compile(r'[<>|=]?[?biufcSUVmM]\d*')
OBJECT_DTYPE = re.compile(r'\|?O\d*')
# Before torch 1.6 a file was a sequence of pickles; the last of these holds the content.
OLD_PICKLES = 4


class Foreign:
    """A class, function or object of another project, of which only the name is known; it does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Foreign':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __repr__(self) -> str:
        return f'<{type(self).__module__}.{type(self).__qualname__}, not read>'


class DType:
    """In place of numpy.dtype, which would accept any flags from a file: only the type code and byte order are used."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.is_object = code, bool(OBJECT_DTYPE.fullmatch(code))
        if not self.is_object and not PLAIN_DTYPE.fullmatch(code):
            raise ValueError(f'numpy arrays of {code!r} are not read')

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ('<', '>'):
            self.code = state[1] + self.code.lstrip('<>|=')

    def array(self, shape: tuple[int, ...], content: bytes, order: Literal['C', 'F'] = 'C') -> np.ndarray:
        """Raises TypeError unless the content is bytes, ValueError unless there are as many as the shape needs."""
        array = np.ndarray(shape, self.code, bytearray(memoryview(content)), order=order)
        if array.nbytes != len(content):
            raise ValueError(f'{len(content)} bytes for an array {shape} of {self.code}')
        return array


class Array:
    """In place of numpy.ndarray. value: the array; for an array of objects the flat list of them."""

    value: np.ndarray | list | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = content if dtype.is_object else dtype.array(shape, content, 'F' if is_fortran else 'C')


def _scalar(dtype: DType, content: Any) -> Any:
    """A plain Python number."""
    return content if dtype.is_object else dtype.array((), content).item()


def _encode(text: str, encoding: str) -> bytes:
    """How pickles store bytes, other than empty ones."""
    if encoding != 'latin1':
        raise ValueError(f'bytes encoded as {encoding!r} are not read')
    return text.encode(encoding)


def _named(path: str, stand_in: Any) -> Callable[..., Any]:
    """The stand-in under the module and name by which torch looks it up."""
    stand_in.__module__, _, stand_in.__name__ = path.rpartition('.')
    stand_in.__qualname__ = stand_in.__name__
    return stand_in


def _known() -> dict[str, Callable[..., Any]]:
    """The stand-ins that return values."""
    known: dict[str, Callable[..., Any]] = {'numpy.dtype': DType, 'numpy.ndarray': Array}
    known |= {'_codecs.encode': lambda *args: _encode(*args), 'builtins.bytes': lambda: b''}
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # before numpy 2, and since
        known[f'{module}._reconstruct'] = lambda *_: Array()
        known[f'{module}.scalar'] = lambda *args: _scalar(*args)
    return {path: _named(path, stand_in) for path, stand_in in known.items()}


KNOWN = _known()


def _names(path: Path) -> set[str]:
    """The classes and functions that a file written by torch.save names, as module.name; none in a damaged file."""
    names = set()
    with path.open('rb') as file, contextlib.ExitStack() as stack, contextlib.suppress(ValueError):
        pickles: list[IO[bytes]] = [file] * OLD_PICKLES
        if zipfile.is_zipfile(file):
            archive = stack.enter_context(zipfile.ZipFile(file))
            members = [name for name in archive.namelist() if name.endswith('/data.pkl')]
            pickles = [stack.enter_context(archive.open(name)) for name in members]
        else:
            file.seek(0)
        for step, argument, _ in chain.from_iterable(map(pickletools.genops, pickles)):
            if step.name == 'GLOBAL':
                names.add(re.sub(r'\A__builtin__\b', 'builtins', str(argument)).replace(' ', '.'))
    return names


@contextlib.contextmanager
def stand_ins_for(path: Path) -> Iterator[None]:
    """Inside, torch.load builds stand-ins for what the file names; `without_stand_ins` makes plain values of them."""
    own = sys.stdlib_module_names
    names = [name for name in _names(path) if name.partition('.')[0] not in own or HARMLESS.fullmatch(name)]
    names = [name for name in names if not name.startswith('torch.')]
    before = list(serialization.get_safe_globals())
    serialization.add_safe_globals([KNOWN.get(name) or _named(name, type('Foreign', (Foreign,), {})) for name in names])
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def without_stand_ins(value: Any) -> Any:
    """What was read, changed in place: numpy arrays instead of their stand-ins."""
    if isinstance(value, Array):
        return without_stand_ins(value.value)
    if isinstance(value, dict):
        for key in value:
            value[key] = without_stand_ins(value[key])
    elif isinstance(value, list):
        value[:] = map(without_stand_ins, value)
    elif type(value) is tuple:
        return tuple(map(without_stand_ins, value))
    return value
