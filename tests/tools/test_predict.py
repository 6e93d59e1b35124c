"""Pictures and videos in, people's joints out: the same as a test's, whatever else lies in the folder."""

import contextlib
import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from cvpack import checkpoint
from cvpack.errors import InputError
from cvpack.files import read_json
from lib.config import override, to_plain
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.deploy.predictor import PosePredictor, whole_image
from lib.evaluation.coco import CocoEvaluator
from lib.inference import build_estimator, predict
from lib.models.mspn import build_mspn
from lib.tools.predict.__main__ import main
from lib.tools.predict.media import open_source
from tests.support.commands import names_all, refused
from tests.support.networks import fill
from tests.support.settings import load_config

DETECTIONS = COCO.val_boxes


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> Path:
    """The checkpoint of a tiny network that was never trained, of batches of three."""
    cfg = load_config('mspn.2xstg.coco')
    tiny = ['MODEL.BACKBONE=Res-18', 'MODEL.STAGE_NUM=1', 'MODEL.WIDTH=8', 'MODEL.UPSAMPLE_CHANNEL_NUM=16']
    override(cfg, [*tiny, 'INPUT_SHAPE=[64,64]', 'TEST.IMS_PER_GPU=3', 'DATALOADER.NUM_WORKERS=0'])
    state = {'model': fill(build_mspn(cfg)).state_dict(), 'config': to_plain(cfg)}
    return checkpoint.save(tmp_path_factory.mktemp('weights'), 1, state)


@pytest.fixture(scope='module')
def predictor(weights) -> PosePredictor:
    return PosePredictor(weights)


def pictures(synthetic_coco: Path) -> list[Path]:
    return sorted((synthetic_coco / 'images/val2014').iterdir())


def run(weights: Path, source: Path, output: Path, *arguments: object) -> list[dict]:
    """The rows of results.json that the command writes."""
    options = ['--weights', weights, '--input', source, '--output', output, '--device', 'cpu', *arguments]
    main([str(option) for option in options])
    return read_json(output / 'results.json')


