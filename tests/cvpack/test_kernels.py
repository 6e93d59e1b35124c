"""Triton kernels against PyTorch in float64; without a GPU by Triton's interpreter (tests/conftest.py)."""

import copy
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.torch_version import TorchVersion

from lib.config import REPOSITORY

triton = pytest.importorskip('triton', reason='no Triton')
batch_norm = pytest.importorskip('cvpack.kernels.batch_norm')
resize = pytest.importorskip('cvpack.kernels.resize')
pytestmark = pytest.mark.usefixtures('triton_runs')
KERNELS = REPOSITORY / 'cvpack/kernels'
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
# Of one rounding to the dtype.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 4e-3}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that small maps already have several parts, and parts several tiles."""
    monkeypatch.setattr(batch_norm, 'MAPS', batch_norm.Tile(16, 32, programs=6, stages=2))
    monkeypatch.setattr(batch_norm, 'SUMS', batch_norm.Tile(2, 8))
    monkeypatch.setattr(resize, 'CHANNELS', 16)


def random_maps(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype, memory_format=torch.channels_last)


def random_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, device=DEVICE)
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values, mean=1)
    return norm


def assert_near(value: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """By the norm of the difference: single numbers may have been rounded from anywhere."""
    assert value.isfinite().all()
    assert (value.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize('shift', [False, True], ids=['', 'shift'])
@pytest.mark.parametrize('add', [False, True], ids=['', 'add'])
@pytest.mark.parametrize('relu', [False, True], ids=['', 'relu'])
@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('shape', [(2, 17, 7, 5), (3, 80, 8, 6)], ids=str)
def test_batch_norm_relu(shape, dtype, relu, add, shift):
    torch.manual_seed(0)
    norm, bias = random_norm(shape[1]), torch.randn(shape[1], device=DEVICE) if shift else None
    other = copy.deepcopy(norm).double()
    inputs = [random_maps(*shape, dtype=dtype) * 3 + 5, *([random_maps(*shape, dtype=dtype)] if add else [])]
    exact = [maps.double().requires_grad_() for maps in inputs]
    inputs = [maps.requires_grad_() for maps in inputs]
    y = batch_norm.batch_norm_relu(inputs[0], norm, inputs[1] if add else None, relu, bias)
    z = other(exact[0]) + (exact[1] if add else 0)
    gradient = random_maps(*shape, dtype=dtype) * (z.abs() > 1e-3)  # so near 0 rounding decides
    (F.relu(z) if relu else z).backward(gradient.double())
    y.backward(gradient.to(dtype))
    tolerance = TOLERANCES[dtype]
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    assert_near(y, F.relu(z) if relu else z, tolerance)
    for maps, reference in zip(inputs, exact):
        assert_near(maps.grad, reference.grad, tolerance)
    for parameter, reference in zip(norm.parameters(), other.parameters()):
        assert_near(parameter.grad, reference.grad, 1e-6)
    assert_near(norm.running_mean, other.running_mean + (0.1 * bias if shift else 0), 1e-6)
    assert_near(norm.running_var, other.running_var, 1e-6)
    assert norm.num_batches_tracked == 1


def test_a_variance_far_smaller_than_the_mean():
    torch.manual_seed(0)
    norm, x = nn.BatchNorm2d(3, device=DEVICE), random_maps(4, 3, 8, 8) + 3000
    expected = F.batch_norm(x.double(), None, None, training=True)
    assert_near(batch_norm.batch_norm_relu(x, norm, relu=False), expected, 1e-3)
    assert_near(norm.running_var, 0.9 + 0.1 * x.double().var(dim=(0, 2, 3)), 1e-5)


@pytest.mark.filterwarnings('ignore:invalid value')  # by the interpreter
def test_numbers_that_are_not_finite_are_not_hidden():
    """ReLU is no excuse: the training loop stops at them."""
    x = random_maps(2, 3, 4, 4)
    x[1, 2, 3, 3] = torch.inf
    y = batch_norm.batch_norm_relu(x, nn.BatchNorm2d(3, device=DEVICE))
    assert y[:, 2].isnan().all() and y[:, :2].isfinite().all()


def test_maps_in_any_memory_format():
    torch.manual_seed(0)
    x, add = (torch.randn(2, 5, 6, 4, device=DEVICE).requires_grad_() for _ in range(2))
    norm = nn.BatchNorm2d(5, device=DEVICE)
    y, z = batch_norm.batch_norm_relu(x, norm, add), F.relu(copy.deepcopy(norm)(x) + add)
    torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
    gradients = (torch.autograd.grad(maps.square().mean(), (x, add)) for maps in (y, z))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('shape', [(2, 5, 6, 4), (2, 5, 1, 1), (1, 5, 6, 4)], ids=str)
@pytest.mark.parametrize('dtypes', [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str)
def test_an_addition_of_another_kind(dtypes, shape):
    """As PyTorch adds: broadcast and promoted. A gradient is as exact as its input's dtype allows."""
    torch.manual_seed(0)
    inputs = [random_maps(*of, dtype=dtype) for of, dtype in zip([(2, 5, 6, 4), shape], dtypes)]
    exact, inputs = ([maps.requires_grad_() for maps in each] for each in ([maps.double() for maps in inputs], inputs))
    norm = nn.BatchNorm2d(5, device=DEVICE)
    z = F.relu(copy.deepcopy(norm).double()(exact[0]) + exact[1])
    y = batch_norm.batch_norm_relu(inputs[0], norm, inputs[1])
    assert_near(y, z, 1e-6)
    gradient = random_maps(2, 5, 6, 4)
    y.backward(gradient)
    z.backward(gradient.double())
    for maps, reference, dtype in zip(inputs, exact, dtypes):
        assert maps.grad.dtype == dtype and maps.grad.shape == maps.shape
        assert_near(maps.grad, reference.grad, TOLERANCES[dtype])


def test_an_addition_of_another_shape_is_refused():
    with pytest.raises(RuntimeError, match='must match'):
        batch_norm.batch_norm_relu(random_maps(2, 5, 6, 4), nn.BatchNorm2d(5, device=DEVICE), random_maps(2, 5, 3, 2))


def test_a_single_value_per_channel():
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        batch_norm.batch_norm_relu(random_maps(1, 3, 1, 1), nn.BatchNorm2d(3, device=DEVICE))


SIZES = [((4, 3), (8, 6)), ((8, 6), (16, 12)), ((5, 3), (9, 11)), ((6, 7), (3, 5)), ((2, 2), (7, 2))]
SIZES += [((1, 2), (2, 4)), ((4, 3), (1, 2))]  # without a distance between corners


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize(('small', 'size'), SIZES, ids=str)
def test_resize(small, size, dtype):
    torch.manual_seed(0)
    x = random_maps(2, 20, *small, dtype=dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    y, z = resize.resize(x, size), F.interpolate(exact, size=size, mode='bilinear', align_corners=True)
    gradient = random_maps(*z.shape, dtype=dtype)
    y.backward(gradient)
    z.backward(gradient.double())
    assert y.dtype == dtype
    assert_near(y, z, TOLERANCES[dtype])
    assert_near(x.grad, exact.grad, TOLERANCES[dtype])


@pytest.mark.skipif(TorchVersion(triton.__version__) < '3.3', reason='this Triton has another compiler interface')
@pytest.mark.skipif(sys.platform != 'linux', reason='no ptxas')
def test_kernels_compile_for_a_gpu(monkeypatch):
    """The interpreter takes more than the compiler does."""
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    command = [sys.executable, '-m', 'tests.support.gpu_code']
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    launched = [re.findall(r'(?:passes\.|_run\()(\w+)', file.read_text()) for file in KERNELS.glob('*.py')]
    assert {*process.stdout.split()} == {name for names in launched for name in names} - {'kernel'}
