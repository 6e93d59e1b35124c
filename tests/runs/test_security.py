"""Files are data: nothing in them is run, leads out of its folder, or takes the machine's memory."""

import ast
import json
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cvpack.errors import InputError
from lib import engine
from lib.config import REPOSITORY
from lib.datasets.checks import Issue
from lib.datasets.description import COCO, MPII
from lib.datasets.image_files import load_image, read_image
from lib.datasets.image_names import is_safe
from lib.tools.prepare import __main__ as prepare
from tests.support.annotations import mpii_people, one_image, write_json
from tests.support.commands import experiment, refused
from tests.support.settings import small

# ------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def malicious(tmp_path):
    """A checkpoint that, read as a pickle, writes a file; and that file."""
    ran = tmp_path / 'ran'

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), 'w'))

    path = tmp_path / 'evil.pth'
    torch.save({'model': Evil(), 'optimizer': {}, 'iteration': 1}, path)
    return path, ran


def test_the_malicious_checkpoint_is_malicious(malicious):
    path, ran = malicious
    torch.load(path, weights_only=False)
    assert ran.exists()


ENTRIES = {
    'test': (engine.test, ['--weights', '{path}']),
    'continue': (engine.train, ['-c', '{path}']),
    'begin with': (engine.train, ['--set', 'MODEL.WEIGHT={path}']),
    'prepare': (prepare.main, ['weights', '--file', '{path}', '--target', '{folder}']),
}


@pytest.mark.parametrize('case', ENTRIES.values(), ids=ENTRIES)
def test_a_malicious_checkpoint_is_refused(case, malicious, synthetic_coco, tmp_path, monkeypatch, capsys):
    entry, arguments = case
    path, ran = malicious
    arguments = [argument.format(path=path, folder=tmp_path / 'target') for argument in arguments]
    if entry is not prepare.main:
        settings = [value for value in small(synthetic_coco, tmp_path / 'out') if value != 'MODEL.WEIGHT=']
        entry, arguments = experiment(entry, monkeypatch), [*arguments, '--set', *settings]
    error = refused(capsys, entry, *arguments)
    assert f'{path} is not a readable checkpoint' in error and not ran.exists()


# ---------------------------------------------------------------------------------------------------- names

SAFE = [
    'a.jpg',
    'train2017/1.jpg',
    'в парке/été 1.jpg',
    '日本/\u3000a.jpg',
    'a..b.jpg',
    '...',
    '..a',
    'a../b',
    './a.jpg',
]
UNSAFE = [
    '',
    '..',
    '../a.jpg',
    'a/../../b.jpg',
    'a/..',
    '/etc/passwd',
    'a\0.jpg',
    'a\n.jpg',
    '\x1b[2J',
    '\ud800',
    'a' * 2000,
]


@pytest.mark.parametrize('name', SAFE)
def test_names_that_stay(name):
    assert is_safe(name)


@pytest.mark.parametrize('name', [*UNSAFE, None, 5, ['a'], b'a'], ids=lambda name: repr(name)[:20])
def test_names_that_do_not_stay(name):
    assert not is_safe(name)


@pytest.mark.parametrize(
    'name', ['../outside.jpg', '{folder}/outside.jpg', 'a/../../outside.jpg', 'COCO_../../outside.jpg']
)
@pytest.mark.parametrize('layout', ['coco', 'mpii'])
def test_an_image_outside_is_never_read(layout, name, synthetic_coco, tmp_path, monkeypatch, capsys):
    """Though it is there, and a person is annotated in it."""
    root = tmp_path / 'data'
    name = name.format(folder=root)
    if layout == 'coco':
        one_image(synthetic_coco, root)
        file = root / COCO.train_json
        content = json.loads(file.read_text())
        content['images'][0]['file_name'] = name
        write_json(file, content)
    else:
        file = write_json(root / MPII.train_json, [{**mpii_people()[0], 'image': name}])
        (root / 'images').mkdir()
    (root / 'outside.jpg').write_bytes(cv2.imencode('.jpg', np.zeros((200, 200, 3), np.uint8))[1].tobytes())
    run = experiment(engine.train, monkeypatch, f'mspn.2xstg.{layout}')
    error = refused(capsys, run, '--set', *small(root, tmp_path / 'out'))
    assert str(file) in error and 'should be a path inside the images folder' in error


