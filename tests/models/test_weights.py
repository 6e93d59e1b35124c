"""Weight files: torchvision's, the published renamed ones, whole checkpoints; what is refused."""

import functools

import pytest
import torch
import torchvision

from cvpack.errors import InputError
from lib.models.mspn import MSPN, build_mspn
from lib.models.weights import from_torchvision, load_pretrained, load_state, read, select_weights
from tests.support.settings import load_config


def small(**changes) -> MSPN:
    return MSPN(**{**dict(num_stages=2, num_keypoints=5, channels=16, backbone='Res-18'), **changes})


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory):
    """A ResNet-18 of torchvision's and its file."""
    torch.manual_seed(3)
    network = torchvision.models.resnet18().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    torch.save(network.state_dict(), path)
    return network, path


def torchvision_levels(network, rgb: torch.Tensor) -> list[torch.Tensor]:
    x = network.maxpool(network.relu(network.bn1(network.conv1(rgb))))
    levels = []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
        levels.append(x)
    return levels


@pytest.mark.parametrize('stages', ['all', 'first'])
def test_torchvision_weights_compute_the_same_features(resnet18, stages):
    """Stem and trunk on a BGR image give torchvision's features of the RGB image, in every stage asked for."""
    network, path = resnet18
    model = small().eval()
    before = model.stage1.downsample.layer1[0].conv_bn_relu1.conv.weight.clone()
    report = load_pretrained(model, path, stages)
    bgr = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = torchvision_levels(network, bgr.flip(1))
        for level, theirs in zip(model.stage0.downsample(model.top(bgr)), expected):
            torch.testing.assert_close(level, theirs, rtol=1e-4, atol=1e-4)
        if stages == 'all':
            for level, theirs in zip(model.stage1.downsample(model.top(bgr)), expected):
                torch.testing.assert_close(level, theirs, rtol=1e-4, atol=1e-4)
    after = model.stage1.downsample.layer1[0].conv_bn_relu1.conv.weight
    assert torch.equal(before, after) == (stages == 'first')
    # 20 convolutions a trunk's ResNet-18 and the stem's: a weight, a bias that is absent, four of BatchNorm.
    assert {'all': '195 of 234', 'first': '100 of 120'}[stages] + ' tensors' in report
    assert '(torchvision file)' in report


def test_renamed_weights_are_the_same(resnet18, tmp_path):
    network, path = resnet18
    renamed = tmp_path / 'resnet-18_rename.pth'
    torch.save(from_torchvision(network.state_dict()), renamed)
    models = [small().eval(), small().eval()]
    load_pretrained(models[0], path)
    assert 'renamed file' in load_pretrained(models[1], renamed)
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values()):
        if name.startswith('top.') or '.downsample.' in name:
            assert torch.equal(a, b), name


def test_real_imagenet_weights(shared):
    model = build_mspn(load_config('mspn.2xstg.coco'))
    report = load_pretrained(model, shared / 'weights/resnet50-imagenet.pth')
    assert '525 of 630 tensors' in report and 'the other 105 are biases' in report
    # A trained stem's filters are not Kaiming's noise: their biases are absent, their statistics are not 0 and 1.
    assert model.top.conv.conv.bias.abs().max() == 0
    assert model.top.conv.bn.running_mean.abs().max() > 0
    assert torch.equal(
        model.stage0.downsample.layer3[5].conv_bn_relu2.conv.weight,
        model.stage1.downsample.layer3[5].conv_bn_relu2.conv.weight,
    )


def narrow(stages: int, **changes) -> MSPN:
    return small(width=8, num_stages=stages, channels=8, **changes)


@functools.cache
def trained(stages: int) -> dict:
    torch.manual_seed(stages)
    state = narrow(stages).state_dict()
    return {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}