def make_folder(synthetic_coco: Path, folder: Path) -> Path:
    """Two pictures with difficult names, one of them further down, among files that are none."""
    first, second = (path.read_bytes() for path in pictures(synthetic_coco)[:2])
    (folder / 'sub dir').mkdir(parents=True)
    (folder / 'ça va 人.jpg').write_bytes(first)
    (folder / 'sub dir/b.JPG').write_bytes(second)
    (folder / 'cut short.jpg').write_bytes(first[: len(first) // 2])
    (folder / 'a letter.png').write_text('Dear reader')
    (folder / 'notes.txt').write_text('not named as an image')
    return folder


def make_video(path: Path, synthetic_coco: Path, frames: int = 8, damaged: int | None = None) -> Path:
    """A video of MJPEG or MPEG-4 frames at 12.5 a second, 96x64; `damaged`: a frame of an .avi that becomes zeros."""
    codec = cv2.VideoWriter_fourcc(*('MJPG' if path.suffix == '.avi' else 'mp4v'))
    writer = cv2.VideoWriter(str(path), codec, 12.5, (96, 64))
    image = cv2.resize(cv2.imread(str(pictures(synthetic_coco)[0])), (96, 64))
    for i in range(frames):
        writer.write(np.roll(image, i, axis=1))
    writer.release()
    if damaged is not None:
        content = bytearray(path.read_bytes())
        chunk = content.find(b'movi') + 4
        for _ in range(damaged):
            size = struct.unpack('<I', content[chunk + 4 : chunk + 8])[0]
            chunk += 8 + size + size % 2
        size = struct.unpack('<I', content[chunk + 4 : chunk + 8])[0]
        content[chunk + 8 : chunk + 8 + size] = bytes(size)
        path.write_bytes(content)
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


# ---------------------------------------------------------------------------------------------------- predictions


def test_results_are_those_of_a_test(weights, synthetic_coco, tmp_path):
    """The command's rows for a detector's boxes are what test.py hands in for them."""
    rows = run(weights, synthetic_coco / 'images/val2014', tmp_path / 'out', '--boxes', synthetic_coco / DETECTIONS)
    cfg = PosePredictor(weights).cfg
    model = build_mspn(cfg)
    model.load_state_dict(checkpoint.load(weights)['model'])
    evaluator = CocoEvaluator(COCO, CocoReader(COCO.at(synthetic_coco)).test_set('val', gt_boxes=False))
    device = torch.device('cpu')
    found = predict(cfg, [build_estimator(cfg, model, device)], evaluator.records, device)
    expected = evaluator.rows(*found)
    assert len(rows) == len(expected) > cfg.TEST.IMS_PER_GPU
    for found in (rows, expected):
        found.sort(key=lambda row: (row['image_id'], row['score']))
    for row, other in zip(rows, expected):
        assert row['image_id'] == other['image_id'] and row['category_id'] == other['category_id']
        np.testing.assert_allclose(row['keypoints'], other['keypoints'], atol=1e-3)
        assert row['score'] == pytest.approx(other['score'], abs=1e-4)


def test_people_are_returned_by_image(predictor, synthetic_coco):
    images = [cv2.imread(str(path)) for path in pictures(synthetic_coco)[:3]]
    boxes = [
        np.array([[5.0, 5, 60, 120]]),
        np.zeros((0, 4)),
        np.array([[20.0, 10, 90, 90], [0, 0, 50, 150], [9, 9, 80, 80]]),
    ]
    found = predictor(images, boxes)
    assert [keypoints.shape for keypoints, _ in found] == [(1, 17, 2), (0, 17, 2), (3, 17, 2)]
    assert [scores.shape for _, scores in found] == [(1, 17), (0, 17), (3, 17)]
    alone = predictor(images[2:], [boxes[2][1:2]])[0]
    np.testing.assert_allclose(found[2][0][1], alone[0][0], atol=1e-3)
    assert predictor([]) == []


def test_without_boxes_an_image_is_a_person(predictor, synthetic_coco):
    images = [cv2.imread(str(path)) for path in pictures(synthetic_coco)[:2]]
    boxes = [[[0, 0, image.shape[1], image.shape[0]]] for image in images]
    for (keypoints, scores), (others, other_scores) in zip(predictor(images), predictor(images, boxes)):
        np.testing.assert_array_equal(keypoints, others)
        np.testing.assert_array_equal(scores, other_scores)


@pytest.mark.parametrize(
    'images, boxes, piece',
    [
        ([np.zeros((9, 9, 3))], None, 'float64 (9, 9, 3)'),
        ([np.zeros((9, 9), np.uint8)], None, 'uint8 (9, 9)'),
        (['a.jpg'], None, 'an image is str'),
        ([np.zeros((9, 9, 3), np.uint8)], [], '0 arrays for 1 images'),
        ([np.zeros((9, 9, 3), np.uint8)], [[[1, 1, 0, 5]]], '[[1, 1, 0, 5]]'),
        ([np.zeros((9, 9, 3), np.uint8)], [[[1, 1, np.nan, 5]]], 'nan'),
        ([np.zeros((9, 9, 3), np.uint8)], [[1, 1, 5, 5]], '[1, 1, 5, 5]'),
        ([np.zeros((9, 9, 3), np.uint8)], [[[1, 1, 5, 5], [1]]], 'should be rows of x, y, w, h'),
        ([np.zeros((9, 9, 3), np.uint8)], [[[1, 1, 1e-50, 1e-50]]], '1e-50'),
        ([np.zeros((9, 9, 3), np.uint8)], [[[1, 1, 1e30, 5]]], '1e+30'),
    ],
)
def test_what_is_no_image_or_box_is_refused(predictor, images, boxes, piece):
    with pytest.raises(InputError) as refusal:
        predictor(images, boxes)
    names_all(str(refusal.value), piece)


def test_a_box_far_away_is_of_nobody_but_harms_nothing(predictor):
    image = np.full((40, 40, 3), 90, np.uint8)
    keypoints, scores = predictor([image], [[[1e8, 1e8, 30, 30], [-5e8, 0, 9e8, 9e8]]])[0]
    predictor.draw(image, keypoints, scores)
    assert np.isfinite(keypoints).all()


# ---------------------------------------------------------------------------------------------------- pictures


def test_a_folder_with_files_that_are_no_pictures(weights, synthetic_coco, tmp_path, capsys):
    source, output = make_folder(synthetic_coco, tmp_path / 'in put'), tmp_path / 'out'
    before = {path: path.read_bytes() for path in source.rglob('*') if path.is_file()}
    rows = run(weights, source, output)
    said = capsys.readouterr().out
    names_all(
        said,
        'each whole image is taken for one person',
        "skipped 'cut short.jpg': image that is truncated or damaged",
        "skipped 'a letter.png': file that is not an image",
        f'{output}: 2 images, 2 people, 2 skipped',
    )
    assert 'notes' not in said
    assert [row['file_name'] for row in rows] == ['sub dir/b.JPG', 'ça va 人.jpg']
    written = {path.relative_to(output).as_posix() for path in output.rglob('*') if path.is_file()}
    assert written == {'results.json', 'sub dir/b.JPG', 'ça va 人.jpg'}
    for row in rows:
        picture, original = (cv2.imread(str(folder / row['file_name'])) for folder in (output, source))
        assert picture.shape == original.shape and (np.abs(picture.astype(int) - original) > 60).any()
        np.testing.assert_array_equal(row['bbox'], whole_image(original)[0])
        assert len(row['keypoints']) == 51 and 'frame' not in row and 'image_id' not in row
    assert before == {path: path.read_bytes() for path in source.rglob('*') if path.is_file()}


def test_an_output_folder_in_the_input_is_not_read_again(weights, synthetic_coco, tmp_path):
    source = make_folder(synthetic_coco, tmp_path / 'in')
    first = run(weights, source, source / 'out')
    assert run(weights, source, source / 'out') == first


def test_turned_pictures_are_set_upright(weights, synthetic_coco, tmp_path):
    """What the camera notes in a JPEG of how it was held: 6 is a quarter turn."""
    image = Image.open(pictures(synthetic_coco)[0]).crop((0, 0, 100, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / 'turned.jpg', exif=exif)
    row = run(weights, tmp_path / 'turned.jpg', tmp_path / 'out')[0]
    assert row['bbox'] == [0, 0, 60, 100]
    assert Image.open(tmp_path / 'out/turned.jpg').size == (60, 100)


def test_what_opencv_reads_by_its_content_or_name(weights, synthetic_coco, tmp_path, capsys):
    """Suffixes that OpenCV does not write are read all the same; what is passed over is counted by suffix."""
    source, jpeg = tmp_path / 'in', pictures(synthetic_coco)[0].read_bytes()
    source.mkdir()
    for name in ('a.jfif', 'b', 'c.jpg_large', 'd.JPEG'):
        (source / name).write_bytes(jpeg)
    cv2.imwrite(str(source / 'e.webp'), np.zeros((50, 40, 3), np.uint8))
    image = cv2.imread(str(pictures(synthetic_coco)[0]))
    (source / 'raw.nef').write_bytes(cv2.imencode('.tif', image)[1].tobytes())  # cameras' files begin as TIFF does
    for name in ('f.txt', 'g.TXT', 'h.heic', 'i.mp4', 'j'):
        (source / name).write_text('nothing')
    assert {row['file_name'] for row in run(weights, source, tmp_path / 'out')} == {
        'a.jfif',
        'b',
        'c.jpg_large',
        'd.JPEG',
        'e.webp',
    }
    said = '5 people, 0 skipped; passed over: 1 without suffix, 1 .heic, 1 .mp4, 1 .nef, 2 .txt'
    names_all(capsys.readouterr().out, said)
    for name in ('a.jfif', 'b', 'c.jpg_large', 'd.JPEG'):
        assert cv2.imread(str(tmp_path / 'out' / name)).shape == image.shape


@pytest.mark.parametrize('suffix', ['.gif', '.avif', '.jp2', '.pgm'])
def test_kinds_that_not_every_opencv_reads(suffix, synthetic_coco, tmp_path):
    with contextlib.suppress(cv2.error):
        image = cv2.imread(str(pictures(synthetic_coco)[0]))
        cv2.imwrite(str(tmp_path / f'a{suffix}'), image[..., 0] if suffix == '.pgm' else image)
    if not (tmp_path / f'a{suffix}').is_file():
        pytest.skip(f'this OpenCV writes no {suffix}')
    images = open_source([str(tmp_path / f'a{suffix}')], tmp_path / 'out')
    with images.saving(tmp_path / 'out') as save:
        for frame in images:
            save(frame)
    assert cv2.imread(str(tmp_path / f'out/a{suffix}')).shape == image.shape


def test_several_inputs(synthetic_coco, tmp_path, monkeypatch):
    """Files, folders and patterns; files of one name are told apart by their folders."""
    monkeypatch.chdir(tmp_path)
    for name in ('x/1.jpg', 'y/1.jpg', 'y/sub/2.jpg', 'z/3.png', 'z/3.txt'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(pictures(synthetic_coco)[0].read_bytes())
    images = open_source(['x/1.jpg', 'y', 'z/*', 'y/1.jpg'], Path('out'))
    assert images.names == ['x/1.jpg', 'y/1.jpg', 'y/sub/2.jpg', 'z/3.png', 'z/3.txt']
    with images.saving(Path('out')) as save:
        for frame in images:
            save(frame)
    assert all((Path('out') / name).is_file() for name in images.names)
    assert open_source(['*/*.jpg'], Path('other')).names == ['x/1.jpg', 'y/1.jpg']
    assert open_source(['**/*.png'], Path('out')).names == ['3.png']  # and not its own


def test_several_inputs_are_not_overwritten(weights, synthetic_coco, tmp_path, capsys):
    files = [tmp_path / 'b/1.jpg', tmp_path / 'a/b/1.jpg', tmp_path / 'b/c/1.jpg']
    for file in files:
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(pictures(synthetic_coco)[0].read_bytes())
    for output, inputs in ((tmp_path / 'a', files[:2]), (tmp_path, files)):
        error = refused(capsys, main, '--weights', weights, '--output', output, '--input', *inputs)
        names_all(error, 'holds the input, which would be overwritten')
    assert len(run(weights, files[2], tmp_path / 'b')) == 1  # b/1.jpg is no input of this


def test_a_skeleton_without_limbs(weights, synthetic_coco, tmp_path):
    """Joints alone are drawn."""
    state = checkpoint.load(weights)
    state['config']['DATASET']['KEYPOINT']['SKELETON'] = []
    torch.save(state, tmp_path / 'a.pth')
    original = pictures(synthetic_coco)[0]
    run(tmp_path / 'a.pth', original, tmp_path / 'out')
    picture = cv2.imread(str(tmp_path / 'out' / original.name))
    assert (np.abs(picture.astype(int) - cv2.imread(str(original))) > 60).any()


def test_boxes_of_one_image_and_another_category(weights, synthetic_coco, tmp_path, capsys):
    """They need no file name; those left out are counted by category."""
    boxes = [{'bbox': [5, 5, 50, 60], 'category_id': 19}, {'bbox': [9, 9, 20, 30]}, {'bbox': [1, 1, 9, 9]}]
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    arguments = weights, pictures(synthetic_coco)[0], tmp_path / 'out', '--boxes', tmp_path / 'boxes.json'
    assert [(row['category_id'], row['bbox'][0]) for row in run(*arguments)] == [(1, 9), (1, 1)]
    names_all(capsys.readouterr().out, 'boxes.json: 2 boxes of people; left out: 1 of category 19')
    boxes[1]['category_id'] = boxes[2]['category_id'] = 1
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    assert [(row['category_id'], row['bbox'][0]) for row in run(*arguments, '--category', 19)] == [(19, 5)]
    names_all(capsys.readouterr().out, 'boxes.json: 1 boxes of category 19; left out: 2 of category 1')


def test_nothing_readable_is_an_error(weights, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.jpg').write_bytes(b'')
    error = refused(capsys, main, '--weights', weights, '--input', tmp_path / 'in', '--output', tmp_path / 'out')
    names_all(error, tmp_path / 'in', 'no image in it could be read')


# ---------------------------------------------------------------------------------------------------- videos


@pytest.mark.parametrize('name', ['clip.mp4', 'clip.avi'])
def test_a_video(weights, synthetic_coco, tmp_path, capsys, name):
    rows = run(weights, make_video(tmp_path / name, synthetic_coco), tmp_path / 'out')
    assert [(row['file_name'], row['frame']) for row in rows] == [(name, i) for i in range(8)]
    frames, fps = read_video(tmp_path / 'out/clip.mp4')
    originals, _ = read_video(tmp_path / name)
    assert len(frames) == 8 and fps == 12.5
    assert frames[0].shape == (64, 96, 3) and (np.abs(frames[5].astype(int) - originals[5]) > 60).any()
    names_all(capsys.readouterr().out, 'each whole frame is taken', '8 frames, 8 people, 0 skipped')


def test_damaged_frames_are_skipped_by_number(weights, synthetic_coco, tmp_path, capsys):
    rows = run(weights, make_video(tmp_path / 'clip.avi', synthetic_coco, damaged=3), tmp_path / 'out')
    assert [row['frame'] for row in rows] == [0, 1, 2, 4, 5, 6, 7]
    assert len(read_video(tmp_path / 'out/clip.mp4')[0]) == 7
    names_all(capsys.readouterr().out, "skipped frame 3 of 'clip.avi': damaged", '7 frames, 7 people, 1 skipped')


def test_a_video_cut_short(weights, synthetic_coco, tmp_path, capsys):
    path = make_video(tmp_path / 'clip.avi', synthetic_coco)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    rows = run(weights, path, tmp_path / 'out')
    assert 0 < len(rows) < 8
    names_all(capsys.readouterr().out, f'{path} ends after {len(rows)} of the 8 frames', f'{len(rows)} frames')


def test_boxes_of_a_video_are_found_by_frame(weights, synthetic_coco, tmp_path):
    path = make_video(tmp_path / 'clip.mp4', synthetic_coco)
    boxes = [
        {'frame': 2, 'bbox': [10, 5, 30, 50]},
        {'frame': 2, 'bbox': [40, 5, 30, 50]},
        {'frame': 5, 'bbox': [1, 1, 9, 9]},
    ]
    (tmp_path / 'boxes.json').write_text(str(boxes).replace("'", '"'))
    rows = run(weights, path, tmp_path / 'out', '--boxes', tmp_path / 'boxes.json')
    assert [(row['frame'], row['bbox']) for row in rows] == [(box['frame'], box['bbox']) for box in boxes]
    assert len(read_video(tmp_path / 'out/clip.mp4')[0]) == 8
    again = run(weights, path, tmp_path / 'again', '--boxes', tmp_path / 'out/results.json')
    np.testing.assert_allclose(again[1]['keypoints'], rows[1]['keypoints'])


# ---------------------------------------------------------------------------------------------------- refusals


REFUSALS = {
    'no input': ({'--input': 'absent.jpg'}, 'absent.jpg does not exist'),
    'text': (
        {'--input': 'notes.txt'},
        '--input notes.txt: no image that this OpenCV reads (passed over: 1 .txt)',
        'one of .mp4',
    ),
    'a folder without pictures': ({'--input': 'empty'}, '--input empty: no image that this OpenCV reads; a video'),
    'a video that is none': ({'--input': 'clip.mp4'}, 'clip.mp4 cannot be opened'),
    'over the input': ({'--output': 'in'}, 'holds the input, which would be overwritten'),
    'over the image': ({'--input': 'in/cut short.jpg', '--output': 'in'}, 'would be overwritten'),
    'above the input': ({'--output': '.'}, 'would be overwritten'),
    'over some of the input': ({'--output': 'in/sub dir'}, 'a folder of the input with other files in it'),
    'a file as output': ({'--output': 'notes.txt'}, 'notes.txt is a file'),
    'below a file': ({'--output': 'notes.txt/out'}, 'notes.txt', '--output'),
    'no weights': ({'--weights': 'absent.pth'}, 'absent.pth does not exist'),
    'other weights': ({'--weights': 'notes.txt'}, 'notes.txt is not a readable checkpoint'),
    'no average': ({'--ema': None}, 'has no EMA of the weights'),
    'detector alone': ({'--detector': 'torchvision:ssd300_vgg16'}, '--detector and --detector-weights go together'),
    'a pattern of nothing': ({'--input': 'in/*.bmp'}, 'in/*.bmp does not exist'),
    'a category of nothing': ({'--category': '3'}, '--category applies to boxes'),
    'a score of nothing': ({'--min-score': '0.3'}, '--min-score applies to boxes'),
}


@pytest.mark.parametrize('case', REFUSALS.values(), ids=REFUSALS)
def test_refusals(case, weights, synthetic_coco, tmp_path, monkeypatch, capsys):
    changes, *pieces = case
    monkeypatch.chdir(tmp_path)
    make_folder(synthetic_coco, Path('in'))
    Path('empty').mkdir()
    Path('notes.txt').write_text('notes')
    Path('clip.mp4').write_bytes(bytes(100))
    before = {path: path.read_bytes() for path in Path().rglob('*') if path.is_file()}
    options = {'--weights': str(weights), '--input': 'in', '--output': 'out', **changes}
    names_all(refused(capsys, main, *(part for pair in options.items() for part in pair if part is not None)), *pieces)
    assert before == {path: path.read_bytes() for path in Path().rglob('*') if path.is_file()}


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_no_cuda_device(weights):
    with pytest.raises(InputError, match='no CUDA device'):
        PosePredictor(weights, 'cuda')


def test_a_network_of_nan_is_refused(weights, tmp_path):
    state = checkpoint.load(weights)
    for value in state['model'].values():
        value.fill_(np.nan if value.is_floating_point() else 0)
    torch.save(state, tmp_path / 'nan.pth')
    with pytest.raises(InputError, match='its network gives numbers that are not finite'):
        PosePredictor(tmp_path / 'nan.pth')([np.zeros((50, 50, 3), np.uint8)])
