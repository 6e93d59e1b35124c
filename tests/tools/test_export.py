"""Networks taken away: every format computes what the test does, and the page's script what the network does."""

import ast
import hashlib
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from cvpack import checkpoint
from lib.config import REPOSITORY, override, to_plain
from lib.datasets.synthetic import draw_image
from lib.deploy.saved import load_experiment
from lib.inference import build_decoder
from lib.models.mspn import build_mspn
from lib.models.normalize import build_normalize
from lib.tools.export import __main__ as export
from lib.tools.export.crops import find_crops
from lib.tools.export.formats import exported_estimator
from lib.utils import heatmap
from lib.utils.pixels import crop
from lib.utils.transforms import crop_matrix
from tests.support.commands import refused
from tests.support.networks import fill
from tests.support.settings import load_config

NEEDS = {'onnx': ('onnx', 'onnxruntime'), 'safetensors': ('safetensors',), 'torch-export': ()}
GRAPHS = ('onnx', 'torch-export')


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A checkpoint of a small network, its configuration, and the network, whose heatmaps have peaks near 255."""
    folder = tmp_path_factory.mktemp('export')
    cfg = load_config('mspn.2xstg.coco')
    settings = ['STAGE_NUM=1', 'BACKBONE=Res-18', 'WIDTH=8', 'UPSAMPLE_CHANNEL_NUM=16']
    override(cfg, ['INPUT_SHAPE=[64,64]', f'DATASET.ROOT={folder}', *(f'MODEL.{setting}' for setting in settings)])
    model = fill(build_mspn(cfg)).eval()
    with torch.no_grad():
        for value in (model.stage0.upsample.up4.res_conv2.bn.weight, model.stage0.upsample.up4.res_conv2.bn.bias):
            value *= 500
    ema = {'model': fill(build_mspn(cfg), seed=1).state_dict()}
    content = {'model': model.state_dict(), 'config': to_plain(cfg), 'ema': ema['model']}
    return checkpoint.save(folder, 1, content), cfg, model


@pytest.fixture(scope='module')
def crops(saved) -> np.ndarray:
    return find_crops(saved[1], None, 3)[0]


def need(form: str) -> None:
    for package in NEEDS[form]:
        pytest.importorskip(package, reason=f"{package} is not installed (pip install -e '.[export]')")


def run_file(path, form: str, crops: np.ndarray) -> list[np.ndarray]:
    """The outputs of an exported file, as a user gets them."""
    if form == 'onnx':
        import onnxruntime

        return onnxruntime.InferenceSession(path).run(None, {'crops': crops})
    outputs = torch.export.load(path).module()(torch.from_numpy(crops))
    return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]


def read_metadata(path, form: str) -> dict[str, str]:
    if form == 'onnx':
        import onnxruntime

        return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    if form == 'safetensors':
        from safetensors import safe_open

        with safe_open(path, framework='np') as file:
            return file.metadata()
    extra = {'config': '', 'weights_sha256': '', 'git_revision': ''}
    torch.export.load(path, extra_files=extra)
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in extra.items()}


def check_metadata(metadata: dict[str, str], saved) -> None:
    assert json.loads(metadata['config']) == to_plain(saved[1])
    assert metadata['weights_sha256'] == hashlib.sha256(saved[0].read_bytes()).hexdigest()
    assert metadata['git_revision']


@torch.no_grad()
def expected(saved, crops: np.ndarray) -> torch.Tensor:
    """The heatmaps of the network as it was trained: BatchNorm not folded, normalised as in training."""
    _, cfg, model = saved
    return model(build_normalize(cfg)(torch.from_numpy(crops)))


@pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::DeprecationWarning')
@pytest.mark.parametrize(
    ('form', 'half'),
    [('onnx', False), ('onnx', True), ('torch-export', False)],
)
def test_heatmaps_are_the_networks(form, half, saved, crops, tmp_path, capsys):
    """One crop, three and none, from uint8 BGR; half the bytes for half the precision; the file says what it is of."""
    need(form)
    path = tmp_path / 'new folder' / f'a.{form}'
    export.main(['--weights', f'{saved[0]}', '--format', form, '--output', f'{path}', *(['--half'] if half else [])])
    ground_truth = expected(saved, crops)
    assert ground_truth.abs().max() > 50
    for part in (crops[:1], crops, crops[:0]):
        (heatmaps,) = run_file(path, form, part)
        assert heatmaps.dtype == np.float32
        tolerance = (2e-2 if half else 1e-5) * ground_truth.abs().max().item()
        np.testing.assert_allclose(heatmaps, ground_truth[: len(part)], rtol=0, atol=tolerance)
    printed = capsys.readouterr().out
    assert '8 crops, synthetic people' in printed and 'heatmaps by at most' in printed
    weights = sum(value.numel() for key, value in saved[2].state_dict().items() if key.endswith('conv.weight'))
    assert (2 if half else 4) * weights < path.stat().st_size < (2 if half else 4) * weights + 8e5
    check_metadata(read_metadata(path, form), saved)


@pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::DeprecationWarning')
@pytest.mark.parametrize('form', GRAPHS)
def test_joints_are_those_of_decode(form, saved, crops, tmp_path):
    need(form)
    path, cfg = tmp_path / f'a.{form}', saved[1]
    export.export(saved[0], form, path, with_decode=True)
    size = torch.tensor(cfg.INPUT_SHAPE[::-1], dtype=torch.float32).expand(len(crops), 2)
    keypoints, scores = heatmap.decode(expected(saved, crops), size / 2, size / 200, cfg.INPUT_SHAPE, 5, [0.25])
    assert keypoints.std() > 5
    for part in (crops[:1], crops, crops[:0]):
        outputs = run_file(path, form, part)
        np.testing.assert_allclose(outputs[0], keypoints[: len(part)], atol=1e-3)
        np.testing.assert_allclose(outputs[1], scores[: len(part)], atol=1e-4)


@pytest.mark.parametrize('ema', [False, True], ids=['last', 'average'])
def test_safetensors_is_read_as_a_checkpoint(ema, saved, tmp_path):
    need('safetensors')
    path = tmp_path / 'a.safetensors'
    export.export(saved[0], 'safetensors', path, ema=ema)
    check_metadata(read_metadata(path, 'safetensors'), saved)
    cfg, model = load_experiment(path)
    assert cfg == saved[1]
    source = checkpoint.load(saved[0])['ema' if ema else 'model']
    assert all(torch.equal(value, source[key]) for key, value in model.state_dict().items())
    export.export(path, 'safetensors', tmp_path / 'half.safetensors', half=True)
    rounded = load_experiment(tmp_path / 'half.safetensors')[1].state_dict()
    assert all(torch.equal(value.half(), rounded[key].half()) for key, value in source.items())


def test_the_network_stays_as_it_was(saved):
    """What is exported is a copy, folded and rounded."""
    _, cfg, model = saved
    before = {key: value.clone() for key, value in model.state_dict().items()}
    exported_estimator(cfg, model, half=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('wrong', ['heatmaps', 'joints', 'scores'])
def test_a_file_that_computes_something_else_is_not_written(wrong, saved, tmp_path, monkeypatch, capsys):
    """Heatmaps off by a hundredth, four joints of ten elsewhere, or all scores a tenth higher; the old file stays."""

    def run_wrongly(_, job: export.Export):
        def outputs(crops):
            if wrong == 'heatmaps':
                return [(job.graph(torch.from_numpy(crops)) * 1.01).numpy()]
            keypoints, scores = (value.numpy() for value in job.graph(torch.from_numpy(crops)))
            if wrong == 'scores':
                return [keypoints, scores + 0.1]
            keypoints = keypoints + 50 * (np.arange(keypoints.shape[1]) < 0.4 * keypoints.shape[1])[:, None]
            return [keypoints, scores]

        return outputs

    path = tmp_path / 'a.pt2'
    path.write_text('earlier')
    monkeypatch.setitem(export.FORMATS, 'torch-export', (lambda _: b'new', run_wrongly, 'torch'))
    arguments = ['--weights', saved[0], '--format', 'torch-export', '--output', path]
    arguments += [] if wrong == 'heatmaps' else ['--with-decode']
    assert f'{path} is not written' in refused(capsys, export.main, *arguments)
    assert path.read_text() == 'earlier' and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--format', 'safetensors', '--with-decode'], 'weights and no graph to decode in'),
        (['--format', 'torchscript'], '--format torchscript is not written: take torch-export'),
        (['--format', 'torch-export', '--images', '{folder}/none'], 'is not a folder'),
        (['--format', 'torch-export', '--images', '{folder}'], 'holds no picture'),
        (['--format', 'torch-export', '--output', '/proc/none/a'], 'No such file or directory'),
    ],
)
def test_refusals(arguments, message, saved, tmp_path, capsys):
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    defaults = ['--weights', f'{saved[0]}', '--output', f'{tmp_path / "a"}']
    assert message in refused(capsys, export.main, *defaults, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('form', 'package'), [('onnx', 'onnx'), ('onnx', 'onnxruntime'), ('safetensors', 'safetensors.torch')]
)
def test_a_missing_package_is_named(form, package, saved, tmp_path, monkeypatch, capsys):
    if package == 'onnxruntime':
        need('onnx')
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ['--weights', saved[0], '--format', form, '--output', tmp_path / 'a']
    error = refused(capsys, export.main, *arguments)
    name = package.partition('.')[0]
    assert f"{name} is not installed: pip install {name}, or pip install -e '.[export]'" in error


def test_damaged_safetensors_are_refused(saved, tmp_path, capsys):
    need('safetensors')
    path = tmp_path / 'a.safetensors'
    arguments = ['--weights', f'{path}', '--format', 'torch-export', '--output', f'{tmp_path / "b"}']
    assert 'does not exist' in refused(capsys, export.main, *arguments)
    path.write_bytes(b'\xff' * 100)
    assert f'{path} is not a readable safetensors file' in refused(capsys, export.main, *arguments)


# -------------------------------------------------------------------------------------------------------- the crops


def test_crops_of_pictures_and_of_the_test_set(saved, synthetic_coco, tmp_path):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, ['INPUT_SHAPE=[64,64]', f'DATASET.ROOT={synthetic_coco}'])
    found, origin = find_crops(cfg, None, 4)
    assert found.shape == (4, 64, 64, 3) and found.dtype == np.uint8 and origin == f'test crops of {synthetic_coco}'
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((90, 50, 3), (10, 20, 30), np.uint8))
    found, origin = find_crops(cfg, tmp_path, 4)
    assert found.shape == (1, 64, 64, 3) and 'each as one person' in origin
    assert found[0, 32, 32].tolist() == [10, 20, 30]


# --------------------------------------------------------------------------------------------------------- the page


def page_script() -> str:
    return re.search(r'```python\n(.*?)```', (REPOSITORY / 'docs/export.md').read_text(), re.DOTALL)[1]


def test_the_pages_script(saved, tmp_path):
    """It needs numpy, OpenCV and onnxruntime alone, is short, and finds the joints that the network finds."""
    need('onnx')
    script = page_script()
    names = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Import)]
    imported = {alias.name for node in names for alias in node.names}
    assert imported == {'json', 'sys', 'cv2', 'numpy', 'onnxruntime'} and 'from' not in script
    assert len(script.strip().splitlines()) <= 21
    path, cfg, _ = saved
    export.export(path, 'onnx', tmp_path / 'a.onnx', with_decode=True)
    image, people = draw_image(np.random.default_rng(3))
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    command = [sys.executable, '-c', script, 'a.onnx', 'a.png', *map(str, people[0]['bbox'])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows][:2] == ['nose', 'left_eye'] and len(rows) == cfg.DATASET.KEYPOINT.NUM
    assert (cv2.imread(str(tmp_path / 'joints.jpg')) != image).any()

    x, y, w, h = people[0]['bbox']
    center, scale = np.float32([[x + w / 2, y + h / 2]]), np.float32([[w * 1.09, h * 1.135]]) / 200
    scale[:] = scale.max()  # the crop is square
    crops = crop(image, crop_matrix(center[0], scale[0], 0.0, (64, 64)), (64, 64))[None]
    center, scale = torch.from_numpy(center), torch.from_numpy(scale)
    keypoints, scores = heatmap.decode(expected(saved, crops), center, scale, (64, 64), 5, [0.25])
    np.testing.assert_allclose(np.float32([row[1:3] for row in rows]), keypoints[0], atol=0.06)
    np.testing.assert_allclose(np.float32([row[3] for row in rows]), scores[0, :, 0], atol=6e-3)


def test_joints_in_the_crop_are_in_the_middle_of_the_cell(saved):
    cfg = saved[1]
    heatmaps = torch.zeros(1, 1, 16, 16)
    heatmaps[0, 0, 5, 9] = 255
    assert (build_decoder(cfg)(heatmaps)[0, 0, :2] - torch.tensor([38.0, 22.0])).abs().max() <= 1.01
