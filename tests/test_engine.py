"""Training and testing as a user runs them: launchers, outputs, resuming, options, errors."""

import math
import os
import shutil

import pytest
import refusals
import torch
import torch.multiprocessing as mp
from conftest import call, earlier, fast_settings, load_config, run_script, tiny_settings, world

from cvpack import checkpoint, dist
from cvpack.dist import free_port
from cvpack.files import read_json, write_json
from cvpack.solver import scale_schedule
from lib import engine
from lib.config import override
from lib.loader import train_loader, train_samples
from lib.models.mspn import build_mspn
from lib.training import Trainer
from lib.training import run as training

EXPERIMENT = 'mspn.2xstg.coco'
MODULES = {'alone': '', 'launch': 'torch.distributed.launch', 'torchrun': 'torch.distributed.run'}


def launcher(name: str) -> tuple[str, ...]:
    """Arguments of Python before a script's."""
    return ('-m', MODULES[name], '--nproc_per_node=2', f'--master_port={free_port()}') if MODULES[name] else ()


def refused(monkeypatch, capsys, entry, *arguments: str) -> str:
    """The one line that a command line is refused with."""
    return refusals.refused(capsys, refusals.experiment(entry, monkeypatch), *arguments)


@pytest.mark.parametrize('name', MODULES)
def test_launchers(synthetic_coco, tmp_path, name):
    """Train and test, by the commands of the README; look at everything that they leave."""
    settings = [
        *tiny_settings(synthetic_coco, tmp_path / 'out'),
        'SOLVER.MAX_ITER=1',
        'SOLVER.CHECKPOINT_PERIOD=1',
    ]
    trained = run_script('train.py', '--set', *settings, experiment=EXPERIMENT, launcher=launcher(name))
    assert trained.returncode == 0, trained.stderr
    last = 8 if name == 'alone' else 4  # MAX_ITER is for 8 processes
    assert f'iter {last}/{last} | lr 0.000e+00 | total_loss ' in trained.stdout
    for part in ('img/s', 'data ', 'mem ', 'left 0:00:00'):
        assert part in trained.stdout
    assert trained.stdout.count('no CUDA device: going on with the CPU') == (not torch.cuda.is_available())

    out = tmp_path / 'out'
    assert (out / 'iter-last.pth').resolve() == (out / f'iter-{last}.pth').resolve()
    assert list((out / 'tb_dir').glob('events*'))
    assert 'total_loss' in (out / 'log.txt').read_text()
    assert read_json(out / 'config.json')['config']['INPUT_SHAPE'] == [64, 64]
    state = checkpoint.load(out / 'iter-last.pth')
    assert {'model', 'optimizer', 'scheduler', 'iteration', 'config', 'git_revision'} <= state.keys()
    assert state['iteration'] == last

    tested = run_script(
        'test.py', '-i', 'last', '--pictures', '3', '--set', *settings, experiment=EXPERIMENT, launcher=launcher(name)
    )
    assert tested.returncode == 0, tested.stderr
    folder = out / 'test_dir' / f'iter-{last}'
    people = len(read_json(synthetic_coco / 'det_json/minival_2014_det.json'))
    assert len(read_json(folder / 'results.json')) == people
    assert read_json(folder / 'metrics.json')['boxes'] == people
    assert ' AP | AP50 | AP75 | APM | APL | ' in tested.stdout.replace('  ', ' ')
    assert (folder / 'predictions.jpg').stat().st_size > 10_000


def _train_in_group(rank: int, port: int, settings: list[str], output: str) -> None:
    """One of two processes: three steps of SGD, BatchNorm in eval."""
    os.environ.update(world(rank, 2, port))
    torch.set_num_threads(1)
    device = dist.setup('cpu')
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    trainer, batches = _trainer_and_batches(cfg, device)
    losses = [trainer.step(i, batch).losses['total_loss'] for i, batch in enumerate(batches, start=1)]
    torch.save({'losses': losses, 'model': trainer.model.state_dict()}, f'{output}/{rank}.pth')
    dist.cleanup()


