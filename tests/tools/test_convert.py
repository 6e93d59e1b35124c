"""Weight files into each other: nothing lost, the same function, and what does not fit is refused by name."""

import re

import numpy as np
import pytest
import torch
import torchvision

from cvpack import checkpoint
from lib.config import REPOSITORY, override, to_plain
from lib.deploy.saved import load_experiment
from lib.models.mspn import MSPN, build_mspn
from lib.models.weights import from_torchvision, load_pretrained
from lib.tools import convert
from tests.support.commands import refused
from tests.support.networks import fill
from tests.support.settings import load_config

EXPERIMENT = """
from lib.config import coco_defaults, finalize

cfg = coco_defaults()
cfg.MODEL.update(BACKBONE='Res-50', WIDTH=8, UPSAMPLE_CHANNEL_NUM=16)
cfg.INPUT_SHAPE = [64, 64]
finalize(cfg, __file__)
"""


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A small 2-stage network with bottlenecks, its checkpoint, and its experiment's folder."""
    folder = tmp_path_factory.mktemp('convert')
    experiment = folder / 'mspn.small'
    experiment.mkdir()
    (experiment / 'config.py').write_text(EXPERIMENT)
    cfg = load_config('mspn.small', folder)
    model = fill(build_mspn(cfg)).eval()
    content = {'model': model.state_dict(), 'iteration': 7, 'optimizer': {'state': {}}, 'config': to_plain(cfg)}
    content['ema'] = fill(build_mspn(cfg), seed=1).state_dict()
    return model, checkpoint.save(folder, 7, content), experiment


def run(*arguments: object) -> None:
    convert.main([str(argument) for argument in arguments])


def same(state: dict, other: dict) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in state.items())


def outputs(model: MSPN) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return model.eval()(torch.randn(2, 3, 64, 64))


# ------------------------------------------------------------------------------------------ own and published files


def test_own_to_published_and_back(network, tmp_path, capsys):
    """The published form has weights and iteration alone; the way back finds the experiment's configuration again."""
    model, path, experiment = network
    run('--weights', path, '--to', 'published', '--output', tmp_path / 'published.pth')
    count = len(model.state_dict())
    assert f'own network, {count} tensors matched\n' in capsys.readouterr().out
    published = checkpoint.load(tmp_path / 'published.pth')
    assert published.keys() == {'model', 'iteration'} and same(published['model'], model.state_dict())
    published['model'] = {f'module.{key}': value for key, value in published['model'].items()}
    torch.save(published, tmp_path / 'published.pth')
    run(
        '--weights',
        tmp_path / 'published.pth',
        '--to',
        'own',
        '--output',
        tmp_path / 'own.pth',
        '--experiment',
        experiment,
    )
    assert f'published network, {count} tensors matched\n' in capsys.readouterr().out
    cfg, loaded = load_experiment(tmp_path / 'own.pth')
    assert cfg == load_config('mspn.small', experiment.parent) and same(loaded.state_dict(), model.state_dict())
    assert checkpoint.load(tmp_path / 'own.pth')['iteration'] == 7


def test_the_average_can_be_taken(network, tmp_path, capsys):
    _, path, _ = network
    run('--weights', path, '--to', 'own', '--output', tmp_path / 'a.pth', '--ema')
    assert same(checkpoint.load(tmp_path / 'a.pth')['model'], checkpoint.load(path)['ema'])
    arguments = ['--weights', tmp_path / 'a.pth', '--to', 'own', '--output', tmp_path / 'b.pth', '--ema']
    assert 'has no EMA' in refused(capsys, convert.main, *arguments)


# ------------------------------------------------------------------------------------------------------- torchvision


@pytest.mark.parametrize('depth', [18, 50])
def test_torchvision_to_renamed_and_back(depth, tmp_path, capsys):
    """fc apart every tensor comes back; the renamed file is what MODEL.WEIGHT takes."""
    resnet = torchvision.models.get_model(f'resnet{depth}', width_per_group=64).state_dict()
    torch.save(resnet, tmp_path / 'a.pth')
    run('--weights', tmp_path / 'a.pth', '--to', 'own', '--output', tmp_path / 'renamed.pth')
    printed = capsys.readouterr().out
    assert f'torchvision ResNet, {len(resnet) - 2} tensors matched, left out: fc.weight, fc.bias' in printed
    assert f'{len(resnet) - 2} tensors, a renamed ResNet for MODEL.WEIGHT' in printed
    line = load_pretrained(MSPN(1, 3, channels=8, backbone=f'Res-{depth}'), tmp_path / 'renamed.pth')
    assert '(renamed file)' in line
    run('--weights', tmp_path / 'renamed.pth', '--to', 'torchvision', '--output', tmp_path / 'b.pth')
    assert same(checkpoint.load(tmp_path / 'b.pth'), {k: v for k, v in resnet.items() if not k.startswith('fc.')})


