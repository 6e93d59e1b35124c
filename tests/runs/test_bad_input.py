"""Bad settings, weights, checkpoints, boxes and machines: one line that names the thing and says what to do; exit
code 2 and no traceback. tests/datasets/test_annotation_files.py does the same for data sets.
"""

import functools
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from cvpack import checkpoint, dist
from lib import engine
from lib.config import REPOSITORY, override
from lib.models.mspn import build_mspn
from lib.tools.benchmark.__main__ import main as benchmark
from lib.tools.check_data import __main__ as check_data
from lib.tools.prepare import __main__ as prepare
from tests.support.annotations import mpii_people, write_json
from tests.support.commands import experiment, names_all, refused
from tests.support.prepare import box, make_2017, make_mpii_json
from tests.support.settings import keypoints, load_config, small

SETTINGS = {
    'no value': ('SOLVER.BASE_LR', '--set SOLVER.BASE_LR: write KEY=VALUE'),
    'unknown key': ('SOLVER.BASE_RL=1', '--set SOLVER.BASE_RL=1: there is no key SOLVER.BASE_RL'),
    'key below a value': ('SOLVER.BASE_LR.X=1', 'there is no key SOLVER.BASE_LR.X'),
    'word for a number': ('SOLVER.BASE_LR=fast', "SOLVER.BASE_LR = 'fast' should be a float, like 0.0005"),
    'fraction of an image': ('SOLVER.IMS_PER_GPU=1.5', 'SOLVER.IMS_PER_GPU = 1.5 should be a int, like 32'),
    'number for a switch': ('RUN_EFFICIENT=1', 'RUN_EFFICIENT = 1 should be a bool, like False'),
    'no images': ('SOLVER.IMS_PER_GPU=0', 'SOLVER.IMS_PER_GPU = 0 should be 1 to'),
    'average beyond 1': ('SOLVER.EMA=1.5', 'SOLVER.EMA = 1.5 should be 0 to 0.999999'),
    'negative seed': ('SOLVER.SEED=-1', 'SOLVER.SEED = -1 should be 0 to'),
    'one of three': ('INPUT.STDS=[0.2]', 'INPUT.STDS = [0.2] should be a list of 3 floats'),
    'one side': ('INPUT_SHAPE=[256]', 'INPUT_SHAPE = [256] should be a list of 2 ints'),
    'shape not divisible by 32': ('INPUT_SHAPE=[250,192]', 'INPUT_SHAPE = [250, 192] should be', 'divisible by 32'),
    'derived shape': ('OUTPUT_SHAPE=[64,48]', 'OUTPUT_SHAPE is derived from the folder, INPUT_SHAPE or OUTPUT_DIR'),
    'list of words': ('TEST.SHIFT_RATIOS=["a"]', "TEST.SHIFT_RATIOS = ['a'] should be a list of floats"),
    'joints in words': ('DATASET.KEYPOINT.UPPER_BODY_IDS=["a"]', 'UPPER_BODY_IDS', 'should be a list of ints'),
    'pairs of one': ('DATASET.KEYPOINT.FLIP_PAIRS=[1,2]', 'DATASET.KEYPOINT.FLIP_PAIRS = [1, 2]', 'list of lists'),
    'pairs of three': ('DATASET.KEYPOINT.FLIP_PAIRS=[[1,2,3]]', 'should be pairs of joints 0 to 16, not [[1, 2, 3]]'),
    'pair beyond K': ('DATASET.KEYPOINT.FLIP_PAIRS=[[1,17]]', 'should be pairs of joints 0 to 16, not [[1, 17]]'),
    'pairs that share a joint': (
        'DATASET.KEYPOINT.FLIP_PAIRS=[[1,2],[2,3]]',
        'FLIP_PAIRS',
        'should have each joint once',
    ),
    'sides that are no pair': ('DATASET.KEYPOINT.FLIP_PAIRS=[[1,2]]', 'FLIP_PAIRS should pair left_ear with right_ear'),
    'limb beyond K': ('DATASET.KEYPOINT.SKELETON=[[0,17]]', 'SKELETON should be pairs of joints 0 to 16'),
    'upper body before 0': ('DATASET.KEYPOINT.UPPER_BODY_IDS=[-1]', 'DATASET.KEYPOINT.UPPER_BODY_IDS = [-1]'),
    'upper body beyond K': ('DATASET.KEYPOINT.UPPER_BODY_IDS=[17]', 'UPPER_BODY_IDS should be joints 0 to 16'),
    'former key': ('TEST.DURING_TRAINING=1', 'TEST.DURING_TRAINING', 'VALIDATION.PERIOD'),
    'former key, its images': ('TEST.DURING_TRAINING_IMAGES=1', 'TEST.DURING_TRAINING_IMAGES', 'VALIDATION.IMAGES'),
    'former key without another': ('SOLVER.COMPILE=True', 'SOLVER.COMPILE, which was removed'),
    'no reference': ('SOLVER.REFERENCE_GPUS=0', 'SOLVER.REFERENCE_GPUS = 0'),
    'names for fewer joints': ('DATASET.KEYPOINT.NAMES=["a"]', 'NAMES should be 17 different names'),
    'names of other kinds': ('DATASET.KEYPOINT.NAMES=[1]', 'KEYPOINT.NAMES = [1] should be a list of strs'),
    'sigmas for fewer joints': (
        'DATASET.KEYPOINT.SIGMAS=[0.1]',
        'SIGMAS should be 17 numbers above 0 (NUM), not [0.1]',
    ),
    'no annotations to test on': ('DATASET.VAL_JSON=', 'DATASET.VAL_JSON is empty: set it'),
    'K below TOPK': ('DATASET.KEYPOINT.NUM=3', 'LOSS.TOPK = 8 should be 1 to 3'),
    'TOPK over K': ('LOSS.TOPK=18', 'LOSS.TOPK = 18 should be 1 to 17'),
    'even kernel': ('TEST.GAUSSIAN_KERNEL=4', 'TEST.GAUSSIAN_KERNEL should be odd sizes'),
    'no output folder': ('OUTPUT_DIR=', 'OUTPUT_DIR is empty: set a folder'),
    'unknown optimiser': ('SOLVER.OPTIMIZER=LAMB', "SOLVER.OPTIMIZER = 'LAMB' should be one of Adam, AdamW, SGD"),
    'unknown backbone': ('MODEL.BACKBONE=Res-51', "MODEL.BACKBONE = 'Res-51' should be one of Res-18"),
    'unknown data set': ('DATASET.FORMAT=COCA', "DATASET.FORMAT = 'COCA' should be one of COCO, MPII"),
    'unknown device': ('MODEL.DEVICE=tpu', "MODEL.DEVICE = 'tpu' should be one of cuda, cpu"),
    'unknown codec': ('CODEC=UDP', "CODEC = 'UDP' should be one of standard, dark, udp"),
    'unknown precision': ('SOLVER.PRECISION=int4', "SOLVER.PRECISION = 'int4' should be one of fp32, bf16, fp16"),
}


