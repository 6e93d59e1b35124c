"""Configurations: what finalize derives and refuses, the command, a copied experiment, overrides."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from cvpack.errors import InputError
from lib.config import REPOSITORY, coco_defaults, command, finalize, home, mpii_defaults, override, to_plain
from lib.deploy import saved
from lib.loader import train_samples
from tests.support.commands import run_script
from tests.support.settings import PUBLISHED, load_config, tiny_settings

CONFIG = str(REPOSITORY / 'exps/mspn.2xstg.coco/config.py')


@pytest.fixture
def copied(tmp_path):
    """An experiment copied to a new folder, as a researcher does."""
    folder = tmp_path / 'my.experiment'
    shutil.copytree(REPOSITORY / 'exps/mspn.2xstg.coco', folder, ignore=shutil.ignore_patterns('log', '__pycache__'))
    return folder


@pytest.mark.parametrize('experiment', PUBLISHED)
def test_published_experiments(experiment):
    cfg = load_config(experiment)
    stages, dataset = re.fullmatch(r'mspn\.(\d)xstg\.(coco|mpii).*', experiment).groups()
    assert int(stages) == cfg.MODEL.STAGE_NUM
    assert dataset.upper() == cfg.DATASET.NAME
    assert [4 * size for size in cfg.OUTPUT_SHAPE] == cfg.INPUT_SHAPE
    assert cfg.OUTPUT_DIR.endswith(experiment)
    assert (dataset == 'mpii') == cfg.RUN_EFFICIENT


def test_the_input_shape_reaches_everything():
    cfg = load_config('mspn.4xstg.coco.384x288')
    assert cfg.INPUT_SHAPE == [384, 288] and cfg.OUTPUT_SHAPE == [96, 72]
    override(cfg, ['INPUT_SHAPE=[128, 96]'])
    assert cfg.OUTPUT_SHAPE == [32, 24]


def test_configs_share_nothing():
    first, second = coco_defaults(), coco_defaults()
    first.DATASET.KEYPOINT.FLIP_PAIRS[0][0] = 99
    first.SOLVER.BASE_LR = 1.0
    assert second.DATASET.KEYPOINT.FLIP_PAIRS[0][0] == 1
    assert second.SOLVER.BASE_LR == 5e-4


def test_an_experiment_can_start_from_another(tmp_path):
    """It has its own name and output folder; what the other sets stays. Its network is in its own folder."""
    base, new = tmp_path / 'base', tmp_path / 'new'
    for folder, lines in (
        (base, ['cfg = coco_defaults()', 'cfg.MODEL.STAGE_NUM = 3']),
        (new, [f'cfg = run_config(Path({str(base)!r}))', "cfg.CODEC = 'dark'"]),
    ):
        folder.mkdir()
        imports = ['from pathlib import Path', 'from lib.config import coco_defaults, finalize, run_config']
        (folder / 'config.py').write_text('\n'.join([*imports, *lines, 'finalize(cfg, __file__)']))
    cfg = load_config('new', tmp_path)
    assert (cfg.EXPERIMENT, cfg.MODEL.STAGE_NUM, cfg.CODEC) == ('new', 3, 'dark')
    assert Path(cfg.OUTPUT_DIR) == Path(load_config('base', tmp_path).OUTPUT_DIR).with_name('new')
    assert Path(cfg.TEST_DIR).parent == Path(cfg.OUTPUT_DIR)
    with (base / 'config.py').open('a') as file:
        file.write(f'\ncfg.OUTPUT_DIR = {str(tmp_path / "mine")!r}')
    assert Path(load_config('new', tmp_path).OUTPUT_DIR) == tmp_path / 'mine'
    (base / 'network.py').touch()
    with pytest.raises(InputError, match=r'the experiment base has a network\.py'):
        load_config('new', tmp_path)
    (new / 'network.py').touch()
    assert load_config('new', tmp_path).NETWORK == 'own'


def test_the_recipe_is_what_was_measured():
    """docs/options.md names the settings that were measured; the experiment has them, and twice the samples."""
    page = (REPOSITORY / 'docs/options.md').read_text()
    measured = load_config('mspn.1xstg.lspet')
    settings = [re.search(rf'{name}: `([^`]+)`', page)[1].split() for name in ('\ngentle', 'Steps of 16')]
    override(measured, [*settings[0], *settings[1]])
    assert measured.SOLVER.MAX_ITER == 1000
    override(measured, ['SOLVER.MAX_ITER=2000', 'SOLVER.CHECKPOINT_PERIOD=496'])
    recipe = load_config('mspn.1xstg.lspet.best')
    override(measured, [f'OUTPUT_DIR={recipe.OUTPUT_DIR}'])
    assert recipe == {**measured, 'EXPERIMENT': recipe.EXPERIMENT}


def test_a_copied_experiment_is_a_new_one(copied, tmp_path, monkeypatch):
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    config = copied / 'config.py'
    config.write_text(config.read_text().replace('STAGE_NUM = 2', 'STAGE_NUM = 3'))
    process = run_script('config.py', experiment=copied)
    assert process.returncode == 0, process.stderr
    assert '"STAGE_NUM": 3' in process.stdout
    assert '/my.experiment"' in process.stdout
    assert 'parameters: 88,592,356' in process.stdout
    assert re.search(r'epochs: .*train_val_minus_minival_2014\.json', process.stdout)  # which is not there
    for gpus, iterations, images, rate in (('1 GPU', '768,000', 32, 0.0005), ('8 GPUs', '96,000', 256, 0.004)):
        assert re.search(rf'{gpus}: {iterations} .* {images} images, .* {rate} .* 2,400 ', process.stdout)
    assert not (copied / 'log').exists()


def test_epochs_of_the_training_set_are_told(synthetic_coco, tmp_path, monkeypatch, capsys):
    cfg = load_config('mspn.2xstg.coco')
    settings = ['SOLVER.REFERENCE_GPUS=1', 'SOLVER.MAX_ITER=10', 'SOLVER.ACCUM_STEPS=2']
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), *settings])
    monkeypatch.setattr(sys, 'argv', ['config.py'])
    command.main(cfg)
    told = capsys.readouterr().out
    people = len(train_samples(cfg))
    assert f'1 GPU: 5 iterations of 6 images ({30 / people:.1f} epochs)' in told
    assert f'8 GPUs: 1 iterations of 48 images ({48 / people:.1f} epochs)' in told


def test_log_is_linked_to_the_output_folder(copied, tmp_path, monkeypatch):
    monkeypatch.setenv('MSPN_HOME', str(tmp_path / 'elsewhere'))
    monkeypatch.chdir(copied)
    monkeypatch.setattr(sys, 'argv', ['config.py', '-log'])
    monkeypatch.setattr(command, '_print_cost', lambda _: None)  # which takes seconds
    for _ in range(2):
        command.main(load_config(copied.name, copied.parent))
    assert (copied / 'log').resolve().parent.parent == (tmp_path / 'elsewhere/model_logs').resolve()
    (copied / 'log').unlink()
    (copied / 'log').write_text('mine')
    with pytest.raises(InputError, match='log is in the way'):
        command.main(load_config(copied.name, copied.parent))
    assert (copied / 'log').read_text() == 'mine'


def test_it_shows_what_set_makes_of_the_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, '_print_cost', lambda _: None)
    monkeypatch.setattr(sys, 'argv', ['config.py', '--set', 'SOLVER.ACCUM_STEPS=4', 'INPUT_SHAPE=[128,96]'])
    command.main(load_config('mspn.2xstg.coco'))
    told = capsys.readouterr().out
    shown = json.JSONDecoder().raw_decode(told)[0]
    assert (shown['INPUT_SHAPE'], shown['OUTPUT_SHAPE']) == ([128, 96], [32, 24])
    assert '1 GPU: 192,000 iterations of 128 images' in told
    monkeypatch.setattr(sys, 'argv', ['config.py', '--set', 'SOLVER.ACCUM_STEP=4'])
    with pytest.raises(InputError, match=r'there is no key SOLVER\.ACCUM_STEP'):
        command.main(load_config('mspn.2xstg.coco'))


def test_a_user_without_a_name(monkeypatch):
    """Containers run as numbers that no passwd file knows."""

    def nobody():
        raise KeyError('getpwuid(): uid not found: 1234')

    monkeypatch.setattr('getpass.getuser', nobody)
    assert f'/model_logs/{os.getuid()}/mspn.2xstg.coco' in load_config('mspn.2xstg.coco').OUTPUT_DIR


def test_home_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.delenv('MSPN_HOME', raising=False)
    assert home() == REPOSITORY
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    assert load_config('mspn.2xstg.coco').OUTPUT_DIR.startswith(str(tmp_path))


def test_overrides():
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, ['SOLVER.BASE_LR=1e-3', 'MODEL.DEVICE=cpu', 'TEST.SHIFT_RATIOS=[0.25, 0.1]', 'MODEL.WEIGHT='])
    assert cfg.SOLVER.BASE_LR == 1e-3 and cfg.MODEL.DEVICE == 'cpu'
    assert cfg.TEST.SHIFT_RATIOS == [0.25, 0.1] and cfg.MODEL.WEIGHT == ''
    override(cfg, ['OUTPUT_DIR=/somewhere'])
    assert cfg.TEST_DIR == '/somewhere/test_dir' and cfg.TENSORBOARD_DIR == '/somewhere/tb_dir'
    assert to_plain(cfg)['SOLVER']['BASE_LR'] == 1e-3


def test_unknown_and_missing_keys_are_refused():
    cfg = coco_defaults()
    cfg.SOLVER.BASE_RL = 1e-3
    with pytest.raises(InputError, match=r'unknown key SOLVER\.BASE_RL'):
        finalize(cfg, CONFIG)
    cfg = coco_defaults()
    cfg.TEST.DURING_TRAINING = 1
    with pytest.raises(InputError, match=r'TEST\.DURING_TRAINING\b.* VALIDATION\.PERIOD'):
        finalize(cfg, CONFIG)
    cfg = mpii_defaults()
    del cfg['RUN_EFFICIENT']
    with pytest.raises(InputError, match='RUN_EFFICIENT is missing'):
        finalize(cfg, CONFIG)


def test_a_bad_config_is_one_line(copied):
    config = copied / 'config.py'
    config.write_text(config.read_text().replace('STAGE_NUM', 'STAGES'))
    for script in ('config.py', 'train.py'):  # as a script, and imported by one
        process = run_script(script, '-h', experiment=copied)
        assert process.returncode == 2, script
        assert process.stderr.startswith('error: config: unknown key MODEL.STAGES'), process.stderr
        assert process.stderr.count('\n') == 1
    other = copied.with_name('other')
    shutil.copytree(copied, other)
    for base, said in ((copied, 'config: unknown key MODEL.STAGES'), (copied / 'none', f'{copied}/none/config.py')):
        lines = (
            'from pathlib import Path',
            'from lib.config import run_config',
            f'cfg = run_config(Path({str(base)!r}))',
        )
        (other / 'config.py').write_text('\n'.join(lines))
        process = run_script('train.py', '-h', experiment=other)
        assert (process.returncode, process.stderr.count('\n')) == (2, 1)
        assert process.stderr.startswith(f'error: {said}')


def places(value: object, path: tuple = ()):
    """The way to every number below a value, in dictionaries and lists."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


