"""The layout: exps -> lib -> cvpack, and experiments that are short differences from the defaults."""

import ast
import json
import re
import subprocess
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
    """The modules that a file imports, inside functions too; of `from a import b`, a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{file}: relative import'
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return names


def is_outer(module: str) -> bool:
    """Whether a module of lib is not of the core, what the paper needs."""
    return module.partition('.')[0] == 'lib' and module.split('.')[1:2] in (
        ['engine'],
        ['evaluation'],
        ['deploy'],
        ['tools'],
    )


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh process has after a statement."""
    code = f'{statement}; import json, sys; print(json.dumps([*sys.modules]))'
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    return {*json.loads(process.stdout.splitlines()[-1])}


def test_imports_point_one_way():
    """exps -> lib -> cvpack, and cvpack needs nothing but torch, with Triton, tensorboard and numpy, and tqdm."""
    allowed = {*sys.stdlib_module_names, 'numpy', 'torch', 'tqdm', 'triton', 'cvpack'}
    for file in (REPOSITORY / 'cvpack').rglob('*.py'):
        assert {name.split('.')[0] for name in imports(file)} <= allowed, file
    for file in (REPOSITORY / 'lib').rglob('*.py'):
        assert not {name.split('.')[0] for name in imports(file)} & {'exps', 'config', 'tests'}, file


def test_the_core_imports_nothing_of_the_other_rooms():
    """engine.py alone brings evaluation, deploy and tools together with the core."""
    found = {}
    for file in (REPOSITORY / 'lib').rglob('*.py'):
        module = '.'.join(file.relative_to(REPOSITORY).with_suffix('').parts)
        if not is_outer(module) and (outer := sorted(filter(is_outer, imports(file)))):
            found[module] = outer
    assert not found


def test_training_loads_the_core_alone():
    assert not {*filter(is_outer, loaded_by('import lib.training.begin, lib.training.run, lib.inference'))}


def test_a_configuration_loads_no_evaluation():
    """Every command reads one."""
    loaded = loaded_by('import lib.config')
    assert not {'pycocotools', 'scipy', 'lib.evaluation', 'lib.training', 'lib.loader'} & loaded


# One table, which tells every key.
LONG = {'coco_defaults'}


def test_files_and_functions_are_short():
    """At most 250 lines a file and 60 a function: whoever needs more has two things in one."""
    long = []
    for package in ('cvpack', 'lib'):
        for file in (REPOSITORY / package).rglob('*.py'):
            text = file.read_text()
            long += [f'{file}: {text.count(chr(10))}'] if text.count('\n') > 250 else []
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in LONG:
                    lines = node.end_lineno - node.lineno + 1
                    long += [f'{file}: {node.name}: {lines}'] if lines > 60 else []
    assert not long


@pytest.mark.parametrize('file', sorted((REPOSITORY / 'cvpack').rglob('*.py')), ids=lambda file: file.name)
def test_cvpack_knows_nothing_of_its_task(file):
    """No word of poses, no key of lib's configuration, no experiment's name, in code, messages or comments."""
    text = file.read_text()
    assert not re.findall(FOREIGN, text, re.IGNORECASE)
    generic = {'EMA', 'PERIOD'}  # words that are keys by chance
    assert not ({*keys(coco_defaults())} - generic) & {*re.findall(r'\w+', text)}
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


def test_the_reading_list_is_short_and_true():
    """README's table of the core: every file is there, the lines are about those that it has, and few in all."""
    table = (REPOSITORY / 'README.md').read_text().partition('| file | what | lines |')[2].partition('\n\n')[0]
    *rows, total = [row.split('|')[1:4] for row in table.strip().splitlines()[1:]]
    counted = 0
    for names, _, lines in rows:
        folder, own = Path(), 0
        for name in re.findall(r'`([^`]+)`', names):
            file = Path(name) if '/' in name else folder / name
            folder = file.parent
            own += (REPOSITORY / file).read_text().count('\n')
        assert abs(own - int(lines)) <= 10, f'{names}: {own} lines'
        counted += own
    assert counted <= 2600 and abs(counted - int(total[2].replace(',', ''))) <= 50
