"""Checkpoints that hold objects of other projects: read for their tensors, and nothing of what they name is run."""

import argparse
import contextlib
import os
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict

from cvpack import checkpoint
from cvpack.errors import InputError, exits_cleanly
from lib.models.weights import read
from tests.support.commands import names_all


class HistoryBuffer:
    """As mmengine keeps the losses of a run in a raw checkpoint: arrays, and functions by which to sum them up."""

    def __init__(self) -> None:
        self.max_length = 1000
        self._log_history, self._count_history = np.arange(3.0), np.ones(3, int)
        self._statistics_methods = {'mean': HistoryBuffer.mean, 'sum': np.sum}

    def mean(self) -> float:
        return self._log_history.mean()


@pytest.fixture
def mmengine(monkeypatch):
    """A class of a project that is not installed: its module is there for as long as `save` runs."""

    def save(content: dict, path: Path, **options) -> Path:
        name = 'mmengine.logging.history_buffer'
        for part in ('mmengine', 'mmengine.logging', name):
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
        sys.modules[name].HistoryBuffer = HistoryBuffer
        monkeypatch.setattr(HistoryBuffer, '__module__', name)
        torch.save(content, path, **options)
        for part in ('mmengine', 'mmengine.logging', name):
            monkeypatch.delitem(sys.modules, part)
        return path

    return save


ARRAYS = {
    'float32': np.array([0.026, 0.025], np.float32),
    'columns first': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    'big endian': np.arange(3, dtype='>i4'),
    'bool': np.array([True, False]),
    'text': np.array(['nose', 'left_eye']),
    'empty': np.zeros((0, 3)),
    'no axes': np.array(5),
}


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'before torch 1.6'])
def test_an_mmengine_file(new, mmengine, tmp_path):
    """Tensors, plain values and numpy's arrays come out as they went in; an object of another class does nothing."""
    meta = {'iter': np.int64(7), 'lr': np.float32(0.5), 'cfg': 'model = dict()', 'dataset_meta': ARRAYS}
    meta |= {
        'objects': np.array([np.ones(2), 'x', None], object),
        'bytes': b'\x00\xff',
        'args': argparse.Namespace(a=1),
    }
    content = {'meta': meta, 'state_dict': OrderedDict(a=torch.ones(3)), 'message_hub': {'loss': HistoryBuffer()}}
    before = set(torch.serialization.get_safe_globals())
    found = checkpoint.load(mmengine(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=new))
    assert torch.equal(found['state_dict']['a'], torch.ones(3))
    for name, array in found['meta']['dataset_meta'].items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
        assert array.dtype == ARRAYS[name].dtype
    assert (found['meta']['iter'], found['meta']['lr'], found['meta']['bytes']) == (7, 0.5, b'\x00\xff')
    assert found['meta']['objects'][1:] == ['x', None] and found['meta']['objects'][0].tolist() == [1, 1]
    assert repr(found['message_hub']['loss']) == '<mmengine.logging.history_buffer.HistoryBuffer, not read>'
    assert not vars(found['message_hub']['loss']) and 'mmengine' not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before  # for this file alone


def with_names(path: Path, old: bytes, new: bytes) -> Path:
    """A copy of a file in which other classes are named."""
    copy = path.with_name('copy.pth')
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, 'w') as target:
        for name in source.namelist():
            assert not name.endswith('data.pkl') or old in source.read(name)
            target.writestr(name, source.read(name).replace(old, new))
    return copy


def test_numpys_names_before_version_2(tmp_path):
    """Files are older than the numpy that reads them."""
    torch.save({'a': np.arange(3.0), 'b': np.float64(2)}, tmp_path / 'new.pth')
    found = checkpoint.load(with_names(tmp_path / 'new.pth', b'numpy._core', b'numpy.core'))
    assert found['a'].tolist() == [0, 1, 2] and found['b'] == 2


# ---------------------------------------------------------------------------------------------------- attacks


class Call:
    """An object that pickle makes by calling a function, and then gives the state, if there is one."""

    def __init__(self, function, *arguments, state=None) -> None:
        self.content = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.content

    def __call__(self) -> None:
        """Pickle asks that a function can be called."""


def array(shape: tuple, dtype: str, content: object) -> Call:
    """What numpy makes an array of."""
    make, arguments, _ = np.zeros(0).__reduce__()
    return Call(make, *arguments, state=(1, shape, np.dtype(dtype), False, content))


