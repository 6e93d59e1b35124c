"""Training without the biases that BatchNorm takes out again."""

import copy

import pytest
import torch

from cvpack.errors import InputError
from lib.config import override
from lib.loader import train_loader, train_samples
from lib.models.conv_bn import drop_biases, fold_batch_norm, zero_gradients
from lib.models.mspn import MSPN, build_mspn
from lib.models.resnet import ConvBNReLU
from lib.training import Trainer, build_schedule
from tests.support.settings import load_config, tiny_settings


def network(**options) -> MSPN:
    """In float64, where rounding cannot hide a difference."""
    torch.manual_seed(0)
    model = MSPN(2, 5, channels=8, backbone='Res-18', width=16, **options).double()
    for name, parameter in model.named_parameters():
        if name.endswith('.bias'):
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize('efficient', [False, True])
def test_all_but_the_biases_learn_the_same(efficient):
    plain = network(efficient=efficient)
    without = copy.deepcopy(plain)
    dropped = drop_biases(without)
    convolutions = [module for module in plain.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(dropped) == len(convolutions)
    for _ in range(3):
        images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
        losses = [sum(maps.square().mean() for stage in model(images) for maps in stage) for model in (plain, without)]
        losses[0].backward()
        zero_gradients(losses[1], dropped).backward()
        torch.testing.assert_close(*losses)
    assert all((bias.grad == 0).all() for bias in dropped)
    for (name, one), other in zip(plain.named_parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-9, msg=name)
    for (name, one), other in zip(plain.named_buffers(), without.named_buffers(), strict=True):
        torch.testing.assert_close(one, other[1], msg=name)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(plain.eval()(images), without.eval()(images))
    torch.testing.assert_close(fold_batch_norm(plain)(images), fold_batch_norm(without)(images))
    assert not any(unit.drops_bias for unit in without.modules() if isinstance(unit, ConvBNReLU))  # they hold all now


def test_frozen_statistics_need_the_bias():
    """A BatchNorm in eval mode takes out the running mean, and so not the bias."""
    plain = network()
    without = copy.deepcopy(plain)
    drop_biases(without)
    for model in (plain, without):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(plain(images), without(images))


def test_a_run_without_biases(synthetic_coco, tmp_path):
    """Losses are those with; the biases, which have no gradient, follow weight decay."""

    def run(flag: bool) -> tuple[list[float], Trainer]:
        cfg = load_config('mspn.2xstg.coco')
        options = 'DATALOADER.NUM_WORKERS=0', f'SOLVER.DROP_BIAS={flag}', 'SOLVER.EMA=0.5'
        override(cfg, [*tiny_settings(synthetic_coco, tmp_path), *options])
        torch.manual_seed(0)
        trainer = Trainer(cfg, build_mspn(cfg), build_schedule(cfg), torch.device('cpu'))
        loader = train_loader(cfg, train_samples(cfg), first=0, batches=4)
        return [trainer.step(i, batch).losses['total_loss'] for i, batch in enumerate(loader, start=1)], trainer

    (plain, _), (losses, trainer) = run(False), run(True)
    assert losses == pytest.approx(plain, rel=1e-3)
    dropped = trainer.step.compute_losses.unbiased
    assert len(dropped) > 40 and all((bias.grad == 0).all() for bias in dropped)
    trainer.optimizer.zero_grad()
    assert trainer.model.state_dict().keys() == trainer.ema.module.state_dict().keys()


def test_a_network_without_conv_units_is_refused():
    with pytest.raises(InputError, match=r'SOLVER\.DROP_BIAS'):
        drop_biases(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)))