def backbone(stages: int, *parts: str, biases: bool = True, counts: bool = True) -> dict:
    """The stem ('top') and trunks ('stage0', ...; '' for one without a stage's name) of a network, as a file."""
    state = {}
    for key, value in trained(stages).items():
        kept = (biases or not key.endswith('conv.bias')) and (counts or 'num_batches' not in key)
        if kept and (key.startswith('top.') or '.downsample.layer' in key):
            state[key] = value
    bare = {key.removeprefix('stage0.downsample.'): value for key, value in state.items() if key.startswith('stage0.d')}
    state = {key: value for key, value in state.items() if key.startswith(tuple(f'{part}.' for part in parts if part))}
    return state | bare if '' in parts else state


def wrapped(state: dict, name: str, prefix: str = '') -> dict:
    return {name: {f'{prefix}{key}': value for key, value in state.items()}, 'epoch': 3}


# content of the file, MODEL.WEIGHT_STAGES, and which of the file's parts each of the network's gets.
FORMS = {
    'bare': (backbone(1, 'top', ''), 'all', {'top': 'top', 'stage0': '', 'stage1': ''}),
    'bare, first': (backbone(1, 'top', ''), 'first', {'top': 'top', 'stage0': ''}),
    'bare, stem': (backbone(1, 'top', ''), 'stem', {'top': 'top'}),
    'bare without a stem': (backbone(1, ''), 'all', {'stage0': '', 'stage1': ''}),
    'the first stage alone': (backbone(1, 'stage0'), 'all', {'stage0': 'stage0'}),
    'stem and first stage': (backbone(1, 'top', 'stage0'), 'all', {'top': 'top', 'stage0': 'stage0'}),
    'the second stage alone': (backbone(2, 'stage1'), 'all', {'stage1': 'stage1'}),
    'both stages': (backbone(2, 'top', 'stage0', 'stage1'), 'all', {n: n for n in ('top', 'stage0', 'stage1')}),
    'four stages': (
        backbone(4, 'top', 'stage0', 'stage1', 'stage2', 'stage3'),
        'all',
        {n: n for n in ('top', 'stage0', 'stage1')},
    ),
    'four stages, first': (backbone(4, 'top', 'stage0', 'stage1'), 'first', {'top': 'top', 'stage0': 'stage0'}),
    'the stem': (backbone(1, 'top'), 'all', {'top': 'top'}),
    'first stage and bare': (backbone(2, 'stage1', ''), 'all', {'stage0': '', 'stage1': 'stage1'}),
    'no biases': (backbone(1, 'top', '', biases=False), 'all', {'top': 'top', 'stage0': '', 'stage1': ''}),
    'no counts': (backbone(1, 'top', '', counts=False), 'all', {'top': 'top', 'stage0': '', 'stage1': ''}),
    'model': (wrapped(backbone(1, 'top', ''), 'model'), 'all', {'top': 'top', 'stage0': '', 'stage1': ''}),
    'state_dict': (wrapped(backbone(1, 'stage0'), 'state_dict', 'module.'), 'all', {'stage0': 'stage0'}),
    'half precision': (
        {key: value.half() for key, value in backbone(1, 'top', '').items()},
        'all',
        {'top': 'top', 'stage0': '', 'stage1': ''},
    ),
    'a whole network, first': (trained(2), 'first', {'top': 'top', 'stage0': 'stage0'}),
}


