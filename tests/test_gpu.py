"""What only a CUDA device can show; skipped without one."""

import itertools
import logging
import shutil

import numpy as np
import pytest
import torch

from cvpack import checkpoint
from cvpack.batch_counters import FusedCounters
from cvpack.device import configure_device
from cvpack.errors import NotFinite
from cvpack.files import read_json
from cvpack.preemption import StopRequest
from cvpack.prefetch import Prefetch
from cvpack.solver import Schedule, scale_schedule
from cvpack.trainer import train_loop
from lib.config import REPOSITORY, override
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.inference import PoseEstimator, build_estimator, predict_shard
from lib.loader import test_loader as loader_of
from lib.loader import train_loader, train_samples
from lib.models.mspn import build_mspn
from lib.tools.benchmark.parts import many_boxes
from lib.training import Trainer
from lib.utils.codec import CODECS
from lib.utils.heatmap import decode, encode, mirror
from tests.support.commands import run_script
from tests.support.ports import free_port
from tests.support.settings import load_config, tiny_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
EXPERIMENT = 'mspn.2xstg.coco'
GRAPH = ('SOLVER.CUDA_GRAPH=True',)
NCCL = ('-m', 'torch.distributed.run', '--nproc_per_node=1', f'--master_port={free_port()}')


def trainer_and_loader(
    synthetic_coco,
    tmp_path,
    *options: str,
    iterations: int,
    device: str = 'cuda',
    lr: float = 5e-4,
    wrap=lambda network: network,
):
    """A run of so many iterations on synthetic people; wrap: the network -> another one."""
    cfg = load_config(EXPERIMENT)
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0', *options])
    torch.manual_seed(0)
    schedule = scale_schedule(Schedule(lr, iterations, iterations, 2, 0.1), 1, 1)
    trainer = Trainer(cfg, wrap(build_mspn(cfg)), schedule, torch.device(device))
    batches = iterations * cfg.SOLVER.ACCUM_STEPS
    return trainer, train_loader(cfg, train_samples(cfg), first=0, batches=batches)


def losses(synthetic_coco, tmp_path, device: str, *options: str) -> list[float]:
    """Of 16 steps on one batch."""
    trainer, loader = trainer_and_loader(synthetic_coco, tmp_path, *options, iterations=16, device=device, lr=5e-3)
    batch = next(iter(loader))
    return [trainer.step(iteration, batch).losses['total_loss'] for iteration in range(1, 17)]


@pytest.fixture(scope='module')
def losses_on_cpu(synthetic_coco, tmp_path_factory) -> list[float]:
    return losses(synthetic_coco, tmp_path_factory.mktemp('cpu'), 'cpu')


@pytest.mark.parametrize(
    'options',
    [
        (),
        ('SOLVER.PRECISION=bf16', 'SOLVER.CHANNELS_LAST=True'),
        ('SOLVER.PRECISION=fp16',),
        ('RUN_EFFICIENT=True',),
        ('SOLVER.EMA=0.99',),
        GRAPH,
        (*GRAPH, 'SOLVER.DROP_BIAS=True'),
        ('SOLVER.TRITON=True',),
        ('SOLVER.TRITON=True', 'SOLVER.PRECISION=bf16', 'RUN_EFFICIENT=True'),
        ('SOLVER.TRITON=True', 'SOLVER.PRECISION=fp16'),
        (*GRAPH, 'SOLVER.TRITON=True', 'SOLVER.DROP_BIAS=True', 'SOLVER.PRECISION=bf16'),
    ],
    ids=str,
)
def test_training_on_the_gpu_is_that_on_the_cpu(synthetic_coco, tmp_path, losses_on_cpu, options):
    """The same loss at first, and about as much less of it in the end; fp16 skips its first updates, about eight."""
    on_gpu = losses(synthetic_coco, tmp_path, 'cuda', *options)
    assert on_gpu[0] == pytest.approx(losses_on_cpu[0], rel=0.005)
    least = 0.3 if 'SOLVER.PRECISION=fp16' in options else 0.7
    assert least < (on_gpu[0] - on_gpu[-1]) / (losses_on_cpu[0] - losses_on_cpu[-1]) < 1.4


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
@pytest.mark.parametrize('options', [(), ('SOLVER.EMA=0.9',), GRAPH, (*GRAPH, 'SOLVER.EMA=0.9')], ids=str)
def test_the_host_never_waits(synthetic_coco, tmp_path, codec, options):
    """Neither in a step nor in the loop, so that it launches kernels while the GPU is still at those of the last step.

    What it waits for is the outcome of the step before.
    """
    trainer, loader = trainer_and_loader(synthetic_coco, tmp_path, f'CODEC={codec}', *options, iterations=9)
    seen = []

    def log(iteration: int, lr: float, losses: dict[str, float]) -> None:
        seen.append(losses['total_loss'])
        if iteration == 5:  # what is kept from step to step is made, the graph is captured
            torch.cuda.set_sync_debug_mode('error')
        if iteration == 7:
            torch.cuda.set_sync_debug_mode('default')

    try:
        batches = Prefetch(loader, trainer.device)
        train_loop(trainer.step, batches, 0, trainer.schedule, log, lambda _: None, 1, StopRequest())
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert len(seen) == 9 and all(np.isfinite(seen))