@pytest.mark.parametrize('case', SETTINGS.values(), ids=SETTINGS)
def test_settings(case, monkeypatch, capsys):
    assignment, *pieces = case
    names_all(refused(capsys, experiment(engine.train, monkeypatch), '--set', assignment), *pieces)


# ---------------------------------------------------------------------------------------------------- weights


@functools.cache
def network(*changes: str) -> dict:
    """The state of a network; as `small` describes it unless changed."""
    cfg = load_config('mspn.2xstg.coco')
    nowhere = Path('nowhere')
    override(cfg, [*small(nowhere, nowhere), *changes])
    return build_mspn(cfg).state_dict()


WEIGHTS = {
    'absent': (None, 'does not exist', 'name a file written by train.py'),
    'empty': (b'', 'is not a readable checkpoint', 'get it again'),
    'text': (b'not a checkpoint', 'is not a readable checkpoint', 'get it again'),
    'an empty pickle': (b'\x80\x02.', 'is not a readable checkpoint', 'get it again'),
    'cut short': (5000, 'is not a readable checkpoint', 'get it again'),
    'a list': (lambda: [torch.ones(1)], 'holds a list, not a checkpoint', 'name another file'),
    'of more stages': (lambda: network('MODEL.STAGE_NUM=3'), 'does not fit this model', 'more tensors'),
    'of fewer stages': (lambda: network('MODEL.STAGE_NUM=1'), 'are missing (first: stage0', 'same network'),
    'of another backbone': (lambda: network('MODEL.BACKBONE=Res-34'), 'more tensors (first: stage0.downsample'),
    'of another K': (
        lambda: network(*(f'{key}={value}' for key, value in keypoints(14).items())),
        'have another shape (first: stage0.upsample.up1.res_conv2.conv',
        '(14, 1',
    ),
    'of an ImageNet ResNet': (lambda: torchvision.models.resnet18().state_dict(), 'are missing (first: top.conv'),
    'of a backbone and a head': (
        lambda: {f'backbone.{key}': value for key, value in network().items()},
        'are missing (first: top.conv.conv.weight)',
        'same network',
    ),
    'with numbered tensors': (lambda: dict(enumerate(network().values())), 'does not fit this model'),
    'with a list as the model': (lambda: {'model': list(network().values())}, 'does not fit this model'),
    'of numbers': (lambda: dict.fromkeys(network(), 1.0), 'does not fit this model'),
}