@pytest.mark.parametrize('defaults', [coco_defaults, mpii_defaults])
def test_every_number_has_a_range(defaults):
    """Also one that is added to the defaults later: give it a range in lib/config/checks.py."""
    without = set()
    for *parents, last in places(defaults()):
        key = '.'.join(name for name in (*parents, last) if isinstance(name, str))
        for wrong in (math.nan, math.inf, -math.inf, 10**18, -(10**18), 16**9999):
            cfg = defaults()
            node = cfg
            for parent in parents:
                node = node[parent]
            if isinstance(node[last], int) and isinstance(wrong, float):
                continue
            node[last] = wrong
            try:
                finalize(cfg, CONFIG)
            except InputError as error:
                assert key.rpartition('.')[2] in str(error) and len(str(error)) < 500
            else:
                without.add(key)
    assert not without


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('SOLVER.BASE_LR=-1', 'SOLVER.BASE_LR = -1 should be 0 to 1000'),
        ('SOLVER.BASE_LR=1e999', 'SOLVER.BASE_LR = inf should be 0 to 1000'),
        ('SOLVER.MOMENTUM=9', 'SOLVER.MOMENTUM = 9 should be 0 to 0.999999'),
        ('SOLVER.WARMUP_FACTOR=-3', 'SOLVER.WARMUP_FACTOR = -3 should be 0 to 1'),
        ('INPUT.STDS=[0, 0, 0]', 'INPUT.STDS = [0, 0, 0] should be 0.001 to 10'),
        ('INPUT.MEANS=[103.53, 116.28, 123.675]', 'INPUT.MEANS = [103.53, 116.28, 123.675] should be 0 to 1'),
        ('DATASET.TRAIN.PROB_FLIP=7', 'DATASET.TRAIN.PROB_FLIP = 7 should be 0 to 1'),
        ('DATASET.TRAIN.SCALE_SHRINK_RATIO=0', 'DATASET.TRAIN.SCALE_SHRINK_RATIO = 0 should be 0.1 to 10'),
        ('DATASET.TRAIN.SCALE_FACTOR_LOW=0.5', 'SCALE_FACTOR_LOW = 0.5 should be at most SCALE_FACTOR_HIGH = 0.25'),
        ('DATASET.KEYPOINT.LOAD_MIN_NUM=18', 'LOAD_MIN_NUM = 18 should be 1 to 17'),
        ('DATASET.TRAIN.GAUSSIAN_KERNELS=[15, 11, 9, 7, -5]', 'GAUSSIAN_KERNELS = [15, 11, 9, 7, -5] should be 1 to'),
        ('TEST.SCALES=[]', 'TEST.SCALES is empty'),
        ('OUTPUT_DIR={[]:1}', r"--set OUTPUT_DIR={[]:1}: the value is not a Python literal (unhashable type: 'list')"),
        (f'OUTPUT_DIR={"-" * 9000}1', 'the value is not a Python literal'),
        ('OUTPUT_DIR={1, 2}', 'OUTPUT_DIR = {1, 2} should be a str'),
        ('OUTPUT_DIR=b"out"', "OUTPUT_DIR = b'out' should be a str"),
        ('OUTPUT_DIR="a\\0b"', 'has characters that are not allowed'),
        ('SOLVER.BASE_LR=1j', 'SOLVER.BASE_LR = 1j should be a float'),
        ('SOLVER={1: 2}', '--set SOLVER={1: 2}: keys should be names'),
        ('SOLVER={}', 'SOLVER.OPTIMIZER is missing'),
        ('TEST=5', 'TEST = 5 should be a dict'),
        ('DATASET.KEYPOINT.FLIP_PAIRS=[{1: 2}]', 'keys should be names'),
        (f'SOLVER.MAX_ITER=0x{"f" * 9999}', 'SOLVER.MAX_ITER = a number of 39996 bits should be 1 to'),
        (f'{"A" * 9999}=1', 'there is no key AAA'),
        ('USER={1: 2}', 'keys should be names'),
        ('USER.x={1, 2}', 'USER.x = {1, 2} cannot be saved in a checkpoint'),
        ('USER.x=[1, b"a"]', "USER.x[1] = b'a' cannot be saved in a checkpoint"),
        ('USER.x=1e999', 'USER.x = inf cannot be saved in a checkpoint'),
        ('USER.items=1', "USER cannot have a key 'items'"),
        ('USER.__class__=1', 'keys should be names'),
        ('USER.x.y.keys=1', "USER.x.y cannot have a key 'keys'"),
        ('USER=5', 'USER = 5 should be a dict'),
        ('USER.=5', 'there is no key USER.'),
        ('USER..x=5', 'there is no key USER..x'),
        ('USER.__dict__={}', "USER cannot have a key '__dict__'"),
    ],
)
def test_values_without_sense_are_refused(assignment, message):
    with pytest.raises(InputError) as refusal:
        override(load_config('mspn.2xstg.coco'), [assignment])
    assert message in str(refusal.value) and len(str(refusal.value)) < 700