@pytest.fixture
def deterministic():
    """As in a run with SOLVER.DETERMINISTIC."""
    benchmark = torch.backends.cudnn.benchmark
    configure_device(torch.device('cuda'), deterministic=True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.usefixtures('deterministic')
@pytest.mark.parametrize(
    'options',
    [
        ('SOLVER.PRECISION=bf16', 'SOLVER.EMA=0.9'),
        ('SOLVER.OPTIMIZER=SGD', 'SOLVER.ACCUM_STEPS=2'),
        ('SOLVER.OPTIMIZER=AdamW', 'SOLVER.SCHEDULE=cosine'),
        ('SOLVER.PRECISION=bf16', 'SOLVER.TRITON=True', 'SOLVER.DROP_BIAS=True'),
        ('RUN_EFFICIENT=True',),
    ],
    ids=str,
)
def test_replayed_steps_are_eager_steps(synthetic_coco, tmp_path, options):
    """Bit for bit: losses, weights, statistics, averages. The eager run is one that is never captured."""

    def train(warm_up: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        trainer, loader = trainer_and_loader(synthetic_coco, tmp_path, *GRAPH, *options, iterations=16)
        trainer.step.compute.warm_up = warm_up
        accumulate = trainer.cfg.SOLVER.ACCUM_STEPS
        batches = zip(*[iter(loader)] * accumulate)
        losses = [trainer.step(i, *pair).losses['total_loss'] for i, pair in enumerate(batches, start=1)]
        assert (trainer.step.compute.graph is not None) == (warm_up < len(losses)) and not trainer.step.compute.is_eager
        state = trainer.state(len(losses))
        weights = {**state['model'], **{f'ema.{name}': value for name, value in state.get('ema', {}).items()}}
        return losses, {name: value.cpu().clone() for name, value in weights.items()}

    (eager, weights), (replayed, others) = train(99), train(3)
    assert replayed == eager
    assert [name for name, value in weights.items() if not torch.equal(value, others[name])] == []


def resumed_and_not(synthetic_coco, tmp_path, device: str, *options: str) -> list[dict[str, torch.Tensor]]:
    """The weights of a run that stopped halfway and went on from its checkpoint, and of one that did not."""
    ends = []
    for stops_before in (9, None):
        trainer, loader = trainer_and_loader(synthetic_coco, tmp_path, *options, iterations=16, device=device)
        for iteration, batch in enumerate(loader, start=1):
            if iteration == stops_before:
                checkpoint.write(tmp_path / 'stopped.pth', trainer.state(iteration - 1))
                trainer, _ = trainer_and_loader(synthetic_coco, tmp_path, *options, iterations=16, device=device)
                trainer.resume(tmp_path / 'stopped.pth', logging.getLogger('test'))
            trainer.step(iteration, batch)
        ends.append({name: value.cpu().clone() for name, value in trainer.model.state_dict().items()})
    return ends


@pytest.mark.usefixtures('deterministic')
@pytest.mark.parametrize('options', [(), GRAPH, (*GRAPH, 'SOLVER.TRITON=True')], ids=['eager', 'graph', 'kernels'])
def test_a_resumed_run_is_an_undisturbed_one(synthetic_coco, tmp_path, options):
    resumed, undisturbed = resumed_and_not(synthetic_coco, tmp_path, 'cuda', 'SOLVER.PRECISION=bf16', *options)
    assert [name for name, value in resumed.items() if not torch.equal(value, undisturbed[name])] == []


# A network that looks at its numbers on the host, which no graph can hold.
READS = """
from lib.models.mspn import MSPN


class Reads(MSPN):
    def forward(self, images):
        assert images.abs().max().item() < 100
        return super().forward(images)


def build_model(cfg):
    model = cfg.MODEL
    return Reads(model.STAGE_NUM, cfg.DATASET.KEYPOINT.NUM, model.UPSAMPLE_CHANNEL_NUM, model.BACKBONE, model.WIDTH)
"""


@pytest.mark.parametrize('options', [(), GRAPH], ids=['eager', 'graph'])
def test_a_network_that_cannot_be_captured_is_refused(synthetic_coco, tmp_path, options):
    """In a process of its own: torch before 2.12 believes from then on that a capture is under way."""
    folder = tmp_path / 'reads'
    shutil.copytree(REPOSITORY / 'exps' / EXPERIMENT, folder, ignore=shutil.ignore_patterns('log', '__pycache__'))
    (folder / 'network.py').write_text(READS)
    settings = [*tiny_settings(synthetic_coco, tmp_path / 'out'), 'SOLVER.MAX_ITER=1', *options]
    process = run_script('train.py', '--set', *settings, experiment=folder)
    assert process.returncode == (2 if options else 0), process.stderr
    assert ('error: SOLVER.CUDA_GRAPH: the network cannot be captured' in process.stderr) == bool(options)


class _Breaks(torch.nn.Module):
    """A network whose outputs are NaN for black images."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        factor = torch.where(images[:, 0].amax() == images[:, 0].amin(), torch.nan, 1.0)
        return [[maps * factor for maps in stage] for stage in self.network(images)]


@pytest.mark.parametrize('options', [(), GRAPH], ids=str)
def test_no_weight_changes_once_numbers_go_wrong(synthetic_coco, tmp_path, options):
    """Whenever the host learns of it: the weights are those of the last good step."""
    trainer, loader = trainer_and_loader(
        synthetic_coco, tmp_path, 'SOLVER.EMA=0.9', *options, iterations=8, wrap=_Breaks
    )
    weights = []
    step = trainer.step

    def watched(iteration: int, batch: dict[str, torch.Tensor]):
        if iteration == 6:
            batch['image'].zero_()
        outcome = step(iteration, batch)
        weights.append([p.detach().clone() for m in (trainer.model, trainer.ema.module) for p in m.parameters()])
        return outcome

    watched.lag = step.lag
    with pytest.raises(NotFinite) as stop:
        batches = Prefetch(loader, trainer.device)
        train_loop(watched, batches, 0, trainer.schedule, lambda *_: None, pytest.fail, 1, StopRequest())
    assert stop.value.iteration == 6 and len(weights) == 7
    for at in (5, 6):
        assert all(torch.equal(one, other) for one, other in zip(weights[4], weights[at]))
    assert not all(torch.equal(one, other) for one, other in zip(weights[3], weights[4]))


def make_estimator(cfg) -> PoseEstimator:
    torch.manual_seed(0)
    return build_estimator(cfg, build_mspn(cfg), torch.device('cuda'))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('codec', CODECS)
def test_the_host_never_waits_in_a_test(synthetic_coco, tmp_path, codec, workers):
    """Of an ensemble at several scales: it launches a batch's kernels while the GPU is still at those of the last."""
    plain = [*tiny_settings(synthetic_coco, tmp_path), f'CODEC={codec}', f'DATALOADER.NUM_WORKERS={workers}']
    configs = []
    for settings in (['TEST.SCALES=[0.9,1,1.1]', 'TEST.IMS_PER_GPU=8'], ['INPUT_SHAPE=[96,96]']):
        cfg = load_config(EXPERIMENT)
        override(cfg, [*plain, *settings])
        configs.append(cfg)
    estimators, cfg, device = list(map(make_estimator, configs)), configs[0], torch.device('cuda')
    people = many_boxes(CocoReader(COCO.at(synthetic_coco)).test_set('val', gt_boxes=True).records, images=2, boxes=20)
    assert len(loader_of(cfg, people)) == 5
    calls = itertools.count()

    def strict(*_) -> None:
        if next(calls) == len(cfg.TEST.SCALES):  # the second batch: what is kept from batch to batch is made
            torch.cuda.set_sync_debug_mode('error')

    estimators[0].network.register_forward_pre_hook(strict)
    try:
        indices, rows = predict_shard(cfg, estimators, people, device)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert len(indices) == len(people) and rows.isfinite().all()


@pytest.mark.usefixtures('without_tf32')
def test_flips_together_are_those_one_by_one(synthetic_coco, tmp_path):
    cfg = load_config(EXPERIMENT)
    override(cfg, tiny_settings(synthetic_coco, tmp_path))
    device, sizes = torch.device('cuda'), []
    estimator, crops = make_estimator(cfg), torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, device=device)
    estimator.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.inference_mode():
        together, network, images = estimator.heatmaps(crops), estimator.network, estimator.normalize(crops)
        one_by_one = (network(images) + mirror(network(images.flip(-1)), estimator.permutation)) / 2
    assert sizes == [6, 3, 3]
    torch.testing.assert_close(together, one_by_one, rtol=1e-3, atol=1e-3 * one_by_one.abs().max().item())


@pytest.mark.parametrize('codec', CODECS)
def test_a_replayed_test_is_an_eager_one(synthetic_coco, tmp_path, codec):
    """Bit for bit, the last batch, which is shorter, among them."""
    cfg = load_config(EXPERIMENT)
    override(
        cfg, [*tiny_settings(synthetic_coco, tmp_path), f'CODEC={codec}', 'TEST.IMS_PER_GPU=6', 'TEST.PRECISION=bf16']
    )
    device = torch.device('cuda')
    people = many_boxes(CocoReader(COCO.at(synthetic_coco)).test_set('val', gt_boxes=True).records, images=2, boxes=20)
    estimators = [make_estimator(cfg)]
    cfg.TEST.CUDA_GRAPH = True
    _, replayed = predict_shard(cfg, estimators, people, device)
    cfg.TEST.CUDA_GRAPH = False
    _, eager = predict_shard(cfg, estimators, people, device)
    assert torch.equal(replayed, eager)


def test_counters_in_a_replayed_graph():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.BatchNorm1d(4)).cuda()
    together, x = FusedCounters(model), torch.randn(8, 4, device='cuda')
    with together:
        model(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), together:
        model(x)
    for _ in range(3):
        graph.replay()
    assert [norm.num_batches_tracked.item() for norm in model] == [4, 4]


