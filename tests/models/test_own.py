"""Networks of an experiment's own: built from network.py by every command, never mistaken, never run unasked."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch

from cvpack import checkpoint
from cvpack.files import read_json
from lib import engine
from lib.config import REPOSITORY, coco_defaults, command, run_config, to_plain
from lib.config.experiment import importing_from
from lib.deploy.predictor import PosePredictor
from lib.deploy.saved import load_experiment
from lib.models import own as network
from lib.models.conv_bn import fold_batch_norm
from lib.models.cost import count_cost
from lib.models.mspn import build_mspn
from lib.models.own import network_of
from lib.models.resnet import ConvBNReLU
from lib.tools import convert
from lib.tools.export import __main__ as export
from lib.tools.predict import __main__ as predict
from tests.support.commands import names_all, refused, run_script
from tests.support.settings import load_config, tiny_settings

PLAIN = re.search(r'```python\n(.*?)```', (REPOSITORY / 'docs/own_network.md').read_text(), re.DOTALL)[1]
# MSPN's tensors, another function.
MIRRORED = """
import torch
from lib.models.mspn import MSPN


class Mirrored(MSPN):
    def forward(self, images):
        outputs = super().forward(images)
        return [[maps.flip(-1) for maps in stage] for stage in outputs] if self.training else outputs.flip(-1)


def build_model(cfg):
    model = cfg.MODEL
    return Mirrored(model.STAGE_NUM, cfg.DATASET.KEYPOINT.NUM, model.UPSAMPLE_CHANNEL_NUM, model.BACKBONE, model.WIDTH)
"""
CONFIG = """
from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.DATASET.ROOT = {root!r}
cfg.INPUT_SHAPE = [64, 64]
cfg.MODEL.update(BACKBONE='Res-18', STAGE_NUM=1, WIDTH=8, UPSAMPLE_CHANNEL_NUM=16, WEIGHT='', DEVICE='cpu')
cfg.SOLVER.update(IMS_PER_GPU=2, ACCUM_STEPS=8, MAX_ITER=1, CHECKPOINT_PERIOD=1, WARMUP_ITERS=0)
cfg.DATALOADER.NUM_WORKERS = 0
cfg.OUTPUT_DIR = {output!r}
finalize(cfg, __file__)
"""


@pytest.fixture
def experiment(synthetic_coco, tmp_path):
    """A function that makes an experiment's folder, with such a network.py if there is one, and other files."""

    def make(name: str = 'mine', code: str | None = MIRRORED, **files: str):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'config.py').write_text(CONFIG.format(root=str(synthetic_coco), output=str(tmp_path / 'out' / name)))
        for stem, text in {'network': code, **files}.items():
            if text is not None:
                (folder / f'{stem}.py').write_text(text)
        return folder

    return make


@pytest.fixture
def run(monkeypatch):
    """The engine's `train` or `test` of an experiment's folder in this process, as its train.py and test.py call it."""

    def call(entry, folder, *arguments: object, build_model=build_mspn):
        monkeypatch.setattr(sys, 'argv', ['script.py', *map(str, arguments)])
        entry(load_config(folder.name, folder.parent), build_model)

    return call


def save(folder, path, seed: int = 0, **changes: object):
    """A checkpoint of an experiment's network with random weights; what to change in its configuration."""
    cfg = load_config(folder.name, folder.parent)
    torch.manual_seed(seed)
    torch.save({'model': network_of(cfg)(cfg).state_dict(), 'config': {**to_plain(cfg), **changes}}, path)
    return path


def rows(folder) -> np.ndarray:
    return np.array([row['keypoints'] for row in read_json(folder / 'results.json')])


