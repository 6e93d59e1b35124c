"""The layout: exps -> lib -> cvpack, and experiments that are short differences from the defaults."""

import ast
import sys
from pathlib import Path

import pytest

from lib.config import REPOSITORY


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
    """exps -> lib -> cvpack, and cvpack needs nothing but torch and tqdm."""
    allowed = {*sys.stdlib_module_names, 'torch', 'tqdm', 'cvpack'}
    for file in (REPOSITORY / 'cvpack').rglob('*.py'):
        assert imports(file) <= allowed, file
    for file in (REPOSITORY / 'lib').rglob('*.py'):
        assert not imports(file) & {'exps', 'config', 'tests'}, file


@pytest.mark.parametrize('file', sorted((REPOSITORY / 'exps').glob('*/config.py')), ids=lambda file: file.parent.name)
def test_a_config_ends_with_finalize(file):
    last = ast.parse(file.read_text()).body[-1]
    assert ast.unparse(last) == 'finalize(cfg, __file__)'