@pytest.mark.parametrize('options', [(), (*GRAPH, 'TEST.CUDA_GRAPH=True')], ids=['eager', 'graph'])
@pytest.mark.parametrize('launcher', [(), NCCL], ids=['alone', 'nccl'])
def test_train_and_test(synthetic_coco, tmp_path, launcher, options):
    """The real commands, under nccl with SyncBN's layers, though of one process; an interrupted run goes on."""
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'MODEL.SYNC_BN=True', 'SOLVER.CHECKPOINT_PERIOD=1', *options]
    for arguments in (
        ('--set', 'SOLVER.MAX_ITER=2', *settings),  # 16 iterations: nccl's graph is captured after 11
        ('-c', 'last', '--set', 'SOLVER.MAX_ITER=4', *settings),
    ):
        process = run_script('train.py', *arguments, experiment=EXPERIMENT, launcher=launcher)
        assert process.returncode == 0, process.stderr
        assert '1 process(es) on cuda' in process.stdout and 'no CUDA graph' not in process.stdout
    process = run_script('test.py', '-i', '32', '--set', *settings, experiment=EXPERIMENT, launcher=launcher)
    assert process.returncode == 0, process.stderr
    assert read_json(tmp_path / 'test_dir/iter-32/metrics.json')['metrics'] is not None