def test_the_readmes_network_goes_through_every_command(synthetic_coco, tmp_path, capsys, monkeypatch):
    """Put into a copied experiment, whose scripts stay as they are."""
    folder, out = tmp_path / 'my.network', tmp_path / 'out'
    shutil.copytree(REPOSITORY / 'exps/mspn.2xstg.toy', folder, ignore=shutil.ignore_patterns('log', '__pycache__'))
    (folder / 'network.py').write_text(PLAIN)
    settings = [*tiny_settings(synthetic_coco, out), 'SOLVER.MAX_ITER=2', 'SOLVER.CHECKPOINT_PERIOD=2']

    process = run_script('train.py', '--set', *settings, experiment=folder)
    assert process.returncode == 0, process.stderr
    printed = process.stdout
    assert f'network: of {folder}/network.py' in printed and 'iter 2/2 |' in printed
    monkeypatch.setattr(sys, 'argv', ['config.py'])
    command.main(load_config(folder.name, tmp_path))
    assert '"NETWORK": "own"' in (printed := capsys.readouterr().out)
    assert f'network: of {folder}/network.py\nparameters: 56,132\nGMACs: ' in printed  # of MODEL.WIDTH 32
    monkeypatch.setattr(sys, 'argv', ['test.py', '-i', 'last', '--set', *settings])
    engine.test(load_config(folder.name, tmp_path), build_mspn)
    assert len(rows(out / 'test_dir/iter-2'))
    weights = ['--weights', str(out / 'iter-2.pth')]
    people = ['--input', str(synthetic_coco / 'images/val2014'), '--output', str(tmp_path / 'predicted')]
    capsys.readouterr()
    names_all(refused(capsys, predict.main, *weights, *people), 'iter-2.pth', "'my.network'", '--experiment')
    tools = [*weights, '--experiment', str(folder)]
    predict.main([*tools, *people])
    assert len(rows(tmp_path / 'predicted')) == 5
    export.main([*tools, '--format', 'torch-export', '--output', str(tmp_path / 'a.pt2')])
    convert.main([*tools, '--to', 'own', '--output', str(tmp_path / 'own.pth')])
    assert checkpoint.load(tmp_path / 'own.pth')['config']['NETWORK'] == 'own'


@pytest.mark.parametrize('form', ['onnx', 'safetensors'])
def test_exported(form, experiment, tmp_path, capsys):
    pytest.importorskip(form, reason="pip install -e '.[export]'")
    folder = experiment()
    weights = ['--weights', str(save(folder, tmp_path / 'a.pth')), '--experiment', str(folder)]
    file = tmp_path / f'b.{form}'
    export.main([*weights, '--format', form, '--output', str(file)])
    assert 'too much' not in capsys.readouterr().out
    if form == 'safetensors':
        again = ['--weights', file, '--format', form, '--output', tmp_path / 'c']
        names_all(refused(capsys, export.main, *again), file, "'mine'")
        predictor = PosePredictor(file, experiment=folder)
        assert type(predictor.estimator.network).__name__ == 'Mirrored' and predictor.cfg.NETWORK == 'own'


def test_what_cannot_be_exported_is_a_line(experiment, tmp_path, capsys):
    code = MIRRORED.replace('outputs = super', 'outputs = type(images) is not torch.Tensor or super')
    folder = experiment(code=code)
    arguments = ['--format', 'torch-export', '--output', tmp_path / 'b.pt', '--experiment', folder]
    error = refused(capsys, export.main, '--weights', save(folder, tmp_path / 'a.pth'), *arguments)
    names_all(error, folder / 'network.py', 'cannot be exported as torch-export: AttributeError', '(network.py, line')


def test_converted(experiment, tmp_path, capsys):
    folder = experiment()
    arguments = ['--weights', save(folder, tmp_path / 'a.pth'), '--output', tmp_path / 'b.pth', '--to']
    names_all(refused(capsys, convert.main, *arguments, 'own'), 'a.pth', '--experiment')
    convert.main([str(argument) for argument in [*arguments, 'published', '--experiment', folder]])
    assert checkpoint.load(tmp_path / 'b.pth').keys() == {'model'}
    for form in ('torchvision', 'mmpose'):
        error = refused(capsys, convert.main, *arguments, form, '--experiment', folder)
        names_all(error, f'--to {form}', folder / 'network.py')


# ------------------------------------------------------------------------------------------- never mistaken for MSPN