@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_a_resnet(form, tmp_path):
    """Each part gets exactly what the file has for it; the others stay as they were, and are named."""
    content, stages, expected = FORMS[form]
    path, model = tmp_path / 'a.pth', narrow(2)
    torch.save(content, path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first, *lines = load_pretrained(model, path, stages).splitlines()
    file = {k.removeprefix('module.'): v for k, v in content.get('model', content.get('state_dict', content)).items()}
    for key, value in model.state_dict().items():
        part, below = key.split('.', 1)
        is_backbone = part == 'top' or below.startswith('downsample.')
        if is_backbone and part in expected and 'num_batches' not in key:
            name = f'{expected[part]}.{below}' if expected[part] else below.removeprefix('downsample.')
            right = file.get(name, torch.zeros_like(value))
            assert torch.equal(value, right.float()) and (name in file or name.endswith('conv.bias')), key
        else:
            assert torch.equal(value, before[key]), key
    names = ['stem' if part == 'top' else part for part in ('top', 'stage0', 'stage1')]
    filled = ['stem' if part == 'top' else part for part in expected]
    assert f'tensors of {", ".join(filled)} matched (renamed file)' in first
    left = [name for name in names if name not in filled]
    said = f'{", ".join(left)}: nothing from this file (MODEL.WEIGHT_STAGES {stages}), initialised at random'
    assert (said in lines) == bool(left)


def test_a_torchvision_file_without_a_stem_and_the_stem_alone(resnet18, tmp_path):
    network, _ = resnet18
    state = network.state_dict()
    torch.save({key: value for key, value in state.items() if key.startswith('layer')}, tmp_path / 'layers.pth')
    torch.save({key: value for key, value in state.items() if not key.startswith('layer')}, tmp_path / 'stem.pth')
    model = small()
    assert 'stem: nothing from this file' in load_pretrained(model, tmp_path / 'layers.pth')
    report = load_pretrained(model, tmp_path / 'stem.pth', 'first')
    assert 'stage0, stage1: nothing from this file' in report and '2 of its tensors are not used (first: fc.b' in report
    torch.testing.assert_close(model.top.conv.conv.weight, state['conv1.weight'].flip(1))
    torch.testing.assert_close(model.stage1.downsample.layer4[1].conv_bn_relu2.bn.weight, state['layer4.1.bn2.weight'])


def without(state: dict, *keys: str) -> dict:
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    ('state', 'stages', 'message'),
    [
        (without(backbone(1, 'stage0'), 'stage0.downsample.layer4.1.conv_bn_relu2.bn.bias'), 'all', '1 tensors are'),
        (without(backbone(1, 'top', ''), 'layer1.0.conv_bn_relu1.conv.bias'), 'first', '1 tensors are missing'),
        (without(backbone(1, 'top', 'stage0'), 'top.conv.bn.running_var'), 'stem', 'missing (first: top.conv.bn.run'),
        (backbone(1, ''), 'stem', '6 tensors are missing (first: top.conv.conv.weight)'),
        (backbone(2, 'stage1'), 'first', 'tensors are missing'),
        (
            backbone(1, '') | {'layer1.2.conv_bn_relu1.conv.weight': torch.ones(1)},
            'all',
            'deeper trunk (first: layer1.2',
        ),
        (backbone(1, 'top') | {'layer1.0.se.fc1.weight': torch.ones(1)}, 'all', 'deeper trunk (first: layer1.0.se'),
        (
            backbone(2, 'stage1') | {'stage1.downsample.layer4.2.x': torch.ones(1)},
            'all',
            'deeper trunk (first: stage1.',
        ),
        ({'fc.weight': torch.ones(1)}, 'all', 'tensors are missing'),
        ({}, 'all', 'tensors are missing'),
        ({key: value.int() for key, value in backbone(1, 'top').items()}, 'stem', '6 tensors are missing'),
    ],
)
def test_a_part_that_is_filled_in_part_is_refused(state, stages, message, tmp_path):
    torch.save(state, tmp_path / 'a.pth')
    model = narrow(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r'a\.pth does not fit this model') as refusal:
        load_pretrained(model, tmp_path / 'a.pth', stages)
    assert message in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_networks_of_one_s_own(tmp_path):
    """They begin from checkpoints of theirs; a ResNet has no place in them."""
    trained, model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save({'model': trained.state_dict()}, tmp_path / 'iter-8.pth')
    assert '2 of 2 tensors matched' in load_pretrained(model, tmp_path / 'iter-8.pth')
    assert torch.equal(model.weight, trained.weight)
    torch.save(backbone(1, 'top', ''), tmp_path / 'resnet.pth')
    with pytest.raises(InputError, match=r"no tensors of MSPN's stem and trunks: set MODEL\.WEIGHT to ''"):
        load_pretrained(model, tmp_path / 'resnet.pth')