def test_keys_of_one_s_own():
    """Below USER: what an experiment likes, on the command line too; checkpoints hold it."""
    cfg = coco_defaults()
    cfg.USER.heads = {'depth': [1, 2], 'name': 'späť', 'on': None}
    finalize(cfg, CONFIG)
    override(cfg, ['USER.heads.depth=[3]', 'USER.new=1', 'USER.a.b.c=x'])
    assert cfg.USER == {'heads': {'depth': [3], 'name': 'späť', 'on': None}, 'new': 1, 'a': {'b': {'c': 'x'}}}
    assert cfg.USER.heads.depth == [3] and cfg.USER.a.b.c == 'x'
    assert from_plain(to_plain(cfg)).USER == cfg.USER
    with pytest.raises(InputError, match=r'there is no key USER\.new\.x'):
        override(cfg, ['USER.new.x=1'])


def from_plain(plain: dict) -> EasyDict:
    return saved.config_of({'config': json.loads(json.dumps(plain))}, Path('iter-8.pth'), None)


def test_own_keys_that_no_checkpoint_holds_are_refused():
    cfg = coco_defaults()
    cfg.USER.where = Path('a')
    with pytest.raises(InputError, match=r'USER\.where = .*Path\(.* cannot be saved in a checkpoint'):
        finalize(cfg, CONFIG)
    cfg = coco_defaults()
    cfg.USER.me = cfg.USER
    with pytest.raises(InputError, match='nested more than 50 deep'):
        finalize(cfg, CONFIG)
    cfg = coco_defaults()
    cfg.USER.list = [1, [np.int64(3)]]
    with pytest.raises(InputError, match=r'USER\.list\[1\]\[0\] = .*3.* cannot be saved'):
        finalize(cfg, CONFIG)


