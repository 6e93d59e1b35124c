"""The layout: exps -> lib -> cvpack, and experiments that are short differences from the defaults."""

import ast
from pathlib import Path

import pytest

from lib.config import REPOSITORY

FORBIDDEN = {
    'cvpack': {'lib', 'exps', 'cv2', 'numpy', 'scipy', 'pycocotools', 'easydict', 'torchvision'},
    'lib': {'exps', 'config', 'tests'},
}


def imports(file: Path) -> set[str]:
    """The top-level packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split('.')[0])
    return names


@pytest.mark.parametrize('package', FORBIDDEN)
def test_imports_point_one_way(package):
    files = sorted((REPOSITORY / package).rglob('*.py'))
    assert files
    for file in files:
        assert not imports(file) & FORBIDDEN[package], file


@pytest.mark.parametrize('file', sorted((REPOSITORY / 'exps').glob('*/config.py')), ids=lambda file: file.parent.name)
def test_a_config_ends_with_finalize(file):
    last = ast.parse(file.read_text()).body[-1]
    assert ast.unparse(last) == 'finalize(cfg, __file__)'
