"""What only a CUDA device can show; skipped without one."""

import copy

import numpy as np
import pytest
import torch
from conftest import load_config, run_script, tiny_settings
from test_compiled import Level, steps

from cvpack.counters import CountedTogether
from cvpack.dist import free_port
from cvpack.files import read_json
from cvpack.solver import scale_schedule
from lib.config import override
from lib.loader import train_loader, train_samples
from lib.models.compiled import compile_blocks
from lib.models.mspn import build_mspn
from lib.training import Trainer
from lib.utils.codec import CODECS
from lib.utils.heatmap import decode, encode

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
EXPERIMENT = 'mspn.2xstg.coco'
NCCL = ('-m', 'torch.distributed.run', '--nproc_per_node=1', f'--master_port={free_port()}')


def losses(drawn, tmp_path, device: str, *options: str) -> list[float]:
    cfg = load_config(EXPERIMENT)
    override(cfg, [*tiny_settings(drawn, tmp_path), 'DATALOADER.NUM_WORKERS=0', *options])
    torch.manual_seed(0)
    trainer = Trainer(cfg, build_mspn(cfg), scale_schedule(5e-4, 2, 1, 2, 0.1, 1, 8), torch.device(device))
    loader = train_loader(cfg, train_samples(cfg), first=0, batches=4)
    return [trainer.step(i, batch)['total_loss'].item() for i, batch in enumerate(loader, start=1)]


@pytest.mark.parametrize(
    'options',
    [
        (),
        ('SOLVER.PRECISION=bf16', 'SOLVER.CHANNELS_LAST=True'),
        ('SOLVER.PRECISION=fp16',),
        ('SOLVER.COMPILE=True', 'SOLVER.PRECISION=bf16'),
        ('RUN_EFFICIENT=True',),
        ('SOLVER.EMA=0.99',),
    ],
    ids=str,
)
def test_training_on_the_gpu_is_that_on_the_cpu(drawn, tmp_path, options):
    on_cpu = losses(drawn, tmp_path, 'cpu')
    on_gpu = losses(drawn, tmp_path, 'cuda', *options)
    assert on_gpu == pytest.approx(on_cpu, rel=0.02)


@pytest.mark.parametrize('codec', CODECS)
def test_codec_on_the_gpu_is_that_on_the_cpu(codec):
    joints = torch.from_numpy(np.random.default_rng(0).uniform(-20, 260, (8, 17, 2))).float()
    visibility = torch.full((8, 17, 1), 2.0)
    shapes = (256, 192), (64, 48)
    kernels = [15, 11, 9, 7, 5]
    targets = encode(joints, visibility, *shapes, kernels, codec)
    on_gpu = encode(joints.cuda(), visibility.cuda(), *shapes, kernels, codec)
    torch.testing.assert_close(on_gpu.cpu(), targets)
    maps = torch.rand(8, 17, 64, 48) * 255
    center, scale = torch.rand(8, 2) * 300, torch.rand(8, 2) + 0.5
    on_cpu = decode(maps, center, scale, shapes[0], 5, [0.25], codec)
    on_gpu = decode(maps.cuda(), center.cuda(), scale.cuda(), shapes[0], 5, [0.25], codec)
    for a, b in zip(on_cpu, on_gpu):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('codec', CODECS)
def test_the_host_never_waits_in_a_step(drawn, tmp_path, codec):
    """So that it launches a step's kernels while the GPU is still at those of the last."""
    cfg = load_config(EXPERIMENT)
    override(cfg, [*tiny_settings(drawn, tmp_path), 'DATALOADER.NUM_WORKERS=0', f'CODEC={codec}'])
    trainer = Trainer(cfg, build_mspn(cfg), scale_schedule(5e-4, 2, 1, 2, 0.1, 1, 8), torch.device('cuda'))
    batches = list(train_loader(cfg, train_samples(cfg), first=0, batches=3))
    trainer.step(1, batches[0])  # what is kept from step to step is made
    torch.cuda.set_sync_debug_mode('error')
    try:
        for iteration, batch in enumerate(batches[1:], start=2):
            trainer.step(iteration, batch)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize(('precision', 'tolerance'), [('fp32', 0.01), ('bf16', 0.1)])
def test_compiled_blocks_on_the_gpu_are_the_eager_ones(precision, tolerance):
    torch.manual_seed(0)
    images = torch.randn(4, 16, 64, 64, device='cuda').to(memory_format=torch.channels_last)
    model = Level().cuda().to(memory_format=torch.channels_last)
    eager = copy.deepcopy(model)
    compile_blocks(model)
    values, expected = steps(model, images, precision), steps(eager, images, precision)
    assert list(values) == list(expected)
    for name, value in values.items():
        # BatchNorm takes the bias out again: its gradient is rounding alone.
        if name.endswith('.conv.bias'):
            continue
        error = (value - expected[name]).float().norm().item()
        assert error <= tolerance * (expected[name].float().norm().item() + 0.01), name


def test_counters_in_a_replayed_graph():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.BatchNorm1d(4)).cuda()
    together, x = CountedTogether(model), torch.randn(8, 4, device='cuda')
    with together:
        model(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), together:
        model(x)
    for _ in range(3):
        graph.replay()
    assert [norm.num_batches_tracked.item() for norm in model] == [4, 4]


@pytest.mark.parametrize('launcher', [(), NCCL], ids=['alone', 'nccl'])
def test_train_and_test(drawn, tmp_path, launcher):
    """The real commands, with SyncBN under nccl; an interrupted run goes on."""
    settings = [*tiny_settings(drawn, tmp_path), 'MODEL.SYNC_BN=True', 'SOLVER.CHECKPOINT_PERIOD=1']
    for arguments in (
        ('--set', 'SOLVER.MAX_ITER=1', *settings),
        ('-c', 'last', '--set', 'SOLVER.MAX_ITER=2', *settings),
    ):
        process = run_script('train.py', *arguments, experiment=EXPERIMENT, launcher=launcher)
        assert process.returncode == 0, process.stderr
        assert '1 process(es) on cuda' in process.stdout
    process = run_script('test.py', '-i', '16', '--set', *settings, experiment=EXPERIMENT, launcher=launcher)
    assert process.returncode == 0, process.stderr
    assert read_json(tmp_path / 'test_dir/iter-16/metrics.json')['metrics'] is not None