# What an editable install does: it adds modules that are found nowhere else, below other packages of their name too.
EDITABLE = """
import importlib.util, sys
from pathlib import Path

class Finder:
    def find_spec(name, path=None, target=None):
        file = Path({repository!r}, *name.split('.'))
        if name.split('.')[0] in ('lib', 'cvpack'):
            for file in (file / '__init__.py', file.with_suffix('.py')):
                if file.is_file():
                    return importlib.util.spec_from_file_location(name, file)

sys.meta_path.append(Finder)
"""


@pytest.mark.parametrize(
    ('packages', 'script'),
    [
        (('lib', 'cvpack'), ('train.py',)),
        (('lib',), ('config.py',)),
        (('lib',), ('-m', 'lib.tools.predict')),
        (('cvpack',), ('train.py',)),
        (('cvpack',), ('-m', 'lib.tools.compare')),
    ],
    ids=str,
)
def test_an_old_clone_on_the_path_is_named(packages, script, tmp_path):
    """PYTHONPATH of the published code's users still holds its clone, whose packages have these names too."""
    for package in packages:
        folder = tmp_path / 'old clone' / package / 'utils'
        folder.mkdir(parents=True)
        for file in (folder / '__init__.py', folder.parent / '__init__.py'):
            file.touch()
    (tmp_path / 'sitecustomize.py').write_text(EDITABLE.format(repository=str(REPOSITORY)))
    experiment = tmp_path / 'mspn.copied'
    shutil.copytree(
        REPOSITORY / 'exps/mspn.2xstg.coco', experiment, ignore=shutil.ignore_patterns('log', '__pycache__')
    )
    process = subprocess.run(
        [sys.executable, *script, '-h'],
        cwd=experiment,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path / "old clone"}{os.pathsep}{tmp_path}'},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr.startswith(f'error: Python takes {packages[0]} from {tmp_path / "old clone"}, not from ')
    assert 'PYTHONPATH' in process.stderr and process.stderr.count('\n') == 1, process.stderr
