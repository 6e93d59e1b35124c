"""report.html: whole, of itself alone, right in what it says, and safe from what files are called."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from cvpack.files import read_json, sha256
from lib import engine
from lib.config import override
from lib.datasets.checks import Issue
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO, MPII
from lib.datasets.mpii import MpiiTestSet
from lib.datasets.mpii_json import read_ground_truth
from lib.datasets.records import Records, pack_paths
from lib.evaluation import page
from lib.evaluation.cases import GREY, Case, picture
from lib.evaluation.coco import CocoEvaluator
from lib.evaluation.mpii import MpiiEvaluator
from lib.evaluation.pckh import head_errors, pckh
from lib.evaluation.report import write_report
from lib.models.mspn import build_mspn
from tests.support.commands import call
from tests.support.evaluation import SIGMAS, pckh_in_percent, person
from tests.support.settings import load_config, tiny_settings

VOID = {'meta', 'img', 'br'}
HOSTILE = '<script>alert("x")&amp;</script>\'.jpg'


class Page(HTMLParser):
    """What a browser finds: every tag closed in its turn, the text, what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.fetched = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ('src', 'href', 'data', 'action', 'xlink:href')]
        assert not [name for name, _ in attrs if name.startswith('on')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read_page(path) -> Page:
    """A page that was checked: nothing of it is fetched, nothing runs."""
    text = path.read_text()
    found = Page(text)
    assert all(source.startswith('data:image/jpeg;base64,') for source in found.fetched)
    assert not {'script', 'link', 'iframe', 'object', 'base'} & set(found.tags)
    assert 'url(' not in text and '@import' not in text
    assert "default-src 'none'" in text.replace('&#x27;', "'")
    assert {'html', 'head', 'title', 'style', 'body'} <= set(found.tags)
    return found


def content(ground_truth, sigmas=SIGMAS, **changes) -> dict:
    fields = {
        'experiment': 'mspn.2xstg.coco',
        'weights': '/somewhere/iter-96000.pth',
        'weights_sha256': 'f' * 64,
        'truth': str(ground_truth),
        'results': 'results.json',
        'sigmas': list(sigmas),
        'boxes': 1234,
        'boxes_from': 'detector',
        'flip': True,
        'git_revision': 'abc',
        'config': {'INPUT_SHAPE': [256, 192], 'MODEL': {'STAGE_NUM': 2, 'BACKBONE': 'Res-50'}},
    }
    return {**fields, **changes}


def write(tmp_path, found, file_name='a.jpg', **changes):
    """A page on two people in an image, and one whose image is absent. found: points of detections by image"""
    random = np.random.default_rng(0)
    points = random.uniform(20, 120, (3, 17, 2)).round()
    seen = np.full(17, 2)
    people = [person(points[i], i + 1, image, seen, area=5000.0) for i, image in enumerate([1, 1, 2])]
    images = [{'id': 1, 'file_name': file_name}, {'id': 2, 'file_name': 'absent.jpg'}]
    ground_truth = tmp_path / 'truth.json'
    ground_truth.write_text(json.dumps({'images': images, 'annotations': people, 'categories': [{'id': 1}]}))
    rows = [
        {'image_id': image, 'category_id': 1, 'score': score, 'keypoints': np.column_stack([p, seen]).ravel().tolist()}
        for image, p, score in found(points)
    ]
    (tmp_path / 'images' / file_name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(tmp_path / 'images' / 'a.jpg'), np.full((150, 160, 3), 90, np.uint8))
    (tmp_path / 'images' / 'a.jpg').rename(tmp_path / 'images' / file_name)
    dataset = dataclasses.replace(COCO.at(tmp_path), val_json=ground_truth.name)
    evaluator = CocoEvaluator(dataset, CocoReader(dataset).test_set('val', gt_boxes=True))
    return write_report(content(ground_truth, **changes), {'AP': '12.3'}, evaluator, rows, tmp_path)


def test_a_page_on_good_and_bad_detections(tmp_path):
    """The second person's wrists are exchanged, the third is not found, and somebody is seen in the first's image."""

    def found(points):
        second = points[1].copy()
        second[[9, 10]] = second[[10, 9]]
        return [(1, points[0], 0.9), (1, second, 0.8), (1, points[0] + 3000, 0.7)]

    path = write(tmp_path, found)
    shown = read_page(path)
    text = ' '.join(shown.texts)
    for piece in ('mspn.2xstg.coco', 'f' * 64, '1,234, from detectors', '2 x Res-50, input 256x192', '12.3'):
        assert piece in text
    rows = re.findall(r'<tr><td>(\w+)</td><td>([\d,]+ \w+)</td>', path.read_text())
    assert dict(rows) == {
        'jitter': '0 joints',
        'inversion': '2 joints',
        'swap': '0 joints',
        'miss': '0 joints',
        'score': '2 detections',
        'background': '1 detections',
    }
    assert 'left_wrist inversion, right_wrist inversion' in text
    assert 'People not found: 1.' in text
    assert f'absent.jpg: 17 labelled joints (not shown: {Issue.MISSING.description})' in text
    assert shown.tags.count('figure') == 4 and len(shown.fetched) == 3


@pytest.mark.parametrize('field', ['experiment', 'weights', 'git_revision', 'boxes_from'])
def test_texts_are_escaped(tmp_path, field):
    """Whatever an image or an output folder is called, it is text."""
    shown = read_page(write(tmp_path, lambda points: [(1, points[0], 0.9)], HOSTILE, **{field: HOSTILE}))
    texts = ' '.join(shown.texts)
    assert texts.count(HOSTILE) >= 2


def test_escaped_pieces():
    """Names of joints and groups too, in tables, charts and attributes."""
    html = page.page(
        HOSTILE,
        [
            page.section(HOSTILE, HOSTILE, page.table([HOSTILE], [[HOSTILE]], HOSTILE)),
            page.stacked_bars({HOSTILE: [0.5, 0.5]}, [HOSTILE, HOSTILE]),
            page.bars({HOSTILE: 1.0}, HOSTILE),
            page.curves([0, 1], {HOSTILE: [0, 1]}, (HOSTILE, HOSTILE)),
            page.figure('data:', HOSTILE, HOSTILE),
        ],
    )
    shown = Page(html)
    assert 'script' not in shown.tags and ''.join(shown.texts).count(HOSTILE) == 16


def test_shares_fill_the_bar():
    widths = [
        float(width)
        for width in re.findall(r'<rect [^>]*width="([\d.]+)"', page.stacked_bars({'a': [0.25, 0.75]}, 'bc'))
    ]
    assert widths == pytest.approx([105, 315])


def test_a_picture_shows_both(tmp_path):
    """Truth left, prediction right; the crop around both, whatever lies far outside."""
    image = np.zeros((400, 300, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    ground_truth = np.array([[100, 100, 2], [140, 180, 2], [0, 0, 0]], float)
    prediction = np.array([[110, 110], [145, 185], [120, 150]], float)

    def sides(**changes):
        case = Case(
            **{
                'image': 'a.png',
                'ground_truth': ground_truth,
                'prediction': prediction,
                'title': '',
                'caption': '',
                **changes,
            }
        )
        data = picture(case, tmp_path, [(0, 1)], ('left_hip', 'left_knee', 'nose'))
        return np.array_split(cv2.imdecode(np.frombuffer(jpeg_of(data), np.uint8), 1), 2, axis=1)

    left, right = sides()
    assert left.max() > 150 and right.max() > 150 and np.abs(left.astype(int) - right[:, : left.shape[1]]).max() > 100
    empty, right = sides(ground_truth=None)
    np.testing.assert_allclose(empty[:, :-8], GREY, atol=20)
    assert right.max() > 150
    sides(prediction=prediction + 1e9)
    sides(ground_truth=ground_truth - [1e9, 0, 0], prediction=None)
    (tmp_path / 'a.png').write_text('no image')
    case = Case('a.png', ground_truth, prediction, '', '')
    assert picture(case, tmp_path, [(0, 1)], ('a', 'b', 'c')) is Issue.NOT_AN_IMAGE


def jpeg_of(data: str) -> bytes:
    return base64.b64decode(data.partition('base64,')[2])


def test_nothing_found_at_all(tmp_path):
    text = ' '.join(read_page(write(tmp_path, lambda points: [(2, points[0] + 9000, 0.5)])).texts)
    assert 'People not found: 3.' in text


def test_a_test_writes_it(synthetic_coco, tmp_path, monkeypatch, capsys):
    """Beside metrics.json, which names what the page and comparing need; the ground truth is parsed once for all."""
    read, reads = Path.read_bytes, []
    monkeypatch.setattr(Path, 'read_bytes', lambda path: reads.append(path.name) or read(path))
    settings = tiny_settings(synthetic_coco, tmp_path / 'out')
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, settings)
    weights = tmp_path / 'small.pth'
    torch.save({'model': build_mspn(cfg).state_dict()}, weights)
    call(monkeypatch, engine.test, '--weights', str(weights), '--set', *settings)
    folder = tmp_path / 'out/test_dir/small'
    assert reads.count(Path(COCO.val_json).name) == 1 and 'results.json' not in reads
    printed = capsys.readouterr().out
    assert f'{folder / "report.html"}: written in ' in printed
    metrics = read_json(folder / 'metrics.json')
    assert metrics['weights_sha256'] == sha256(weights) and len(metrics['weights_sha256']) == 64
    assert metrics['truth'] == str(synthetic_coco.resolve() / COCO.val_json) and metrics['results'] == 'results.json'
    shown = read_page(folder / 'report.html')
    assert metrics['weights_sha256'] in shown.texts and shown.fetched
    assert (folder / 'report.html').stat().st_size < 3e6


def test_mpii(tmp_path):
    """PCKh by joint, and cases; nothing of OKS."""
    random = np.random.default_rng(0)
    positions = random.uniform(50, 150, (16, 2, 10))
    heads = np.zeros((2, 2, 10))
    heads[1, 0] = 100  # half a head's size is 30 pixels
    missing = np.zeros((16, 10))
    missing[0, 0] = 1
    ground_truth = tmp_path / 'valid.mat'
    scipy.io.savemat(ground_truth, {'pos_gt_src': positions, 'jnt_missing': missing, 'headboxes_src': heads})
    predictions = np.dstack([positions.transpose(2, 0, 1) - 1, np.ones((10, 16))])
    predictions[:5, 10, 0] += 31
    predictions[0, 0] = 9000
    predictions[:, 6:8] = 9000
    truth = read_ground_truth(ground_truth, 10)
    errors = head_errors(predictions[..., :2], truth)
    assert np.isnan(errors[0, 0]) and errors[0, 10] == pytest.approx(31 / 60)
    assert pckh_in_percent(predictions, ground_truth)['Mean'] == pytest.approx(100 * (139 - 5) / 139)

    one_side = errors.copy()
    one_side[:, 11] = one_side[:, [0, 5]] = np.nan
    metrics = pckh(one_side)
    assert metrics['Elbow'] == 1 and np.isnan(metrics['Ankle'])  # of what is labelled

    records = Records(tmp_path, pack_paths([f'{i}.jpg' for i in range(10)]), None, None)
    evaluator = MpiiEvaluator(MPII, MpiiTestSet('val', records, ground_truth, truth))
    rows = evaluator.rows(predictions[..., :2], predictions[..., 2:])
    path = write_report(content(ground_truth, sigmas=[]), {'Mean': '96.4'}, evaluator, rows, tmp_path)
    shown = read_page(path)
    assert (
        '<td>right_wrist</td><td>10</td><td>0.258</td><td>0.517</td><td>50.0</td><td>50.0</td><td>50.0</td>'
        in path.read_text()
    )
    assert '<td>right_ankle</td><td>9</td>' in path.read_text()
    assert 'OKS' not in ' '.join(shown.texts) and shown.tags.count('figure') == 10