def test_members_of_an_ensemble_are_what_they_were(experiment, run, tmp_path):
    """Of this experiment, whether the file says so or is older, without a configuration, or MSPN's."""
    folder, plain = experiment(), experiment('plain', None)
    own = save(folder, tmp_path / 'own.pth')
    older = save(folder, tmp_path / 'older.pth', NETWORK=None)
    torch.save({'model': checkpoint.load(own)['model']}, bare := tmp_path / 'bare.pth')
    mspn = save(plain, tmp_path / 'mspn.pth')
    results = tmp_path / 'out/mine/test_dir'
    run(engine.test, folder, '--weights', own)
    run(engine.test, folder, '--weights', own, older, bare)
    np.testing.assert_allclose(rows(results / 'ensemble.own+older+bare'), rows(results / 'own'), atol=1e-3)
    run(engine.test, plain, '--weights', mspn)
    assert not np.allclose(rows(tmp_path / 'out/plain/test_dir/mspn'), rows(results / 'own'), atol=1)
    # The same weights as two networks: their mean is that of maps and mirrored maps, which is symmetric.
    run(engine.test, folder, '--weights', mspn, own, '--set', 'TEST.FLIP=False', 'TEST.SHIFT_RATIOS=[]')
    run(engine.test, folder, '--weights', own, mspn, '--set', 'TEST.FLIP=False', 'TEST.SHIFT_RATIOS=[]')
    mixed = rows(results / 'ensemble.mspn+own')
    assert not np.allclose(mixed, rows(results / 'own'), atol=1)
    np.testing.assert_allclose(mixed, rows(results / 'ensemble.own+mspn'), atol=1e-3)


def test_another_experiments_own_network_is_no_member(experiment, run, tmp_path, capsys):
    ours, other, plain = experiment(), experiment('other'), experiment('plain', None)
    files = [save(ours, tmp_path / 'a.pth'), save(other, tmp_path / 'b.pth')]
    for folder in (ours, plain):
        error = refused(capsys, lambda a, folder=folder: run(engine.test, folder, *a), '--weights', *files[::-1])
        names_all(error, 'b.pth', "'other'")


def test_the_same_tensors_are_not_the_same_network(experiment, run, tmp_path, capsys):
    """MSPN's weights are not tested, resumed or predicted with as another network's, nor the reverse."""
    own, plain = experiment(), experiment('plain', None)
    run(engine.train, own)
    run(engine.train, plain)
    files = {folder: tmp_path / 'out' / folder.name / 'iter-1.pth' for folder in (own, plain)}
    saved = {folder: checkpoint.load(file)['config']['NETWORK'] for folder, file in files.items()}
    assert saved == {own: 'own', plain: 'mspn'}
    for folder, other, said in ((own, plain, 'was trained as MSPN'), (plain, own, f'{plain} has none')):
        elsewhere = f'OUTPUT_DIR={tmp_path / "elsewhere"}'  # where no other run is in the way
        for entry, option in ((engine.test, '--weights'), (engine.train, '-c')):
            arguments = [option, files[other], '--set', elsewhere]
            error = refused(capsys, lambda a, entry=entry, f=folder: run(entry, f, *a), *arguments)
            names_all(error, files[other], said)
        arguments = ['--weights', files[other], '--experiment', folder, '--input', tmp_path, '--output', tmp_path / 'p']
        (tmp_path / 'a.png').write_bytes(b'')
        names_all(refused(capsys, predict.main, *arguments), files[other], said)


def test_a_callable_of_train_py_is_own_too(experiment, run, tmp_path, capsys):
    """Trained as ever without a network.py; tools say where to put it."""
    folder = experiment(code=None, simple=PLAIN)
    with importing_from(folder):
        from simple import build_model
    run(engine.train, folder, build_model=build_model)
    run(engine.test, folder, '-i', 'last', build_model=build_model)
    weights = tmp_path / 'out/mine/iter-1.pth'
    arguments = ['--weights', weights, '--format', 'torch-export', '--output', tmp_path / 'a.pt']
    names_all(refused(capsys, export.main, *arguments), weights, 'network.py', 'name its folder with --experiment')
    error = refused(capsys, export.main, *arguments, '--experiment', folder)
    names_all(error, weights, 'build_model(cfg) in the network.py', f'{folder} has none: put it there')
    (folder / 'network.py').write_text('from simple import build_model\n')
    load_experiment(weights, experiment=folder)


def test_files_that_do_not_say_it_point_to_network_py(experiment, tmp_path, capsys):
    """Older checkpoints of own networks."""
    folder = experiment(code=PLAIN)
    file = save(folder, tmp_path / 'a.pth', NETWORK=None)
    arguments = ['--weights', file, '--format', 'torch-export', '--output', tmp_path / 'a.pt']
    names_all(refused(capsys, export.main, *arguments), file, 'tensors are missing', '--experiment', 'network.py')
    assert load_experiment(file, experiment=folder)[0].NETWORK == 'own'


