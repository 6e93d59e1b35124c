"""The layout: exps -> lib -> cvpack, and experiments that are short differences from the defaults."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.config import REPOSITORY, coco_defaults

# Of the task, of this project and its commands.
FOREIGN = r'heatmap|key_?point|joint|pose|person|people|human|coco|mpii|mspn|\blib\b|\bexps\b|--resume|setup\.py'


def keys(section: dict) -> Iterator[str]:
    """Every key of a configuration, and of its sections."""
    for name, value in section.items():
        yield name
        if isinstance(value, dict):
            yield from keys(value)


def imports(file: Path) -> set[str]:
    """The top-level packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split('.')[0])
    return names


def test_imports_point_one_way():
    """exps -> lib -> cvpack, and cvpack needs nothing but torch, with tensorboard and numpy, and tqdm."""
    allowed = {*sys.stdlib_module_names, 'numpy', 'torch', 'tqdm', 'cvpack'}
    for file in (REPOSITORY / 'cvpack').rglob('*.py'):
        assert imports(file) <= allowed, file
    for file in (REPOSITORY / 'lib').rglob('*.py'):
        assert not imports(file) & {'exps', 'config', 'tests'}, file


@pytest.mark.parametrize('file', sorted((REPOSITORY / 'cvpack').rglob('*.py')), ids=lambda file: file.name)
def test_cvpack_knows_nothing_of_its_task(file):
    """No word of poses, no key of lib's configuration, no experiment's name, in code, messages or comments."""
    text = file.read_text()
    assert not re.findall(FOREIGN, text, re.IGNORECASE)
    assert not {*keys(coco_defaults())} & {*re.findall(r'\w+', text)}
    assert not [folder.name for folder in (REPOSITORY / 'exps').iterdir() if folder.name in text]


@pytest.mark.parametrize('file', sorted((REPOSITORY / 'exps').glob('*/config.py')), ids=lambda file: file.parent.name)
def test_a_config_ends_with_finalize(file):
    last = ast.parse(file.read_text()).body[-1]
    assert ast.unparse(last) == 'finalize(cfg, __file__)'


def test_no_test_imports_another():
    """What several tests need is in tests/support."""
    for file in (REPOSITORY / 'tests').rglob('*.py'):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f'{node.module}.{alias.name}' for alias in node.names}
        assert not [name for name in names if re.match(r'tests\.(?!support\b)|test_|conftest', name)], file