def test_a_network_to_torchvision(tmp_path, capsys):
    """The stem and first trunk compute the same in torchvision, from RGB; biases are taken over."""
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, ['MODEL.BACKBONE=Res-18', 'MODEL.UPSAMPLE_CHANNEL_NUM=8'])
    model = fill(build_mspn(cfg)).eval()
    state = model.state_dict()
    path = checkpoint.save(tmp_path, 1, {'model': state, 'config': to_plain(cfg)})
    run('--weights', path, '--to', 'torchvision', '--output', tmp_path / 'b.pth')
    resnet = torchvision.models.resnet18().eval()
    missing, unexpected = resnet.load_state_dict(checkpoint.load(tmp_path / 'b.pth'), strict=False)
    assert set(missing) == {'fc.weight', 'fc.bias'} and not unexpected
    trunk = sum(key.startswith(('top.', 'stage0.downsample.')) for key in state)
    printed = capsys.readouterr().out
    assert f'{len(state)} tensors matched' in printed
    assert f'torchvision, {trunk - 20} tensors, 20 biases' in printed
    assert f'{len(state) - trunk} outside the ResNet' in printed
    bgr = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(bgr.flip(1)))))
        for level, layer in zip(model.stage0.downsample(model.top(bgr)), ['layer1', 'layer2', 'layer3', 'layer4']):
            x = getattr(resnet, layer)(x)
            torch.testing.assert_close(level, x, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ mmpose

# By hand, and not by the code that is tested: stages, blocks of Res-50, and what is where on the way up.
BLOCKS = (3, 4, 6, 3)


def mmpose_like(model: MSPN, shortcut: tuple[str, str] = ('conv', 'bn'), head: str = 'head') -> dict:
    """A network's tensors under mmpose's names, as told: {our unit: their pair of names} applied to every tensor."""
    pairs = {'top.conv': ('backbone.top.top.0.conv', 'backbone.top.top.0.bn')}
    for s in range(2):
        theirs = f'backbone.multi_stage_mspn.{s}'
        for layer, count in enumerate(BLOCKS, start=1):
            for block in range(count):
                ours, prefix = (f'{start}.downsample.layer{layer}.{block}' for start in (f'stage{s}', theirs))
                for i in (1, 2, 3):
                    pairs[f'{ours}.conv_bn_relu{i}'] = (f'{prefix}.conv{i}', f'{prefix}.bn{i}')
                pairs[f'{ours}.downsample'] = tuple(f'{prefix}.downsample.{name}' for name in shortcut)
        for up in (1, 2, 3, 4):
            ours, prefix = f'stage{s}.upsample.up{up}', f'{theirs}.upsample.up{up}'
            names = {'u_skip': 'in_skip', 'skip1': 'out_skip1', 'skip2': 'out_skip2'}
            for unit in ('u_skip', 'up_conv', 'skip1', 'skip2', 'cross_conv'):
                name = f'{prefix}.{names.get(unit, unit)}'
                pairs[f'{ours}.{unit}'] = (f'{name}.conv', f'{name}.bn')
            for i in (0, 1):
                name = f'{head}.predict_layers.{4 * s + up - 1}.conv_layers.{i}'
                pairs[f'{ours}.res_conv{i + 1}'] = (f'{name}.conv', f'{name}.bn')
    state = {}
    for key, value in model.state_dict().items():
        unit, kind, parameter = re.fullmatch(r'(.*)\.(conv|bn)\.(\w+)', key).groups()
        if (kind, parameter) != ('conv', 'bias'):
            state[f'{pairs[unit][kind == "bn"]}.{parameter}'] = value
    stem = 'backbone.top.top.0.conv.weight'
    return state | {stem: state[stem].flip(1)}


@pytest.fixture
def unbiased(network) -> MSPN:
    """A network whose convolutions have biases of zero, as mmpose's have none."""
    model = fill(build_mspn(load_config('mspn.small', network[2].parent)), seed=2).eval()
    for key, value in model.state_dict().items():
        if key.endswith('conv.bias'):
            value.zero_()
    return model


@pytest.mark.parametrize(('shortcut', 'head'), [(('conv', 'bn'), 'head'), (('0', '1'), 'keypoint_head')])
def test_mmpose_to_own_and_back(shortcut, head, network, unbiased, tmp_path, capsys):
    experiment = network[2]
    theirs = mmpose_like(unbiased, shortcut, head)
    torch.save({'state_dict': theirs, 'meta': {'epoch': 3}}, tmp_path / 'mm.pth')
    run('--weights', tmp_path / 'mm.pth', '--to', 'own', '--output', tmp_path / 'own.pth', '--experiment', experiment)
    assert 'mmpose network' in capsys.readouterr().out
    assert same(load_experiment(tmp_path / 'own.pth')[1].state_dict(), unbiased.state_dict())
    run(
        '--weights',
        tmp_path / 'own.pth',
        '--to',
        'mmpose',
        '--output',
        tmp_path / 'b.pth',
        '--like',
        tmp_path / 'mm.pth',
    )
    back = checkpoint.load(tmp_path / 'b.pth')
    assert back.keys() == {'state_dict', 'meta'} and same(back['state_dict'], theirs)


def test_a_file_of_mmengines(network, unbiased, tmp_path):
    """As mmpose 1.x saves: numpy's arrays in `meta`, the normalisation, a second set of weights for the average."""
    experiment = network[2]
    theirs = mmpose_like(unbiased)
    ema = {f'module.{key}': value + 1 for key, value in theirs.items()}
    content = {
        'meta': {'epoch': 3, 'dataset_meta': {'sigmas': np.full(17, 0.05, np.float32)}, 'seed': np.int64(7)},
        'state_dict': theirs | {'data_preprocessor.mean': torch.ones(3, 1, 1)},
        'ema_state_dict': ema | {'steps': torch.tensor(9)},
    }
    torch.save(content, tmp_path / 'mm.pth')
    for options, added in (([], 0), (['--ema'], 1)):
        command = ['--weights', tmp_path / 'mm.pth', '--to', 'own', '--output', tmp_path / 'own.pth', *options]
        run(*command, '--experiment', experiment)
        converted = load_experiment(tmp_path / 'own.pth')[1].state_dict()
        read = load_experiment(tmp_path / 'mm.pth', ema=bool(options), experiment=experiment)[1].state_dict()
        for key, value in unbiased.state_dict().items():
            expected = value if key.endswith('conv.bias') else value + added
            torch.testing.assert_close(converted[key], expected)
            torch.testing.assert_close(read[key], expected)


def test_mmpose_takes_biases_over(network, tmp_path, capsys):
    """A network with biases computes the same after the way there and back, in other numbers."""
    model, path, experiment = network
    torch.save({'state_dict': mmpose_like(model)}, tmp_path / 'mm.pth')
    run('--weights', path, '--to', 'mmpose', '--output', tmp_path / 'b.pth', '--like', tmp_path / 'mm.pth')
    biases = sum(key.endswith('conv.bias') for key in model.state_dict())
    assert f'{biases} biases' in capsys.readouterr().out
    run('--weights', tmp_path / 'b.pth', '--to', 'own', '--output', tmp_path / 'c.pth', '--experiment', experiment)
    torch.testing.assert_close(outputs(load_experiment(tmp_path / 'c.pth')[1]), outputs(model), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- refusals


def lacking(state: dict, key: str) -> dict:
    return {name: value for name, value in state.items() if name != key}


UNFIT = {
    'published, missing': (
        lambda model: {'model': lacking(model.state_dict(), 'stage1.upsample.up2.up_conv.bn.bias')},
        'own',
        '1 tensors are missing (first: stage1.upsample.up2.up_conv.bn.bias)',
    ),
    'published, left over': (
        lambda model: {'model': model.state_dict() | {'stage2.x.weight': torch.ones(1)}},
        'own',
        'it has 1 more tensors (first: stage2.x.weight)',
    ),
    'mmpose, missing': (
        lambda model: {'state_dict': lacking(mmpose_like(model), 'head.predict_layers.5.conv_layers.1.bn.weight')},
        'published',
        '1 tensors are missing (first: stage1.upsample.up2.res_conv2.bn.weight)',
    ),
    'mmpose, left over': (
        lambda model: {'state_dict': mmpose_like(model) | {'head.prm.weight': torch.ones(1)}},
        'published',
        "1 tensors are not known as of mmpose's MSPN (first: head.prm.weight)",
    ),
    'mmpose, twice': (
        lambda model: {
            'state_dict': mmpose_like(model) | {'keypoint_head.predict_layers.0.conv_layers.0.bn.bias': torch.ones(1)}
        },
        'published',
        'some tensors are there twice',
    ),
    'mmpose, another shape': (
        lambda model: {'state_dict': mmpose_like(model) | {'backbone.top.top.0.bn.bias': torch.ones(9)}},
        'published',
        'have another shape (first: top.conv.bn.bias: (9,)',
    ),
    'torchvision, missing': (
        lambda _: lacking(torchvision.models.resnet18().state_dict(), 'layer3.1.bn2.weight'),
        'own',
        '1 tensors are missing (first: layer3.1.conv_bn_relu2.bn.weight)',
    ),
    'torchvision, left over': (
        lambda _: torchvision.models.resnet18().state_dict() | {'layer1.0.se.weight': torch.ones(1)},
        'own',
        "1 tensors are no ResNet's (first: layer1.0.se.weight)",
    ),
    'renamed, left over': (
        lambda _: from_torchvision(torchvision.models.resnet18().state_dict()) | {'layer2.0.se.bias': torch.ones(1)},
        'torchvision',
        "1 tensors are no ResNet's (first: layer2.0.se.bias)",
    ),
    'no known ResNet': (
        lambda _: {
            key: value for key, value in torchvision.models.resnet18().state_dict().items() if 'layer4.1' not in key
        },
        'own',
        'layers of (2, 2, 2, 1) blocks',
    ),
    'a ResNet to mmpose': (lambda _: torchvision.models.resnet18().state_dict(), 'mmpose', 'takes a whole network'),
    'a network to mmpose by no names': (lambda model: model.state_dict(), 'mmpose', 'needs --like FILE'),
    'nothing of MSPN': (lambda _: {'a': torch.ones(1)}, 'own', 'unfit.pth has no tensors of MSPN or of a ResNet'),
}


@pytest.mark.parametrize(('make', 'to', 'message'), UNFIT.values(), ids=UNFIT)
def test_unfit_files_are_refused(make, to, message, network, tmp_path, capsys):
    model, _, experiment = network
    path, output = tmp_path / 'unfit.pth', tmp_path / 'b.pth'
    torch.save(make(model), path)
    arguments = ['--weights', path, '--to', to, '--output', output, '--experiment', experiment]
    assert message in refused(capsys, convert.main, *arguments) and not output.exists()


def test_names_of_another_network_are_refused(network, tmp_path, capsys):
    """--like has to be of just this network."""
    model, path, _ = network
    theirs = mmpose_like(model)
    for name, change, message in (
        ('hole', lacking(theirs, 'backbone.top.top.0.bn.bias'), 'are missing (first: top.conv.bn.bias)'),
        ('more', theirs | {'head.predict_layers.9.conv_layers.0.bn.bias': torch.ones(1)}, 'has 1 more tensors'),
    ):
        torch.save({'state_dict': change}, tmp_path / name)
        arguments = ['--weights', path, '--to', 'mmpose', '--output', tmp_path / 'b', '--like', tmp_path / name]
        assert message in refused(capsys, convert.main, *arguments)


def test_a_published_file_needs_its_experiment(network, tmp_path, capsys):
    torch.save(network[0].state_dict(), tmp_path / 'a.pth')
    arguments = ['--weights', tmp_path / 'a.pth', '--to', 'own', '--output', tmp_path / 'b.pth']
    assert 'name it with --experiment' in refused(capsys, convert.main, *arguments)
    assert 'does not fit this model' in refused(
        capsys, convert.main, *arguments, '--experiment', REPOSITORY / 'exps/mspn.2xstg.coco'
    )