def test_the_configuration_is_the_files(experiment, tmp_path, caplog):
    """What training was told by --set counts; a folder by another name is pointed out."""
    folder = experiment(code=PLAIN)
    cfg = load_config(folder.name, tmp_path)
    cfg.MODEL.WIDTH = 24
    torch.save({'model': network_of(cfg)(cfg).state_dict(), 'config': to_plain(cfg)}, tmp_path / 'a.pth')
    assert load_experiment(tmp_path / 'a.pth', experiment=folder)[0].MODEL.WIDTH == 24
    assert not caplog.messages
    load_experiment(tmp_path / 'a.pth', experiment=folder.rename(tmp_path / 'renamed'))
    assert "was trained as experiment 'mine'" in caplog.text


# --------------------------------------------------------------------------------------------------- nothing is run


def test_no_file_runs_a_network(experiment, tmp_path, monkeypatch, capsys):
    """Though it names a folder that is there, and that one is the current one."""
    folder = experiment(code=f'open({str(tmp_path / "ran")!r}, "w")\n{MIRRORED}')
    file = save(folder, tmp_path / 'a.pth')
    (tmp_path / 'ran').unlink()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    arguments = ['--format', 'torch-export', '--output', tmp_path / 'a.pt']
    refused(capsys, export.main, '--weights', file, *arguments)
    state = checkpoint.load(file)
    for key in ('_folder', '__dict__', 'FOLDER'):
        odd = {**state['config'], 'NETWORK': None, key: str(folder)}
        torch.save({**state, 'config': odd}, tmp_path / 'b.pth')
        names_all(refused(capsys, export.main, '--weights', tmp_path / 'b.pth', *arguments), 'b.pth')
    assert not (tmp_path / 'ran').exists()


def test_experiments_do_not_mix(experiment, tmp_path):
    """Files of the same names in two folders, also where they are imported late; the process's own stay its own."""
    code = 'from config import cfg as own\n{}\n\n\ndef build_model(cfg):\n    from blocks import build_model\n    {}'
    code = code.format('', 'assert own.EXPERIMENT == cfg.EXPERIMENT\n    return build_model(cfg)\n')
    wide = PLAIN.replace('cfg.MODEL.WIDTH', '2 * cfg.MODEL.WIDTH')
    folders = [experiment('a', code, blocks=PLAIN), experiment('b', code, blocks=wide)]
    files = [save(folder, tmp_path / f'{folder.name}.pth') for folder in folders]
    before, path = dict(sys.modules), list(sys.path)
    builders = [network_of(run_config(folder)) for folder in folders]
    for index in (0, 1, 0):
        load_experiment(files[index], experiment=folders[index])
        builders[index](run_config(folders[index]))
    assert sys.path == path and not {'network', 'blocks', 'simple'} & sys.modules.keys()
    assert sys.modules.get('config') is before.get('config')
    assert not list(tmp_path.glob('*/__pycache__'))


def test_a_config_may_import_its_neighbours(experiment):
    folder = experiment(code=None, joints='WIDTH = 24\n')
    config = (folder / 'config.py').read_text()
    (folder / 'config.py').write_text(f'from joints import WIDTH\n{config.replace("WIDTH=8", "WIDTH=WIDTH")}')
    assert run_config(folder).MODEL.WIDTH == 24 and 'joints' not in sys.modules


# ---------------------------------------------------------------------------------------------------- wrong networks

