"""A network that trains with our own kernels (SOLVER.TRITON), here on the CPU by Triton's interpreter."""

import copy
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from cvpack.errors import InputError
from cvpack.logger import get_logger
from lib.config import override
from lib.models.conv_bn import drop_biases
from lib.models.kernels import use_kernels
from lib.models.mspn import build_mspn
from lib.models.resnet import ConvBNReLU
from lib.training import Trainer, build_schedule
from tests.support.networks import Level, OneLayer, steps
from tests.support.settings import load_config, tiny_settings

pytestmark = pytest.mark.usefixtures('without_tf32')
NEEDS_TRITON = pytest.mark.usefixtures('triton_runs')
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def networks(efficient: bool = False) -> tuple[Level, Level]:
    """One that uses kernels, and the same without."""
    torch.manual_seed(0)
    plain = Level(efficient).to(DEVICE).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(plain)
    use_kernels(ours)
    return ours, plain


def images() -> torch.Tensor:
    return torch.randn(3, 16, 16, 24, device=DEVICE).to(memory_format=torch.channels_last)


def differences(values: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """By name, relative; without the biases before BatchNorm, whose gradient is rounding alone."""
    assert list(values) == list(expected)
    sizes = {name: value.float().norm() + 0.01 for name, value in expected.items() if '.conv.bias' not in name}
    return {name: ((values[name] - expected[name]).float().norm() / size).item() for name, size in sizes.items()}


def count_calls(model: nn.Module) -> Counter:
    """Counts, from now on, how often the network's modules call kernels."""
    calls = Counter()

    def counted(name: str, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    for module in model.modules():
        for name in ('fused_norm', 'fused_resize'):
            if getattr(module, name, None) is not None:
                setattr(module, name, counted(name, getattr(module, name)))
    return calls


@NEEDS_TRITON
def test_who_uses_them():
    """All units, but none of a user's that computes something else."""

    class Scaled(ConvBNReLU):
        def forward(self, x: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
            return 2 * super().forward(x, add)

    networks = Level(), Scaled(3, 3, 1), ConvBNReLU(3, 3, 1), ConvBNReLU(3, 3, 1)
    networks[2].bn.momentum = None
    networks[3].bn.register_forward_hook(lambda module, inputs, output: 2 * output)
    use_kernels(nn.ModuleList(networks))
    for network in networks:
        units = [module for module in network.modules() if isinstance(module, ConvBNReLU)]
        assert {unit.fused_norm is not None for unit in units} == {network is networks[0]}
    assert networks[0].unit.fused_resize is not None


@NEEDS_TRITON
@pytest.mark.parametrize('efficient', [False, True])
def test_a_network_with_kernels_learns_the_same(efficient):
    """Losses, gradients, weights, running statistics and counters of three steps."""
    (ours, plain), x = networks(efficient), images()
    calls = count_calls(ours)
    assert max(differences(steps(ours, x), steps(plain, x)).values()) < 1e-4
    # Recomputed: all of the upsample unit's but the last, which feeds the next stage.
    assert calls == {'fused_norm': 3 * (10 + 6 * efficient), 'fused_resize': 3 * (1 + efficient)}


@NEEDS_TRITON
def test_testing_uses_none(monkeypatch):
    (ours, plain), x = networks(), images()
    for module in ours.modules():
        for name in ('fused_norm', 'fused_resize'):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, pytest.fail)
    for one, other in zip(ours.eval()(x)[0], plain.eval()(x)[0]):
        assert torch.equal(one, other)


@NEEDS_TRITON
def test_in_mixed_precision_kernels_are_no_less_exact():
    (ours, plain), x = networks(), images()
    exact = steps(copy.deepcopy(plain), x)
    errors = [differences(steps(model, x, 'bf16'), exact) for model in (ours, plain)]
    ours_mean, plain_mean = (sum(values.values()) / len(values) for values in errors)
    assert 0 < ours_mean < 1.1 * plain_mean


@NEEDS_TRITON
def test_dropped_biases_stay_in_the_running_mean():
    (ours, plain), x = networks(), images()
    dropped = {id(bias) for bias in drop_biases(ours)}
    ours(x)
    plain(x)
    for (name, value), expected in zip(ours.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5, msg=name)
    assert dropped == {id(value) for name, value in ours.named_parameters() if name.endswith('.conv.bias')}


@NEEDS_TRITON
def test_frozen_statistics_are_left_alone():
    (ours, plain), x = networks(), images()
    for model in (ours, plain):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    before = {name: value.clone() for name, value in ours.named_buffers()}
    torch.testing.assert_close(ours(x)[0], plain(x)[0], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in ours.named_buffers())


def settings(synthetic_coco, tmp_path, *options: str):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), *options])
    return cfg


@NEEDS_TRITON
def test_a_network_without_conv_units_is_refused(synthetic_coco, tmp_path):
    with pytest.raises(InputError, match=r'SOLVER\.TRITON: the network has no ConvBNReLU'):
        use_kernels(OneLayer(settings(synthetic_coco, tmp_path)))


@NEEDS_TRITON
def test_a_triton_that_does_not_work(monkeypatch):
    """It compiles when it is first called: better before the run than in its first step."""

    def resize(*_):
        raise RuntimeError('Failed to find C compiler.\nPlease specify via CC')

    monkeypatch.setattr('cvpack.kernels.resize.resize', resize)
    with pytest.raises(InputError, match=r'SOLVER\.TRITON: .*Failed to find C compiler\. Please specify via CC\)'):
        use_kernels(Level())


def test_without_triton(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(('triton', 'cvpack.kernels.'))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'triton', None)
    with pytest.raises(InputError, match=r'SOLVER\.TRITON needs the package triton'):
        use_kernels(Level())


@NEEDS_TRITON
def test_a_run_uses_them(synthetic_coco, tmp_path, monkeypatch):
    """If there is a GPU."""
    monkeypatch.setattr('lib.training.trainer._can_use', lambda cfg, option, *_: cfg.SOLVER[option])
    cfg = settings(synthetic_coco, tmp_path, 'SOLVER.TRITON=True', 'SOLVER.EMA=0.9')
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    assert trainer.model.top.conv.fused_norm is not None
    assert trainer.model.state_dict().keys() == trainer.ema.module.state_dict().keys()


def test_without_a_gpu_the_log_says_so(synthetic_coco, tmp_path, capsys):
    get_logger()
    cfg = settings(synthetic_coco, tmp_path, 'SOLVER.TRITON=True')
    trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
    assert 'SOLVER.TRITON: no kernels of our own, since there is no GPU' in capsys.readouterr().out
    assert trainer.model.top.conv.fused_norm is None


def test_synchronized_batch_norm_is_not_ours(synthetic_coco, tmp_path):
    with pytest.raises(InputError, match=r'SOLVER\.TRITON and MODEL\.SYNC_BN exclude each other'):
        settings(synthetic_coco, tmp_path, 'SOLVER.TRITON=True', 'MODEL.SYNC_BN=True')
