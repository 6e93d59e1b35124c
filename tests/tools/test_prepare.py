"""prepare weights, prepare toy and the command line: each makes its files whole, once, and over nothing."""

import hashlib
import types
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision

from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.tools.prepare import __main__ as prepare
from tests.support.prepare import fail, run


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory) -> tuple[Path, dict]:
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    torch.save(state, path)
    return path, state


@pytest.fixture
def published(monkeypatch, resnet18) -> str:
    """Stands for torchvision's address of ResNet-18: the file's real hash in its name."""
    digest = hashlib.sha256(resnet18[0].read_bytes()).hexdigest()
    url = f'https://download.example.org/resnet18-{digest[:8]}.pth'
    weights = types.SimpleNamespace(IMAGENET1K_V1=types.SimpleNamespace(url=url))
    monkeypatch.setattr(torchvision.models, 'get_model_weights', lambda name: weights)
    return url


def test_weights_from_a_file(tmp_path, resnet18, capsys):
    path, state = resnet18
    arguments = ('weights', '--backbone', 'Res-18', '--target', tmp_path, '--file', path)
    assert 'resnet-18_rename.pth: written' in run(capsys, *arguments)
    renamed = torch.load(tmp_path / 'resnet-18_rename.pth', weights_only=True)
    assert torch.equal(renamed['top.conv.conv.weight'], state['conv1.weight'].flip(1))
    assert torch.equal(renamed['layer1.0.conv_bn_relu1.conv.weight'], state['layer1.0.conv1.weight'])
    assert 'resnet-18_rename.pth: kept' in run(capsys, *arguments)
    (tmp_path / 'resnet-18_rename.pth').write_bytes(b'other')
    assert 'resnet-18_rename.pth exists and is not' in fail(capsys, *arguments)
    assert (tmp_path / 'resnet-18_rename.pth').read_bytes() == b'other'
    assert [entry.name for entry in tmp_path.iterdir()] == ['resnet-18_rename.pth']


def test_weights_of_another_network(tmp_path, resnet18, capsys):
    path, other = resnet18[0], tmp_path / 'other.pth'
    arguments = ('weights', '--target', tmp_path / 'models', '--file')
    assert f'{path} is not Res-50' in fail(capsys, *arguments, path)
    torch.save({'model': {'conv1.weight': torch.zeros(1)}, 'iteration': 3}, other)
    assert f'{other} is not Res-50' in fail(capsys, *arguments, other)
    torch.save(torch.zeros(3), other)
    assert f'{other} holds a Tensor, not a checkpoint' in fail(capsys, *arguments, other)
    torch.save(torch.nn.Linear(1, 1), other)  # an object, not data: it is never run
    assert f'{other} is not a readable checkpoint' in fail(capsys, *arguments, other)
    other.unlink()
    assert f'{other} does not exist' in fail(capsys, *arguments, other)
    assert not (tmp_path / 'models').exists()


def test_weights_are_fetched_once(tmp_path, monkeypatch, resnet18, published, capsys):
    fetched = []

    def download(url: str, destination: str, hash_prefix: str) -> None:
        fetched.append((url, hash_prefix))
        Path(destination).write_bytes(resnet18[0].read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    arguments = ('weights', '--backbone', 'Res-18', '--target', tmp_path / 'models')
    run(capsys, *arguments)
    assert fetched == [(published, published[-12:-4])]
    renamed, original = (
        tmp_path / 'models/resnet-18_rename.pth',
        tmp_path / 'models' / published.split('/')[-1],
    )
    assert f'{renamed}: kept' in run(capsys, *arguments)
    renamed.unlink()
    assert f'{original}: kept' in run(capsys, *arguments)
    assert renamed.is_file() and len(fetched) == 1
    renamed.unlink()
    original.write_bytes(b'half of it')
    assert f'{original} is damaged' in fail(capsys, *arguments)
    assert original.read_bytes() == b'half of it' and not renamed.exists()


def test_weights_without_network(tmp_path, monkeypatch, capsys):
    def download(*_, **__) -> None:
        raise urllib.error.URLError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    message = fail(capsys, 'weights', '--target', tmp_path)
    assert 'https://download.pytorch.org/models/resnet50-0676ba61.pth' in message
    assert f'{tmp_path}/resnet50-0676ba61.pth' in message and '--file' in message
    assert list(tmp_path.iterdir()) == []


def test_toy_is_drawn_once(tmp_path, monkeypatch, capsys):
    calls = []

    def write_dataset(root: Path, train_images: int, val_images: int, seed: int) -> dict:
        calls.append((train_images, val_images, seed))
        (root / 'picture').touch()
        return {'images': train_images + val_images}

    monkeypatch.setattr(prepare, 'write_dataset', write_dataset)
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    target = tmp_path / 'dataset/TOY'
    assert f'{target}: ' in run(capsys, 'toy')
    assert f'{target}: kept' in run(capsys, 'toy')
    assert calls == [(2000, 250, 0)] and (target / 'picture').is_file()
    message = fail(capsys, 'toy', '--seed', 1)
    assert f'{target} holds' in message and "'seed': 1" in message
    (target / 'drawn.json').unlink()
    assert f'{target} holds something else' in fail(capsys, 'toy')
    assert len(calls) == 1 and (target / 'picture').is_file()


def test_toy_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def write_dataset(root: Path, *_) -> dict:
        (root / 'picture').touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, 'write_dataset', write_dataset)
    with pytest.raises(KeyboardInterrupt):
        prepare.main(['toy', '--target', str(tmp_path / 'TOY')])
    assert list(tmp_path.iterdir()) == []


def test_toy_is_a_data_set(tmp_path, capsys):
    run(capsys, 'toy', '--train', 2, '--val', 1, '--target', tmp_path / 'TOY')
    records = CocoReader(COCO.at(tmp_path / 'TOY')).train_records(1)
    assert len(records) >= 2
    assert all((tmp_path / 'TOY/images' / path.decode()).is_file() for path in records.paths)
    assert len(CocoReader(COCO.at(tmp_path / 'TOY')).test_set('val', False).records) >= 1


@pytest.mark.parametrize(
    'arguments', [[], ['other'], ['coco'], ['toy', '--train', '0'], ['weights', '--backbone', 'VGG']]
)
def test_unusable_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        prepare.main(arguments)
    assert stop.value.code == 2 and 'usage: python -m lib.tools.prepare' in capsys.readouterr().err