RAN = 'ran'
RUN = {
    'os.system': Call(os.system, f'touch {RAN}'),
    'eval': Call(eval, f"open('{RAN}', 'w')"),
    'subprocess': Call(subprocess.call, ['touch', RAN]),
    'a method, by getattr': Call(Call(getattr, Path(RAN), 'touch')),
    "numpy's exec": Call(np.testing._private.utils.runstring, f"open('{RAN}', 'w')", {}),
    "torch's own rebuilding": Call(torch._tensor._rebuild_from_type_v2, os.system, dict, (f'touch {RAN}',), {}),
}
FORGED = {
    'flags of a dtype': Call(np.dtype, 'V8', state=(3, '|', None, None, None, 8, 1, 63)),
    'more than there is': array((2**40,), 'f8', b'12345678'),
    'pointers': array((1,), 'O', b'12345678'),
    'as many bytes as this number': array((1,), 'f8', 2**40),
    'a state of another form': Call(np.dtype, 'f8', state=OrderedDict()),
    'a dtype of several': Call(np.dtype, 'f8,O'),
    'a codec': Call(__import__('_codecs').encode, 'a', 'rot13'),
}


def written(thing: object, path: Path, new: bool) -> Path:
    torch.save({'model': {'a': torch.ones(1)}, 'extra': thing}, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'before torch 1.6'])
@pytest.mark.parametrize('thing', RUN.values(), ids=RUN)
def test_nothing_is_run(thing, new, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(thing, tmp_path / 'evil.pth', new)
    with contextlib.suppress(AttributeError):
        torch.load(path, weights_only=False)
    assert Path(RAN).exists()
    Path(RAN).unlink()
    refused_or_read(path, capsys)
    assert not Path(RAN).exists()


def refused_or_read(path: Path, capsys) -> None:
    """A line that names the file, without what steers a terminal; or a state dict that is whole."""
    try:
        content = checkpoint.load(path)
    except InputError:
        with pytest.raises(SystemExit):
            exits_cleanly(checkpoint.load)(path)
        line = capsys.readouterr().err
        names_all(line, f'error: {path} is not a readable checkpoint')
        assert line.count('\n') == 1 and line[:-1].isprintable()
    else:
        assert content['model']['a'] == 1


@pytest.mark.parametrize('thing', FORGED.values(), ids=FORGED)
def test_forged_objects_do_no_harm(thing, tmp_path, capsys):
    refused_or_read(written(thing, tmp_path / 'forged.pth', True), capsys)


def test_what_could_do_harm_is_refused_by_its_name(tmp_path):
    path = written(RUN['eval'], tmp_path / 'a.pth', True)
    with pytest.raises(
        InputError, match=r'a\.pth is not a readable checkpoint \(it names (builtins\.)?eval, which is not data\)'
    ):
        checkpoint.load(path)


def test_what_cannot_be_stood_in_for_is_refused_by_its_name(tmp_path):
    torch.save({'model': {}, 'config': EasyDict(a=1, b=2)}, tmp_path / 'a.pth')
    said = r'\(it names (easydict\.)?EasyDict, which is not data\): save its tensors alone'
    with pytest.raises(InputError, match=rf'a\.pth is not a readable checkpoint {said}'):
        checkpoint.load(tmp_path / 'a.pth')


def test_a_name_does_not_steer_the_terminal(tmp_path, capsys):
    path = written(RUN['eval'], tmp_path / 'a.pth', True)
    refused_or_read(with_names(path, b'\neval\n', b'\n\x1b[31meval\r\n'), capsys)


def test_a_list_in_itself_is_refused(tmp_path):
    endless = [np.zeros(1)]
    endless.append(endless)
    with pytest.raises(InputError, match='RecursionError'):
        checkpoint.load(written(endless, tmp_path / 'a.pth', True))


def test_a_network_saved_whole_is_refused_by_its_class(mmengine, tmp_path):
    path = mmengine({'model': HistoryBuffer()}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=r"a\.pth: its 'model' is <mmengine.*HistoryBuffer, not read>: save"):
        read(path)


@pytest.mark.parametrize('text', ['error \x1b[1mbold\x1b[0m', 'one\rother', 'right to left \u202e'])
def test_an_error_does_not_steer_the_terminal(text, capsys):
    @exits_cleanly
    def main() -> None:
        raise InputError(text)

    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err[:-1].isprintable()
