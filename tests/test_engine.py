"""Training and testing as a user runs them: launchers, outputs, resuming, options, errors."""

import math

import pytest
import torch

from cvpack import checkpoint
from cvpack.files import read_json, write_json
from cvpack.solver import Schedule, scale_schedule
from lib import engine
from lib.config import override
from lib.loader import train_loader, train_samples
from lib.models.mspn import build_mspn
from lib.training import Trainer
from lib.training import run as training
from tests.support.commands import call, experiment, names_all, refused, run_script
from tests.support.networks import OneLayer
from tests.support.ports import free_port
from tests.support.settings import earlier, fast_settings, load_config, tiny_settings

EXPERIMENT = 'mspn.2xstg.coco'


def launcher(name: str) -> tuple[str, ...]:
    """Arguments of Python before a script's, for two processes."""
    return '-m', f'torch.distributed.{name}', '--nproc_per_node=2', f'--master_port={free_port()}'


def test_the_readmes_commands(synthetic_coco, tmp_path):
    """Train and test on two processes; look at everything that they leave."""
    settings = [
        *tiny_settings(synthetic_coco, tmp_path / 'out'),
        'SOLVER.MAX_ITER=1',
        'SOLVER.CHECKPOINT_PERIOD=1',
    ]
    trained = run_script('train.py', '--set', *settings, experiment=EXPERIMENT, launcher=launcher('launch'))
    assert trained.returncode == 0, trained.stderr
    assert 'iter 4/4 | lr 0.000e+00 | total_loss ' in trained.stdout
    for part in ('img/s', 'data ', 'mem ', 'left 0:00:00'):
        assert part in trained.stdout
    assert trained.stdout.count('no CUDA device: using the CPU') == (not torch.cuda.is_available())

    out = tmp_path / 'out'
    assert (out / 'iter-last.pth').resolve() == (out / 'iter-4.pth').resolve()
    assert list((out / 'tb_dir').glob('events*'))
    assert 'total_loss' in (out / 'log.txt').read_text()
    assert read_json(out / 'config.json')['config']['INPUT_SHAPE'] == [64, 64]
    state = checkpoint.load(out / 'iter-last.pth')
    assert {'model', 'optimizer', 'scheduler', 'iteration', 'config', 'git_revision'} <= state.keys()
    assert state['iteration'] == 4

    arguments = '-i', 'last', '--pictures', '3', '--set', *settings
    tested = run_script('test.py', *arguments, experiment=EXPERIMENT, launcher=launcher('launch'))
    assert tested.returncode == 0, tested.stderr
    folder = out / 'test_dir/iter-4'
    people = len(read_json(synthetic_coco / 'det_json/minival_2014_det.json'))
    assert len(read_json(folder / 'results.json')) == people
    assert read_json(folder / 'metrics.json')['boxes'] == people
    assert ' AP | AP50 | AP75 | APM | APL | ' in tested.stdout.replace('  ', ' ')
    assert (folder / 'predictions.jpg').stat().st_size > 10_000


@pytest.mark.usefixtures('one_layer')
@pytest.mark.parametrize('step', [(OneLayer, 'forward'), (torch.Tensor, 'backward')], ids=['forward', 'backward'])
def test_a_network_that_does_not_repeat_is_refused(step, synthetic_coco, tmp_path, monkeypatch, capsys):
    """An operation that cannot, on a GPU, says so itself."""
    wanted = []
    monkeypatch.setattr(engine, 'configure_device', lambda *arguments: wanted.append(arguments))

    def no_algorithm(*_):
        raise RuntimeError(
            "grid_sampler_2d_backward_cuda does not have a deterministic implementation, but you set '..."
        )

    monkeypatch.setattr(*step, no_algorithm)
    settings = *fast_settings(synthetic_coco, tmp_path), 'SOLVER.DETERMINISTIC=True'
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, 'SOLVER.DETERMINISTIC: ', 'grid_sampler_2d_backward_cuda does not repeat', 'set it to False')
    assert wanted == [(torch.device('cpu'), False, True)]


def test_results_do_not_depend_on_the_number_of_processes(synthetic_coco, tmp_path, monkeypatch):
    """Every person once, in one order, whatever the shards; a last batch of one included."""
    settings = tiny_settings(synthetic_coco, tmp_path)
    people = len(read_json(synthetic_coco / 'det_json/minival_2014_det.json'))
    cfg = load_config(EXPERIMENT)
    override(cfg, settings)
    torch.save({'model': build_mspn(cfg).state_dict()}, tmp_path / 'random.pth')
    arguments = ('--weights', str(tmp_path / 'random.pth'), '--set', *settings)
    folders = tmp_path / 'alone', tmp_path / 'together'
    alone, together = ((f'OUTPUT_DIR={f}', f'TEST.IMS_PER_GPU={n}') for f, n in zip(folders, (people - 1, 2)))
    call(monkeypatch, engine.test, *arguments, *alone)
    process = run_script('test.py', *arguments, *together, experiment=EXPERIMENT, launcher=launcher('run'))
    assert process.returncode == 0, process.stderr
    alone, together = (read_json(folder / 'test_dir/random/results.json') for folder in folders)
    assert len(alone) == people
    for a, b in zip(alone, together, strict=True):
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


def losses(synthetic_coco, tmp_path, *options: str) -> list[float]:
    """Of three steps of a tiny network."""
    cfg = load_config(EXPERIMENT)
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0', *options])
    torch.manual_seed(0)
    trainer = Trainer(cfg, build_mspn(cfg), scale_schedule(Schedule(5e-4, 2, 1, 2, 0.1), 1, 8), torch.device('cpu'))
    loader = train_loader(cfg, train_samples(cfg), first=0, batches=3)
    return [trainer.step(i, batch).losses['total_loss'] for i, batch in enumerate(loader, start=1)]


def test_options_change_the_loss_little(synthetic_coco, tmp_path):
    plain = losses(synthetic_coco, tmp_path)
    for option in ('SOLVER.PRECISION=bf16', 'SOLVER.PRECISION=fp16', 'SOLVER.CHANNELS_LAST=True', 'RUN_EFFICIENT=True'):
        other = losses(synthetic_coco, tmp_path, option)
        assert all(math.isfinite(loss) for loss in other) and other == pytest.approx(plain, rel=0.02), option
        assert plain != other or 'PRECISION' not in option


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
    assert 'has no EMA of the weights: it starts here' in printed
    assert 'was trained with another schedule: max_iter' in printed
    state = checkpoint.load(tmp_path / 'iter-16.pth')
    assert state['ema_updates'] == 8
    assert state['optimizer']['param_groups'][0]['weight_decay'] == 0.0
