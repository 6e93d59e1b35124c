"""What the official servers would refuse is refused here, in a line."""

import numpy as np
import pytest
import scipy.io
import torch

from cvpack.files import read_json
from lib import engine
from lib.config import override
from lib.datasets.checks import Issue
from lib.evaluation.submission import check_coco, check_mpii
from lib.models.mspn import build_mspn
from lib.tools import check_submission
from tests.support.annotations import MISSING, change, write_json
from tests.support.commands import experiment, names_all, refused
from tests.support.settings import load_config, tiny_settings

ROW = {'image_id': 7, 'category_id': 1, 'keypoints': [12.5] * 51, 'score': 0.5}


def coco_files(folder, rows):
    listing = folder / 'test_dev.json'
    write_json(listing, {'images': [{'id': image, 'file_name': f'{image}.jpg'} for image in (7, 8)]})
    write_json(folder / 'results.json', rows)
    return folder / 'results.json', listing


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'image_id': 9}, 'image_id is not listed'),
        ({'image_id': '7'}, "image_id = '7'"),
        ({'category_id': 2}, 'category_id = 2 should be 1'),
        ({'keypoints': [1.0] * 34}, 'keypoints has 34 entries, should have 51'),
        ({'keypoints': [float('nan')] * 51}, 'finite'),
        ({'score': float('inf')}, 'score = inf'),
        ({'score': MISSING}, 'score is missing'),
    ],
)
def test_a_person_that_coco_refuses(tmp_path, capsys, fields, said):
    path, listing = coco_files(tmp_path, change(**fields)([dict(ROW), dict(ROW)]))
    with pytest.raises(SystemExit) as stop:
        check_submission.main([str(path), '--images', str(listing)])
    first, last = capsys.readouterr().out.splitlines()
    assert stop.value.code == 1 and '1 faults' in last
    names_all(first, path, 'person 1', said)


def test_what_coco_takes(tmp_path, capsys):
    """More than twenty people in an image too, but it counts the best."""
    path, listing = coco_files(tmp_path, [ROW] * 21 + [{**ROW, 'image_id': 8}] * 20)
    check_submission.main([str(path), '--images', str(listing)])
    odd, last = capsys.readouterr().out.splitlines()
    assert '1 images have more than 20 people (at most 21)' in odd and last.endswith('no faults')
    path, _ = coco_files(tmp_path, [ROW] * 20)
    assert check_coco(path, listing, 17) == []


def test_a_long_list_of_faults_is_cut(tmp_path, capsys):
    path, listing = coco_files(tmp_path, [{**ROW, 'image_id': 9}] * 12)
    with pytest.raises(SystemExit):
        check_submission.main([str(path), '--images', str(listing)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and lines[-2] == 'and 2 more' and '12 faults' in lines[-1]


@pytest.mark.parametrize('content', [[], {}, [3]])
def test_a_file_of_another_kind(tmp_path, content):
    path, listing = coco_files(tmp_path, content)
    faults = []
    check_coco(path, listing, 17, lambda kind, message: faults.append((kind.fatal, message)))
    assert faults and faults[0][0] and str(path) in faults[0][1]


def test_the_list_of_images_is_needed(tmp_path, capsys):
    path, _ = coco_files(tmp_path, [ROW])
    assert '--images' in refused(capsys, check_submission.main, path)


def mat(folder, people=3, joints=16, fields=('image', 'image_index', 'person_index', 'point'), **changes):
    pred = np.zeros(people, [(name, 'O') for name in fields])
    for number, person in enumerate(pred):
        points = np.zeros(joints, [(name, 'O') for name in ('id', 'x', 'y')])
        points['id'], points['x'], points['y'] = np.arange(joints), 10.5, 20.5
        values = {'image': f'{number}.jpg', 'image_index': 5 + number, 'person_index': 1, 'point': points}
        for name in fields:
            person[name] = values[name]
    for name, value in changes.items():
        if name in ('id', 'x', 'y'):
            pred[-1]['point'][name][3] = value
        else:
            pred[-1][name] = value
    scipy.io.savemat(folder / 'pred.mat', {'pred': pred})
    return folder / 'pred.mat'


def faults_of(path, **options) -> list[str]:
    found = []

    def report(kind: Issue, message: str) -> None:
        assert kind.fatal and message.count('\n') == 0 and str(path) in message
        found.append(message)

    check_mpii(path, 16, report=report, **options)
    return found


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'joints': 15}, 'pred 1: point should have ids 0 to 15'),
        ({'id': 9}, 'pred 3: point should have ids'),
        ({'x': float('nan')}, 'pred 3: point has an x or y that is not finite'),
        ({'y': 'high'}, 'is not a submission for MPII'),
        ({'image': ''}, 'pred 3: image should be'),
        ({'fields': ('image', 'point')}, 'image_index'),
        ({'fields': ('image', 'image_index', 'person_index')}, 'point'),
    ],
)
def test_what_mpii_refuses(tmp_path, changes, said):
    assert said in faults_of(mat(tmp_path, **changes))[0]


def test_what_mpii_takes(tmp_path, capsys):
    for people in (1, 3):
        assert faults_of(mat(tmp_path, people=people), people=people) == []
    assert '3 people, not 4' in faults_of(tmp_path / 'pred.mat', people=4)[0]
    write_json(tmp_path / 'test.json', [{}, {}, {}])
    check_submission.main([str(mat(tmp_path, image_index=0)), '--people', str(tmp_path / 'test.json')])
    odd, last = capsys.readouterr().out.splitlines()
    assert '1 people have no image_index and person_index' in odd and last.endswith('no faults')
    (tmp_path / 'pred.mat').write_bytes(b'MATLAB 5.0 MAT-file')
    assert 'is not a submission for MPII' in faults_of(tmp_path / 'pred.mat')[0]


def test_testing_looks_at_its_own_files(synthetic_coco, tmp_path, monkeypatch, capsys):
    """A network whose numbers went wrong: the file is refused, not announced."""
    root = tmp_path / 'COCO'
    write_json(root / 'gt_json/test_dev.json', read_json(synthetic_coco / 'gt_json/minival_2014.json'))
    write_json(root / 'det_json/test_dev_det.json', read_json(synthetic_coco / 'det_json/minival_2014_det.json'))
    (root / 'images').symlink_to(synthetic_coco / 'images')
    settings = [*tiny_settings(root, tmp_path / 'out'), 'DATALOADER.NUM_WORKERS=0']
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, settings)
    state = {name: value * float('nan') for name, value in build_mspn(cfg).state_dict().items()}
    torch.save({'model': state}, tmp_path / 'broken.pth')
    arguments = ('--weights', tmp_path / 'broken.pth', '--split', 'test', '--set', *settings)
    error = refused(capsys, experiment(engine.test, monkeypatch), *arguments)
    names_all(error, 'results.json: person 0', 'keypoints', 'finite')
    (root / 'gt_json/test_dev.json').rename(root / 'gt_json/minival_2014.json')
    (root / 'det_json/test_dev_det.json').rename(root / 'det_json/minival_2014_det.json')
    error = refused(capsys, experiment(engine.test, monkeypatch), *arguments[:2], *arguments[4:])
    names_all(error, 'results.json', 'not finite', 'another checkpoint')
