"""The network, its loss and its gradients against the published implementation's, in float64."""

import hashlib

import numpy as np
import pytest
import torch

from cvpack.files import read_json
from lib.models.conv_bn import fold_batch_norm
from lib.models.cost import count_cost
from lib.models.loss import build_loss
from lib.models.mspn import MSPN, build_mspn
from tests.support.networks import fill, golden_batch
from tests.support.settings import PUBLISHED, load_config

PARAMETERS = {1: 25_141_708, 2: 56_867_032, 3: 88_592_356, 4: 120_317_680}


def small(**changes) -> MSPN:
    torch.manual_seed(0)
    return MSPN(**{**dict(num_stages=2, num_keypoints=5, channels=32, backbone='Res-18'), **changes}).double()


@pytest.mark.parametrize('experiment', PUBLISHED)
def test_state_dict_is_the_published_one(golden, experiment):
    with torch.device('meta'):
        state = build_mspn(load_config(experiment)).state_dict()
    expected = read_json(golden / 'networks.json')[experiment]
    assert len(state) == expected['tensors']
    # The order too: an optimiser's state refers to parameters by number.
    lines = '\n'.join(f'{key} {list(value.shape)}' for key, value in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest() == expected['keys_sha256']


@pytest.mark.parametrize('stages', PARAMETERS)
def test_parameters_and_macs(stages):
    cfg = load_config(f'mspn.{stages}xstg.coco')
    parameters, macs, test_macs = count_cost(cfg)
    assert parameters == PARAMETERS[stages]
    assert test_macs < macs
    if stages == 2:
        assert round(macs / 1e9, 2) == 11.26


# The largest takes 25 s: float64, and the batch and sizes are those of the golden file.
SLOW = pytest.param('mspn.4xstg.coco.384x288', marks=pytest.mark.slow)


@pytest.mark.parametrize('experiment', [e if e != SLOW.values[0] else SLOW for e in PUBLISHED])
def test_one_step_equals_the_published_one(golden, experiment):
    """Outputs in both modes, loss, every gradient and every running statistic of one batch."""
    cfg = load_config(experiment)
    expected = np.load(golden / f'{experiment}.npz')
    facts = read_json(golden / 'networks.json')[experiment]
    assert (facts['keypoints'], facts['input_shape']) == (cfg.DATASET.KEYPOINT.NUM, cfg.INPUT_SHAPE)
    model = fill(build_mspn(cfg).double())
    images, visibility, labels = golden_batch(facts['batch'], facts['keypoints'], *facts['input_shape'])

    with torch.no_grad():
        heatmaps = model.eval()(images)
    np.testing.assert_allclose(heatmaps[..., ::8, ::8], expected['eval_heatmaps'], atol=1e-6)

    outputs = model.train()(images)
    maps = torch.stack([torch.stack(levels) for levels in outputs]).detach()
    np.testing.assert_allclose(maps[..., ::16, ::16], expected['train_outputs'], atol=1e-6)

    loss = build_loss(cfg)(outputs, visibility, labels)['total_loss']
    assert loss.item() == pytest.approx(facts['loss'], abs=1e-9)

    loss.backward()
    gradients = {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if not name.endswith('.conv.bias')
    }
    assert gradients == pytest.approx(dict(zip(expected['grad_names'], expected['grad_norm'])), rel=1e-6)
    statistics = {
        name: buffer.norm().item() for name, buffer in model.named_buffers() if not name.endswith('num_batches_tracked')
    }
    assert statistics == pytest.approx(dict(zip(expected['stat_names'], expected['stat_norm'])), rel=1e-9)


@pytest.mark.parametrize('backbone', ['Res-18', 'Res-34', 'Res-50', 'Res-101', 'Res-152'])
def test_backbones(backbone):
    model = small(backbone=backbone).float()
    outputs = model(torch.randn(2, 3, 64, 96))
    assert [len(levels) for levels in outputs] == [4, 4]
    assert {tuple(level.shape) for levels in outputs for level in levels} == {(2, 5, 16, 24)}
    assert model.eval()(torch.randn(1, 3, 64, 96)).shape == (1, 5, 16, 24)


def test_every_parameter_gets_a_gradient():
    """A unit whose output goes nowhere would idle DDP and waste memory."""
    model = small(num_stages=3)
    sum(level.square().mean() for levels in model(torch.randn(2, 3, 64, 64).double()) for level in levels).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize('draws', [False, True])
def test_efficient_is_the_same_step(draws):
    """RUN_EFFICIENT: same outputs, same gradients, statistics updated once; of a network with dropout too."""
    images = torch.randn(4, 3, 64, 64).double()
    models = [small(efficient=efficient) for efficient in (False, True)]
    for model in models:
        if draws:
            unit = model.stage0.upsample.up2
            unit.res_conv1 = torch.nn.Sequential(unit.res_conv1, torch.nn.Dropout2d(0.2))
        torch.manual_seed(0)
        sum(level.square().mean() for levels in model(images) for level in levels).backward()
    plain, efficient = models
    for (name, a), b in zip(plain.named_parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, a), b in zip(plain.named_buffers(), efficient.buffers()):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_efficient_keeps_less():
    """What autograd saves between the passes, in bytes."""

    def saved_bytes(model: MSPN) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(torch.randn(2, 3, 64, 64).double())
        return total

    assert saved_bytes(small(efficient=True)) < 0.7 * saved_bytes(small())


def test_half_precision_ends_in_float32():
    model = small().float()
    with torch.autocast('cpu', torch.bfloat16):
        outputs = model(torch.randn(2, 3, 64, 64))
    assert {level.dtype for levels in outputs for level in levels} == {torch.float32}


def test_folded_batch_norm_is_the_same_function():
    model = fill(MSPN(num_stages=2, num_keypoints=3, channels=8, backbone='Res-18', width=8)).double().eval()
    images = golden_batch(2, 3, 64, 64)[0]
    with torch.no_grad():
        expected = model(images)
        folded = fold_batch_norm(model)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)


def test_initialisation_of_trunk_and_rest():
    """Kaiming normal, fan-out, in the trunks; PyTorch's default elsewhere."""
    model = small(backbone='Res-50', num_stages=1).float()
    conv = model.stage0.downsample.layer4[0].conv_bn_relu2.conv
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)
    default = model.stage0.upsample.up1.u_skip.conv.weight
    assert default.abs().max().item() <= 1 / 2048**0.5 + 1e-6