EVAL = 'return [levels] if self.training else levels[-1]'
WRONG = {
    'no function': ('x = 1\n', 'has no build_model(cfg)'),
    'no callable': ('build_model = 3\n', 'has no build_model(cfg)'),
    'syntax': ('def build_model(cfg:\n', 'cannot be imported: SyntaxError'),
    'import': ('import nothing_of_the_sort\n', "cannot be imported: ModuleNotFoundError: No module named 'nothing"),
    'raises': (
        'def build_model(cfg):\n    return cfg.MODEL.NAME\n',
        'build_model(cfg) fails: AttributeError',
        'line 2',
    ),
    'no module': ('def build_model(cfg):\n    return cfg\n', 'returns a EasyDict: it should be a torch.nn.Module'),
    'nothing': ('def build_model(cfg):\n    pass\n', 'returns None'),
    'fails': (
        PLAIN.replace('head(features)', 'head(images)'),
        'fails in train mode',
        'RuntimeError',
        '(network.py, line',
    ),
    'no stages': (PLAIN.replace(EVAL, 'return levels'), 'in train mode', 'as stage 0', 'a list of stages'),
    'train tensor': (
        PLAIN.replace(EVAL, 'return levels[-1]'),
        'in train mode',
        'a tensor (2, 17, 16, 16)',
        'a list of',
    ),
    'no stage': (PLAIN.replace(EVAL, 'return []'), 'in train mode', 'a list of 0'),
    'levels': (PLAIN.replace('range(4)', 'range(3)'), 'in train mode', 'a list of 3 as stage 0'),
    'joints': (
        PLAIN.replace('KEYPOINT.NUM', 'KEYPOINT.NUM - 1'),
        '(2, 16, 16, 16)',
        'heatmaps, a tensor (2, 17, 16, 16)',
    ),
    'size': (PLAIN.replace('(width, 2)', '(width, 1)'), 'stage 0, level 0', '(2, 17, 32, 32)', '(2, 17, 16, 16)'),
    'precision': (PLAIN.replace('.float()', '.half()'), 'float16', 'of float32'),
    'eval': (PLAIN.replace(EVAL, 'return [levels]'), 'in eval mode', 'a list of 1', 'heatmaps'),
    'eval size': (PLAIN.replace('else levels[-1]', 'else levels[-1][..., 1:]'), 'in eval mode', '(2, 17, 16, 15)'),
}


@pytest.mark.parametrize('case', WRONG.values(), ids=WRONG)
def test_a_wrong_network_is_a_line(case, experiment, run, capsys):
    code, *said = case
    folder = experiment(code=code)
    names_all(refused(capsys, lambda a: run(engine.train, folder, *a)), folder / 'network.py', *said)


def test_a_wrong_network_is_a_line_of_the_tools(experiment, tmp_path, capsys):
    folder = experiment(code=PLAIN)
    file = save(folder, tmp_path / 'a.pth')
    (folder / 'network.py').write_text(WRONG['eval'][0])
    arguments = ['--weights', file, '--experiment', folder, '--format', 'torch-export', '--output', tmp_path / 'a.pt']
    names_all(refused(capsys, export.main, *arguments), folder / 'network.py', *WRONG['eval'][1:])


def test_trying_it_changes_nothing_of_the_training(experiment, run, tmp_path, monkeypatch):
    """Nor does it draw from the run's random numbers, dropout or not."""
    folder = experiment(code=PLAIN.replace('nn.ReLU()]', 'nn.ReLU(), nn.Dropout(0.5)]'))
    run(engine.train, folder)
    monkeypatch.setattr(network, 'check_outputs', lambda *_: None)
    run(engine.train, folder, '--set', f'OUTPUT_DIR={tmp_path / "untried"}')
    tried, untried = (checkpoint.load(tmp_path / name / 'iter-1.pth')['model'] for name in ('out/mine', 'untried'))
    assert all(torch.equal(value, untried[key]) for key, value in tried.items())


# ----------------------------------------------------------------------------------------------------- other networks


class Swapped(ConvBNReLU):
    """Normalises what comes in."""

    def forward(self, x):
        return self.conv(self.bn(x))


def test_units_that_were_changed_are_not_folded():
    torch.manual_seed(0)
    normed, replaced, plain = ConvBNReLU(4, 4, 3), ConvBNReLU(4, 4, 3), ConvBNReLU(4, 4, 3)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(normed.conv)
    replaced.conv = torch.nn.Sequential(replaced.conv)
    model = torch.nn.Sequential(Swapped(4, 4, 3), normed, replaced, plain)
    model(torch.randn(8, 4, 8, 8))  # running statistics
    images = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = model.eval()(images)
        torch.testing.assert_close(fold_batch_norm(model)(images), expected, rtol=1e-5, atol=1e-5)
    assert isinstance(plain.bn, torch.nn.Identity)


def test_the_cost_of_the_smallest_input():
    """Where a single image would leave a BatchNorm with one value."""
    cfg = coco_defaults()
    cfg.MODEL.update(BACKBONE='Res-18', STAGE_NUM=1, WIDTH=8)
    cfg.INPUT_SHAPE = [32, 32]
    _, macs, _ = count_cost(cfg)
    cfg.INPUT_SHAPE = [64, 64]
    assert count_cost(cfg)[1] == 4 * macs