def test_files_that_do_not_fit_are_refused(resnet18, tmp_path):
    network, path = resnet18
    with pytest.raises(InputError, match=r'resnet18.*does not fit this model.*are missing \(first: stage0'):
        load_pretrained(small(backbone='Res-50'), path)
    state = network.state_dict()
    del state['layer3.1.bn2.weight']
    torch.save(state, tmp_path / 'hole.pth')
    with pytest.raises(InputError, match='2 tensors are missing'):
        load_pretrained(small(), tmp_path / 'hole.pth')


def test_checkpoints_load_strictly(tmp_path):
    state = small().state_dict()
    torch.save({'model': {f'module.{key}': value for key, value in state.items()}, 'iteration': 9}, tmp_path / 'a.pth')
    model = small()
    path = tmp_path / 'a.pth'
    load_state(model, read(path), path)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match='no EMA'):
        select_weights(read(path), path, ema=True)
    with pytest.raises(InputError, match=r'have another shape \(first: stage0'):
        load_state(small(num_keypoints=6), read(path), path)
    with pytest.raises(InputError, match='are missing'):
        load_state(small(num_stages=3), read(path), path)
    with pytest.raises(InputError, match='more tensors'):
        load_state(small(num_stages=1), read(path), path)


def test_files_are_data(tmp_path):
    """Objects, damaged and foreign files are refused by name; nothing in them is run."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    torch.save({'model': Evil()}, tmp_path / 'evil.pth')
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(InputError, match=r'list\.pth holds a list, not a checkpoint'):
        read(tmp_path / 'list.pth')
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    torch.save(small().state_dict(), tmp_path / 'cut.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:5000])
    for name in ('evil.pth', 'text.pth', 'cut.pth'):
        with pytest.raises(InputError, match=rf'{name} is not a readable checkpoint'):
            read(tmp_path / name)
    assert not (tmp_path / 'ran').exists()


def test_fine_tuning_begins_heads_of_another_k_anew(tmp_path):
    """From a 17-joint network: all but the layers that predict joints, of which exactly those are named."""
    torch.manual_seed(0)
    trained, model = small(num_keypoints=17), small(num_keypoints=14)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save({'model': trained.state_dict(), 'iteration': 8}, tmp_path / 'iter-8.pth')
    first, *layers = load_pretrained(model, tmp_path / 'iter-8.pth').splitlines()
    heads = [f'stage{stage}.upsample.up{level}.res_conv2' for stage in (0, 1) for level in (1, 2, 3, 4)]
    assert layers == [f'{head} predicts other joints: re-initialised' for head in heads]
    state = trained.state_dict()
    anew = [key for key in state if any(key.startswith(f'{head}.') for head in heads)]
    assert f'{len(state) - len(anew)} of {len(state)} tensors matched' in first and len(anew) == 8 * 7
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key] if key in anew else state[key], rtol=0, atol=0)


def test_fine_tuning_from_the_same_joints_begins_nothing_anew(tmp_path):
    trained, model = small(), small()
    torch.save(trained.state_dict(), tmp_path / 'bare.pth')
    assert load_pretrained(model, tmp_path / 'bare.pth').endswith(f'{len(trained.state_dict())} tensors matched')
    assert all(map(torch.equal, model.state_dict().values(), trained.state_dict().values()))


def test_fine_tuning_refuses_another_network(tmp_path):
    torch.save(small(channels=8, num_keypoints=17).state_dict(), tmp_path / 'narrow.pth')
    with pytest.raises(InputError, match=r'does not fit this model: .* another shape \(first: stage0.upsample.up1'):
        load_pretrained(small(), tmp_path / 'narrow.pth')