def write_weights(path, content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, int):
        torch.save(network(), path)
        path.write_bytes(path.read_bytes()[:content])
    elif content is not None:
        torch.save(content(), path)


@pytest.mark.parametrize('case', WEIGHTS.values(), ids=WEIGHTS)
def test_checkpoints_to_test(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    content, *pieces = case
    path = tmp_path / 'other weights.pth'
    write_weights(path, content)
    settings = small(synthetic_coco, tmp_path / 'out')
    error = refused(capsys, experiment(engine.test, monkeypatch), '--weights', path, '--set', *settings)
    names_all(error, path, *pieces)


def resnet(depth: int, without: str = '') -> dict:
    state = getattr(torchvision.models, f'resnet{depth}')().state_dict()
    return {key: value for key, value in state.items() if key != without}


PRETRAINED = {
    'absent': (
        None,
        'MODEL.WEIGHT',
        'does not exist: get it with `python -m lib.tools.prepare weights',
        "MODEL.WEIGHT=''",
    ),
    'text': (b'not a checkpoint', 'is not a readable checkpoint', 'get it again'),
    'of a deeper network': (lambda: resnet(34), 'a deeper trunk (first: layer1.2', 'MODEL.BACKBONE'),
    'of another kind of block': (lambda: resnet(50), 'does not fit this model', 'same network'),
    'with a hole': (lambda: resnet(18, 'layer3.1.bn2.weight'), '2 tensors are missing', 'same network'),
    'of another repository': (lambda: {f'encoder.{k}': v for k, v in resnet(18).items()}, 'tensors are missing'),
}


@pytest.mark.parametrize('case', PRETRAINED.values(), ids=PRETRAINED)
def test_weights_to_begin_with(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    content, *pieces = case
    path = tmp_path / 'resnet.pth'
    write_weights(path, content)
    settings = [*small(synthetic_coco, tmp_path / 'out'), 'MODEL.WIDTH=64', f'MODEL.WEIGHT={path}']
    names_all(refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings), path, *pieces)


# ------------------------------------------------------------------------------------- checkpoints of this run

TRAINED = {
    'iteration not there': (engine.test, ['-i', '8'], 'no checkpoint iter-8.pth', 'iterations there: 7, 30'),
    'no iteration': (engine.test, ['-i', '7', 'eight'], 'no checkpoint iter-eight.pth', 'iterations there: 7, 30'),
    'no average': (engine.test, ['-i', '7', '--ema'], 'iter-7.pth has no EMA', 'leave out --ema'),
    'to go on from absent': (engine.train, ['-c', 'iter-9.pth'], 'iter-9.pth does not exist', 'give a checkpoint'),
    'to go on from an old one': (engine.train, ['-c', 'iter-7.pth'], 'newer checkpoints than', 'iter-30.pth'),
    'to go on from no optimiser': (
        engine.train,
        ['-c', 'iter-30.pth'],
        "iter-30.pth: its 'optimizer' is not the state of",
    ),
    'an average that is none': (engine.test, ['-i', '30', '--ema'], 'iter-30.pth has no EMA', '--ema'),
    'an earlier run': (engine.train, [], 'earlier run (up to iteration 30)', 'with -c last'),
}


@pytest.mark.parametrize('case', TRAINED.values(), ids=TRAINED)
def test_checkpoints_of_a_run(case, synthetic_coco, tmp_path, monkeypatch, capsys):
    entry, arguments, *pieces = case
    checkpoint.save(tmp_path, 7, {'model': network()})
    damaged = {'optimizer': {'state': {}, 'param_groups': 5}, 'ema': 5}
    checkpoint.save(tmp_path, 30, {'model': network(), 'iteration': 30, **damaged})
    settings = small(synthetic_coco, tmp_path)
    names_all(refused(capsys, experiment(entry, monkeypatch), *arguments, '--set', *settings), tmp_path, *pieces)


def test_weights_are_nothing_to_go_on_from(synthetic_coco, tmp_path, monkeypatch, capsys):
    checkpoint.save(tmp_path, 7, {'model': network()})
    error = refused(capsys, experiment(engine.train, monkeypatch), '-c', '7', '--set', *small(synthetic_coco, tmp_path))
    names_all(error, tmp_path, "iter-7.pth has no 'optimizer'", 'only holds weights')


# ---------------------------------------------------------------------------------------------------- machine


@pytest.mark.parametrize(
    ('in_the_way', 'entry'),
    [
        pytest.param('out', engine.train, id='output folder'),
        pytest.param('out/log.txt/', engine.train, id='log'),
        pytest.param('out/tb_dir', engine.train, id='tensorboard'),
        pytest.param('out/config.json/', engine.train, id='config'),
        pytest.param('out/test_dir', engine.test, id='results'),
    ],
)
def test_output_that_cannot_be_written(in_the_way, entry, synthetic_coco, tmp_path, monkeypatch, capsys):
    path = tmp_path / in_the_way
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if in_the_way.endswith('/') else path.touch()
    torch.save(network(), tmp_path / 'weights.pth')
    arguments = ['--weights', tmp_path / 'weights.pth'] if entry is engine.test else []
    settings = small(synthetic_coco, tmp_path / 'out')
    error = refused(capsys, experiment(entry, monkeypatch), *arguments, '--set', *settings)
    names_all(error, path, 'OUTPUT_DIR')


LONE = ['INPUT_SHAPE=[32,32]', 'SOLVER.IMS_PER_GPU=1']


def test_one_value_to_normalise(synthetic_coco, tmp_path, monkeypatch, capsys):
    """At 1/32 of its size such an image is one pixel; with two images there are two values."""
    settings = small(synthetic_coco, tmp_path / 'out')
    train = experiment(engine.train, monkeypatch)
    error = refused(capsys, train, '--set', *settings, *LONE)
    names_all(error, 'INPUT_SHAPE = [32, 32] and SOLVER.IMS_PER_GPU = 1 leave a BatchNorm a single value')
    assert not list((tmp_path / 'out').glob('*.pth'))
    train(['--set', *settings, *LONE, 'SOLVER.IMS_PER_GPU=2'])


def test_a_network_without_such_a_norm_is_not_refused(synthetic_coco, tmp_path, monkeypatch):
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Conv2d(3, 17, 4, stride=4)

        def forward(self, images: torch.Tensor) -> torch.Tensor | list[list[torch.Tensor]]:
            heatmaps = self.head(images)
            return [[heatmaps] * 4] if self.training else heatmaps

    settings = [*small(synthetic_coco, tmp_path / 'out'), *LONE, 'MODEL.STAGE_NUM=1']
    monkeypatch.setattr('sys.argv', ['train.py', '--set', *settings])
    engine.train(load_config('mspn.1xstg.coco'), lambda cfg: Plain())


def test_more_processes_than_gpus(synthetic_coco, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_RANK', '2')
    settings = small(synthetic_coco, tmp_path)
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, 'process 2 has no GPU: there are 2', 'start fewer processes')


def test_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    names_all(refused(capsys, benchmark, '--device', 'cuda'), '--device cuda: this machine has no CUDA device')


@pytest.fixture
def launched(monkeypatch):
    """This process as the only one of a launcher's world; gives the port at which it will listen."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    world = dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    yield port
    dist.cleanup()


def test_half_a_world(synthetic_coco, tmp_path, monkeypatch, capsys):
    """Without an address each process would train alone, and all would write the same files."""
    for name, value in {'RANK': '1', 'WORLD_SIZE': '2', 'LOCAL_RANK': '1'}.items():
        monkeypatch.setenv(name, value)
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *small(synthetic_coco, tmp_path))
    names_all(error, 'WORLD_SIZE is 2, but the environment lacks MASTER_ADDR, MASTER_PORT: set them too')


def test_port_in_use(launched, synthetic_coco, tmp_path, monkeypatch, capsys):
    with socket.create_server(('127.0.0.1', launched)):
        settings = small(synthetic_coco, tmp_path)
        error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, f'127.0.0.1:{launched}', 'check that', 'port is free')


def test_synchronised_statistics_need_gpus(launched, synthetic_coco, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    settings = [*small(synthetic_coco, tmp_path), 'MODEL.SYNC_BN=True']
    error = refused(capsys, experiment(engine.train, monkeypatch), '--set', *settings)
    names_all(error, 'MODEL.SYNC_BN works on CUDA devices only', 'set it to False')


# ---------------------------------------------------------------------------------------------------- prepare

DETECTIONS = {
    'absent': (..., 'does not exist: get it again'),
    'none': ([], 'no box of a person', 'among 0 boxes'),
    'of other images': ([box(99), box(4, category_id=3)], 'no box of a person', 'among 2 boxes'),
    'in an object': ({'annotations': []}, "box records should be a list, not {'annotations': []}"),
    'a number': (5, 'box records should be a list, not 5: is it the right file?'),
    'without box': ([{'image_id': 4, 'category_id': 1, 'score': 1}], 'box 0 (image_id 4): bbox is missing'),
    'box of three': ([box(4, bbox=[1, 2, 3])], 'bbox has 3 entries, should have 4', 'correct or remove it'),
    'score in words': ([box(4, score='high')], "score = 'high' should be a number", 'correct or remove it'),
}


@pytest.mark.parametrize('case', DETECTIONS.values(), ids=DETECTIONS)
def test_detections_to_prepare(case, tmp_path, capsys):
    boxes, *pieces = case
    source, file = make_2017(tmp_path / 'download'), tmp_path / 'detections.json'
    if boxes is not ...:
        write_json(file, boxes)
    arguments = ('coco', '--source', source, '--target', tmp_path / 'COCO', '--detections', file)
    names_all(refused(capsys, prepare.main, *arguments), file, *pieces)
    assert not (tmp_path / 'COCO').exists()


def test_people_to_prepare(tmp_path, capsys):
    source = make_mpii_json(tmp_path / 'download', 'annot')
    file = write_json(source / 'annot/valid.json', [{**mpii_people()[0], 'scale': float('nan')}])
    error = refused(capsys, prepare.main, 'mpii', '--source', source, '--target', tmp_path / 'MPII')
    names_all(error, file, "person 0 (image '0.jpg'): scale = nan should be a finite number", 'correct or remove it')
    assert not (tmp_path / 'MPII').exists()


def test_a_file_name_cannot_leave_the_target(tmp_path, capsys):
    source = make_2017(tmp_path / 'download')
    file = source / 'annotations/person_keypoints_val2017.json'
    file.write_text(file.read_text().replace('000000000005.jpg', '../../../5.jpg'))
    error = refused(capsys, prepare.main, 'coco', '--source', source, '--target', tmp_path / 'COCO')
    names_all(error, file, "file_name = '../../../5.jpg' should be a path inside the images folder")
    assert not (tmp_path / 'COCO').exists()


# ---------------------------------------------------------------------------------------------------- as a user


def test_folder_to_check(tmp_path, capsys):
    error = refused(capsys, check_data.main, '--dataset', 'coco', '--root', tmp_path / 'nowhere')
    names_all(error, f'--root {tmp_path}/nowhere is not a folder', 'python -m lib.tools.prepare')


def test_one_line_from_a_real_command(synthetic_coco, tmp_path):
    """As a user sees it, with nothing of Python's in between."""
    settings = small(tmp_path / 'nowhere', tmp_path / 'out')
    process = subprocess.run(
        [sys.executable, 'train.py', '--set', *settings],
        cwd=REPOSITORY / 'exps/mspn.2xstg.coco',
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr.startswith('error: ') and process.stderr.count('\n') == 1, process.stderr
