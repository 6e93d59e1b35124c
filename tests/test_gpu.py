"""What only a CUDA device can show; skipped without one."""

import numpy as np
import pytest
import torch
from conftest import load_config, run_script, tiny_settings

from cvpack.dist import free_port
from cvpack.files import read_json
from cvpack.solver import scale_schedule
from lib.config import override
from lib.datasets import coco
from lib.loader import test_loader as loader_of
from lib.loader import train_loader, train_samples
from lib.models.mspn import build_mspn
from lib.testing import Member, flip_permutation, predict_heatmaps, predict_own, ready_to_test
from lib.tools.benchmark.data import many_boxes
from lib.training import Trainer
from lib.utils.codec import CODECS
from lib.utils.heatmap import decode, encode, mirror

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
        ('SOLVER.COMPILE=True',),
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


def network_to_test(cfg) -> torch.nn.Module:
    torch.manual_seed(0)
    return ready_to_test(cfg, build_mspn(cfg), torch.device('cuda'))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('codec', CODECS)
def test_the_host_never_waits_in_a_test(drawn, tmp_path, codec, workers):
    """Of an ensemble at several scales: it launches a batch's kernels while the GPU is still at those of the last."""
    plain = [*tiny_settings(drawn, tmp_path), f'CODEC={codec}', f'DATALOADER.NUM_WORKERS={workers}']
    members = []
    for settings in (['TEST.SCALES=[0.9,1,1.1]', 'TEST.IMS_PER_GPU=8'], ['INPUT_SHAPE=[96,96]']):
        cfg = load_config(EXPERIMENT)
        override(cfg, [*plain, *settings])
        members.append(Member(cfg, network_to_test(cfg)))
    cfg, device = members[0].cfg, torch.device('cuda')
    people = many_boxes(coco.test_records(coco.COCO.at(drawn), 'val', gt_boxes=True), images=2, boxes=20)
    predict_own(cfg, members, people, device)  # what is kept from batch to batch is made
    assert len(loader_of(cfg, people)) == 5
    torch.cuda.set_sync_debug_mode('error')
    try:
        indices, rows = predict_own(cfg, members, people, device)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert len(indices) == len(people) and rows.isfinite().all()


def test_flips_together_are_those_one_by_one(drawn, tmp_path):
    cfg = load_config(EXPERIMENT)
    override(cfg, tiny_settings(drawn, tmp_path))
    device, sizes = torch.device('cuda'), []
    model, images, permutation = network_to_test(cfg), torch.randn(3, 3, 64, 64).cuda(), flip_permutation(cfg, device)
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.inference_mode():
        together = predict_heatmaps(cfg, model, images, permutation)
        one_by_one = (model(images) + mirror(model(images.flip(-1)), permutation)) / 2
    assert sizes == [6, 3, 3]
    torch.testing.assert_close(together, one_by_one, rtol=1e-2, atol=1e-2 * one_by_one.abs().max().item())  # TF32


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