def _trainer_and_batches(cfg, device):
    """In float64, where rounding cannot hide a difference, or make one."""
    torch.manual_seed(0)
    model = build_mspn(cfg).double()
    model.register_forward_pre_hook(lambda _, inputs: tuple(images.double() for images in inputs))
    trainer = Trainer(cfg, model, scale_schedule(5e-4, 1, 1, 2, 0.1, 2, 8), device)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return trainer, list(train_loader(cfg, train_samples(cfg), first=0, batches=3))


def test_two_processes_are_one_with_accumulated_gradients(synthetic_coco, tmp_path):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.OPTIMIZER=SGD', 'DATALOADER.NUM_WORKERS=0']
    mp.spawn(_train_in_group, (free_port(), settings, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]

    # The same samples: one process takes the ranks' blocks of three one after the other.
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    trainer, _ = _trainer_and_batches(cfg, torch.device('cpu'))
    blocks = list(train_loader(cfg, train_samples(cfg), first=0, batches=6))
    for iteration in range(3):
        loss = trainer.step(iteration + 1, *blocks[2 * iteration : 2 * iteration + 2]).losses['total_loss']
        assert loss == pytest.approx(sum(rank['losses'][iteration] for rank in ranks) / 2, rel=1e-9)
    for name, value in trainer.model.state_dict().items():
        for rank in range(2):
            torch.testing.assert_close(ranks[rank]['model'][name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_results_do_not_depend_on_the_number_of_processes(synthetic_coco, tmp_path, monkeypatch):
    """Every person once, in one order, whatever the shards; a last batch of one included."""
    settings = tiny_settings(synthetic_coco, tmp_path)
    people = len(read_json(synthetic_coco / 'det_json/minival_2014_det.json'))
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    torch.save({'model': build_mspn(cfg).state_dict()}, tmp_path / 'random.pth')
    results = {}
    for name, batch in (('alone', people - 1), ('torchrun', 2)):
        output = [f'OUTPUT_DIR={tmp_path / name}', f'TEST.IMS_PER_GPU={batch}']
        process = run_script(
            'test.py',
            *('--weights', str(tmp_path / 'random.pth'), '--set', *settings, *output),
            experiment=EXPERIMENT,
            launcher=launcher(name),
        )
        assert process.returncode == 0, process.stderr
        results[name] = read_json(tmp_path / name / 'test_dir/random/results.json')
    assert len(results['alone']) == people
    for a, b in zip(results['alone'], results['torchrun'], strict=True):
        assert a['image_id'] == b['image_id']
        assert a['keypoints'] == pytest.approx(b['keypoints'], abs=1e-3)
        assert a['score'] == pytest.approx(b['score'], abs=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(synthetic_coco, tmp_path, monkeypatch):
    """Bit for bit on a CPU: weights, moving average, optimiser; another number of workers changes nothing."""
    options = ['SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1', 'SOLVER.EMA=0.9']
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    torch.manual_seed(1)
    call(monkeypatch, engine.train, '--set', *tiny_settings(synthetic_coco, whole), *options)

    real_loop = training.train_loop

    class Killed(Exception):
        pass

    def killed_after_3(step, loader, start, schedule, log, save, *rest):
        def dying_log(iteration, lr, losses):
            if iteration == 3:
                save(3)
                raise Killed

        real_loop(step, loader, start, schedule, dying_log, save, *rest)

    monkeypatch.setattr(training, 'train_loop', killed_after_3)
    with pytest.raises(Killed):
        call(monkeypatch, engine.train, '--set', *tiny_settings(synthetic_coco, halves), *options)
    monkeypatch.setattr(training, 'train_loop', real_loop)
    more = [*tiny_settings(synthetic_coco, halves), *options, 'DATALOADER.NUM_WORKERS=0']
    call(monkeypatch, engine.train, '-c', 'last', '--set', *more)

    a, b = checkpoint.load(whole / 'iter-8.pth'), checkpoint.load(halves / 'iter-8.pth')
    for part in ('model', 'ema'):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), (part, name)
    for number, state in a['optimizer']['state'].items():
        assert torch.equal(state['exp_avg_sq'], b['optimizer']['state'][number]['exp_avg_sq'])
    assert a['ema'].keys() == a['model'].keys()
    assert any(not torch.equal(value, a['model'][name]) for name, value in a['ema'].items())
    call(monkeypatch, engine.test, '-i', '8', '3', '--ema', '--gt-boxes', '--set', *more)
    metrics = read_json(halves / 'test_dir/iter-8.gt_boxes.ema/metrics.json')
    assert metrics['boxes_from'] == 'annotation'
    assert (halves / 'test_dir/iter-3.gt_boxes.ema/results.json').is_file()


@pytest.mark.usefixtures('one_layer')
@pytest.mark.parametrize('how', [('-c', 'last'), ('--resume', 'auto')], ids=' '.join)
def test_what_an_earlier_version_began_goes_on(synthetic_coco, tmp_path, monkeypatch, how):
    """Its configuration has other keys, in the checkpoint and in the results of a test, which may be repeated."""
    settings = ['--set', *fast_settings(synthetic_coco, tmp_path)]
    call(monkeypatch, engine.train, *settings, 'SOLVER.MAX_ITER=1')
    state = checkpoint.load(tmp_path / 'iter-1.pth')
    checkpoint.write(tmp_path / 'iter-1.pth', {**state, 'config': earlier(state['config'])})
    call(monkeypatch, engine.test, '-i', 'last', *settings)
    file = tmp_path / 'test_dir/iter-1/metrics.json'
    metrics = read_json(file)
    write_json(file, {**metrics, 'config': earlier(metrics['config'])})
    call(monkeypatch, engine.test, '-i', 'last', *settings)
    assert read_json(file)['config'] == metrics['config']
    call(monkeypatch, engine.train, *how, *settings)
    assert checkpoint.iterations(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    'option',
    ['SOLVER.PRECISION=bf16', 'SOLVER.PRECISION=fp16', 'SOLVER.CHANNELS_LAST=True', 'RUN_EFFICIENT=True'],
)
def test_options_change_the_loss_little(synthetic_coco, tmp_path, option):
    def losses(*options: str) -> list[float]:
        cfg = load_config(EXPERIMENT)
        override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0', *options])
        torch.manual_seed(0)
        trainer = Trainer(cfg, build_mspn(cfg), scale_schedule(5e-4, 2, 1, 2, 0.1, 1, 8), torch.device('cpu'))
        loader = train_loader(cfg, train_samples(cfg), first=0, batches=3)
        return [trainer.step(i, batch).losses['total_loss'] for i, batch in enumerate(loader, start=1)]

    plain, other = losses(), losses(option)
    assert all(math.isfinite(loss) for loss in other)
    assert other == pytest.approx(plain, rel=0.02)
    assert plain != other or 'PRECISION' not in option


def test_an_earlier_run_is_not_overwritten(synthetic_coco, tmp_path, monkeypatch, capsys):
    checkpoint.save(tmp_path, 7, {})
    error = refused(monkeypatch, capsys, engine.train, '--set', *tiny_settings(synthetic_coco, tmp_path))
    assert 'earlier run (to iteration 7)' in error and '-c last' in error


def test_missing_checkpoints_are_named(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = tiny_settings(synthetic_coco, tmp_path)
    assert 'iterations there: none' in refused(monkeypatch, capsys, engine.test, '-i', 'last', '--set', *settings)
    checkpoint.save(tmp_path, 7, {})
    checkpoint.save(tmp_path, 30, {})
    error = refused(monkeypatch, capsys, engine.test, '-i', '8', '--set', *settings)
    assert 'iter-8.pth' in error and 'iterations there: 7, 30' in error
    assert 'absent.pth does not exist' in refused(
        monkeypatch, capsys, engine.test, '--weights', 'absent.pth', '--set', *settings
    )
    assert 'absent.pth does not exist' in refused(
        monkeypatch, capsys, engine.train, '-c', 'absent.pth', '--set', *settings
    )


def test_missing_weights_say_where_to_get_them(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'MODEL.WEIGHT=lib/models/absent.pth']
    error = refused(monkeypatch, capsys, engine.train, '--set', *settings)
    assert 'absent.pth does not exist' in error
    assert 'lib.tools.prepare weights' in error and "MODEL.WEIGHT=''" in error


def test_missing_data_say_how_to_prepare_them(tmp_path, monkeypatch, capsys):
    settings = tiny_settings(tmp_path / 'nowhere', tmp_path)
    assert 'lib.tools.prepare' in refused(monkeypatch, capsys, engine.train, '--set', *settings)
    checkpoint.save(tmp_path, 1, {})
    assert 'lib.tools.prepare' in refused(monkeypatch, capsys, engine.test, '-i', '1', '--set', *settings)


def test_a_broken_image_is_named(synthetic_coco, tmp_path, monkeypatch, capsys):
    """One line though a worker process found it."""
    root = tmp_path / 'COCO'
    shutil.copytree(synthetic_coco, root)
    broken = sorted((root / 'images/val2014').iterdir())[0]
    broken.write_bytes(b'')
    settings = tiny_settings(root, tmp_path)
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    checkpoint.save(tmp_path, 5, {'model': build_mspn(cfg).state_dict()})
    error = refused(monkeypatch, capsys, engine.test, '-i', '5', '--set', *settings)
    assert error.startswith(f'error: image {broken}: image file of zero bytes')


def test_unwritable_output(synthetic_coco, tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').write_text('')
    error = refused(monkeypatch, capsys, engine.train, '--set', *tiny_settings(synthetic_coco, tmp_path / 'file'))
    assert 'choose a folder with OUTPUT_DIR' in error


def test_weights_alone_cannot_be_continued(synthetic_coco, tmp_path, monkeypatch, capsys):
    cfg = load_config(EXPERIMENT)
    override(cfg, tiny_settings(synthetic_coco, tmp_path))
    torch.save({'model': build_mspn(cfg).state_dict()}, tmp_path / 'weights.pth')
    settings = tiny_settings(synthetic_coco, tmp_path / 'out')
    error = refused(monkeypatch, capsys, engine.train, '-c', str(tmp_path / 'weights.pth'), '--set', *settings)
    assert "has no 'optimizer'" in error


def test_test_dev_writes_the_submission(synthetic_coco, tmp_path, monkeypatch, capsys):
    """test-dev's images have no annotations; results.json is what its server takes."""
    root = tmp_path / 'COCO'
    for name in ('gt_json', 'det_json'):
        (root / name).mkdir(parents=True)
    (root / 'images').symlink_to(synthetic_coco / 'images')
    ground_truth = (synthetic_coco / 'gt_json/minival_2014.json').read_text()
    (root / 'gt_json/test_dev.json').write_text(ground_truth.replace('"annotations"', '"hidden"'))
    (root / 'det_json/test_dev_det.json').write_text((synthetic_coco / 'det_json/minival_2014_det.json').read_text())
    settings = tiny_settings(root, tmp_path)
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    checkpoint.save(tmp_path, 5, {'model': build_mspn(cfg).state_dict()})
    call(monkeypatch, engine.test, '-i', '5', '--split', 'test', '--set', *settings)
    folder = tmp_path / 'test_dir/iter-5.test'
    rows = read_json(folder / 'results.json')
    assert set(rows[0]) == {'image_id', 'category_id', 'keypoints', 'score'} and len(rows[0]['keypoints']) == 51
    assert read_json(folder / 'metrics.json')['metrics'] is None
    assert 'can be submitted' in capsys.readouterr().out


def test_a_moving_average_can_begin_when_a_run_goes_on(synthetic_coco, tmp_path, monkeypatch, capsys):
    settings = [*tiny_settings(synthetic_coco, tmp_path), 'SOLVER.MAX_ITER=1', 'SOLVER.CHECKPOINT_PERIOD=1']
    call(monkeypatch, engine.train, '--set', *settings, 'SOLVER.WARMUP_ITERS=1')
    more = [*settings, 'SOLVER.MAX_ITER=2', 'SOLVER.EMA=0.5', 'SOLVER.WEIGHT_DECAY=0.0']
    call(monkeypatch, engine.train, '-c', 'iter-8.pth', '--set', *more)
    printed = capsys.readouterr().out
    assert 'has no moving average of the weights: it begins here' in printed
    assert 'was trained under another max_iter' in printed
    state = checkpoint.load(tmp_path / 'iter-16.pth')
    assert state['ema_updates'] == 8
    assert state['optimizer']['param_groups'][0]['weight_decay'] == 0.0