# ---------------------------------------------------------------------------------------------------- images


def png(width: int, height: int, rows: bytes) -> bytes:
    """A file of one bit a pixel with a sound header and such rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    data = cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    start = data.index(b'\xff\xc0') + 5
    return data[:start] + struct.pack('>HH', height, width) + data[start + 4 :]


def bitmap_of(width: int, height: int) -> bytes:
    return b'BM' + struct.pack('<IHHI IiiHHIIiiII', 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


SIDE = 12_000  # 144 million pixels: 432 MB decoded from 18 kB
BOMBS = {
    'decompression bomb': png(SIDE, SIDE, bytes(SIDE * (SIDE // 8 + 1))),
    'png header of 1e9 pixels': png(40_000, 25_000, bytes(1000)),
    'jpeg header of 1e9 pixels': jpeg_of(40_000, 25_000),
    'bitmap header of 1e9 pixels': bitmap_of(40_000, 25_000),
    'bitmap header of 4e9 pixels': bitmap_of(64_000, 64_000),
}


@pytest.mark.parametrize('bomb', BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_by_their_header(bomb, tmp_path):
    path = tmp_path / 'bomb.jpg'
    path.write_bytes(bomb)
    assert len(bomb) < 100_000
    assert load_image(path) is Issue.HUGE
    with pytest.raises(InputError, match=r'bomb\.jpg: .*pixels.*: get it again'):
        read_image(path)


def peak_kilobytes() -> int:
    return int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])


@pytest.mark.skipif(sys.platform != 'linux', reason='has the system begin its record of the memory anew')
def test_a_bomb_takes_no_memory(tmp_path):
    """Where decoded it would take 432 MB."""
    (tmp_path / 'bomb.png').write_bytes(BOMBS['decompression bomb'])
    Path('/proc/self/clear_refs').write_text('5')
    before = peak_kilobytes()
    assert load_image(tmp_path / 'bomb.png') is Issue.HUGE
    assert peak_kilobytes() - before < 50_000


def test_large_photographs_are_read(tmp_path):
    """Of 50 million pixels, as a camera may make them."""
    path = tmp_path / 'photograph.png'
    path.write_bytes(png(8000, 6250, bytes(6250 * 1001)))
    assert read_image(path).shape == (6250, 8000, 3)


# ---------------------------------------------------------------------------------------------------- code

FORBIDDEN = {'eval', 'exec', 'os.system', 'os.popen', 'pickle.load', 'pickle.loads', 'pickle.Unpickler'}
FORBIDDEN |= {'marshal.load', 'marshal.loads', 'shelve.open', 'yaml.load', 'subprocess.getoutput'}
# What a call must say: it would run code, or could.
REQUIRED = {'torch.load': ('weights_only', 'True'), 'np.load': ('allow_pickle', 'False')}


def calls() -> list[tuple[str, ast.Call]]:
    files = [file for folder in ('cvpack', 'lib', 'exps') for file in (REPOSITORY / folder).rglob('*.py')]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return [(ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]


def test_no_file_is_run():
    """No shell, no eval, no pickle from the disk, anywhere in the code."""
    seen = set()
    for name, call in calls():
        seen.add(name)
        assert name not in FORBIDDEN, ast.unparse(call)
        if name in REQUIRED:
            option, value = REQUIRED[name]
            assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get(option) == value, name
        assert not any(k.arg == 'shell' for k in call.keywords), ast.unparse(call)
    assert {'torch.load', 'subprocess.run'} <= seen  # else they go by another name, and are not looked at
