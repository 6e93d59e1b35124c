"""Boxes of people, from files of both of COCO's forms and from a detector, for the images that they are of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from cvpack.errors import InputError
from lib.tools.predict.boxes import BoxFile, Detector
from lib.tools.predict.media import Frame
from tests.support.commands import names_all

NAMES = ['val/000000000139.jpg', 'val/COCO_val2014_000000000140.jpg', 'val/ü x.png', 'train/1.jpg', 'val/1.jpg']
LISTED = {'images': [{'id': 7, 'file_name': '000000000139.jpg'}, {'id': 139, 'file_name': 'val/ü x.png'}]}


def box(x: int, **fields: Any) -> dict:
    return {'bbox': [x, 2, 30, 40], **fields}


def find(
    tmp_path: Path,
    content: Any,
    names: list[str] | None = NAMES,
    min_score: float = -np.inf,
    category: str | None = None,
) -> dict:
    """Names of images, or numbers of frames -> the left sides of their boxes, and the image's id, if they have any."""
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(content))
    frames = [Frame(name, None) for name in names] if names else [Frame('clip.mp4', i) for i in range(5)]
    found = BoxFile(path, names, min_score, category)(frames)
    return {
        frame.name if names else frame.number: (people.boxes[:, 0].tolist(), people.image_id)
        for frame, people in zip(frames, found)
        if len(people.boxes)
    }


FORMS = {
    'numbers at the end of names': (
        [box(1, image_id=139, score=0.9, category_id=1), box(2, image_id=140), box(3, image_id=139)],
        {NAMES[0]: ([1, 3], 139), NAMES[1]: ([2], 140)},
    ),
    'names': (
        [box(1, file_name='val/ü x.png'), box(2, file_name='val/1.jpg')],
        {NAMES[2]: ([1], None), NAMES[4]: ([2], None)},
    ),
    'names without folders': ([box(1, file_name='ü x.png')], {NAMES[2]: ([1], None)}),
    'names with more folders': ([box(1, file_name='coco/val/1.jpg')], {}),
    'a name in two folders': ([box(1, file_name='1.jpg'), box(2, file_name='ü x.png')], {NAMES[2]: ([2], None)}),
    'a name in another folder': (
        [box(1, file_name='test/ü x.png'), box(2, file_name='ü x.png')],
        {NAMES[2]: ([2], None)},
    ),
    'annotations': (
        {**LISTED, 'annotations': [box(1, image_id=7, category_id=1, iscrowd=0), box(2, image_id=139, category_id=1)]},
        {NAMES[0]: ([1], 7), NAMES[2]: ([2], 139)},
    ),
    'crowds and things': (
        [box(1, image_id=139, iscrowd=1), box(2, image_id=139, category_id=18), box(3, image_id=139)],
        {NAMES[0]: ([3], 139)},
    ),
}


@pytest.mark.parametrize('case', FORMS.values(), ids=FORMS)
def test_forms(case, tmp_path):
    content, expected = case
    if expected:
        assert find(tmp_path, content) == expected
        return
    with pytest.raises(InputError, match='none of its 1 boxes of people is of the input'):
        find(tmp_path, content)


def test_frames(tmp_path):
    assert find(tmp_path, [box(1, frame=3), box(2, frame=0), box(3, frame=3)], None) == {
        0: ([2], None),
        3: ([1, 3], None),
    }


ALONE = {
    'nothing said': [box(1), box(2)],
    'one id of no known image': [box(1, image_id=5), box(2, image_id=5)],
    'annotations': {'images': [{'id': 3, 'file_name': 'a/photo.jpg'}], 'annotations': [box(1), box(2)]},
    'annotations without images': {'annotations': [box(1, image_id=3), box(2, image_id=3)]},
}


@pytest.mark.parametrize('content', ALONE.values(), ids=ALONE)
def test_boxes_of_the_only_image(content, tmp_path):
    assert [boxes for boxes, _ in find(tmp_path, content, ['photo.jpg']).values()] == [[1, 2]]


@pytest.mark.parametrize(
    ('content', 'name'),
    [
        ([box(1, image_id=5)], '000000000139.jpg'),
        ([box(1, image_id=5), box(1, image_id=6)], 'photo.jpg'),
        ([box(1, file_name='b.jpg')], 'photo.jpg'),
        ({**LISTED, 'annotations': [box(1, image_id=7)]}, 'photo.jpg'),
    ],
)
def test_boxes_of_another_image_than_the_only_one(content, name, tmp_path):
    with pytest.raises(InputError, match='boxes of people is of the input'):
        find(tmp_path, content, [name])


NAMED = [{'id': 1, 'name': 'person'}, {'id': 19, 'name': 'horse'}, {'id': 2, 'name': 'cat'}, {'id': 3, 'name': 'cat'}]


def test_categories_by_number_and_by_name(tmp_path, capsys):
    boxes = [box(1, category_id=19), box(2, category_id=1), box(3, category_id=1, iscrowd=1), box(4, category_id=19)]
    content = {**LISTED, 'categories': NAMED, 'annotations': [b | {'image_id': 7} for b in boxes]}
    for category in ('19', 'horse'):
        assert find(tmp_path, content, category=category) == {NAMES[0]: ([1, 4], 7)}
        said = "2 boxes of category 19; left out: 1 of category 1 ('person'), 1 crowds"
        names_all(capsys.readouterr().out, said)
    assert find(tmp_path, content) == {NAMES[0]: ([2], 7)}
    names_all(capsys.readouterr().out, "1 boxes of people; left out: 2 of category 19 ('horse'), 1 crowds")
    for category in ('cow', 'cat'):
        with pytest.raises(InputError, match=rf"--category {category}: the categories that .* 'horse' \(19\)"):
            find(tmp_path, content, category=category)
    with pytest.raises(InputError, match=r'no boxes of people .*left out: 2 of category 19 \('):
        find(tmp_path, content | {'annotations': [b for b in content['annotations'] if b['category_id'] == 19]})


def test_low_scores_are_left_out(tmp_path):
    content = [box(1, image_id=139, score=0.3), box(2, image_id=139, score=0.5), box(3, image_id=139)]
    assert find(tmp_path, content, min_score=0.5) == {NAMES[0]: ([2, 3], 139)}
    assert find(tmp_path, content, min_score=2) == {}


def test_boxes_of_no_size_are_counted(tmp_path, capsys):
    slips = [[1, 2, 0, 9], [1, 2, 9, -1], [1, 2, float('nan'), 9], [1, 2, float('inf'), 9]]
    content = [box(1, image_id=139), *({'image_id': 139, 'bbox': slip} for slip in slips)]
    assert find(tmp_path, content) == {NAMES[0]: ([1], 139)}
    names_all(capsys.readouterr().out, '1 boxes of people; left out: 4 empty or not finite')


def test_boxes_of_other_images_are_counted(tmp_path, capsys):
    content = [box(1, image_id=139), box(2, image_id=5), box(3, image_id=6)]
    assert find(tmp_path, content) == {NAMES[0]: ([1], 139)}
    names_all(capsys.readouterr().out, 'boxes.json: 2 boxes left out')


REFUSALS = {
    'words': ('boxes', 'box records should be a list'),
    'no images': ({'annotations': []}, 'is not a COCO annotation file: it lists no images'),
    'no annotations': (LISTED, 'its box records should be a list, not None'),
    'nobody': ([], 'has no boxes of people'),
    'strangers': ([box(1, image_id=5)], 'none of its 1 boxes', '(the first: image_id 5)'),
    'an id that is not listed': ({**LISTED, 'annotations': [box(1, image_id=140)]}, 'none of its 1 boxes'),
    'neither name nor id': ([box(1)], 'box 0', 'image_id = None should be an integer'),
    'some without names': ([box(1, file_name='1.jpg'), box(2)], 'box 1', 'file_name = None should be a path'),
    'empty boxes alone': (
        [{'image_id': 139, 'bbox': [1, 1, 0, 9]}],
        'no boxes of people (left out: 1 empty or not finite)',
    ),
    'no box': ([{'image_id': 139}], 'bbox is missing'),
    'a score in words': ([box(1, image_id=139, score='high')], "score = 'high' should be a number"),
}


@pytest.mark.parametrize('case', REFUSALS.values(), ids=REFUSALS)
def test_refusals(case, tmp_path):
    content, *pieces = case
    with pytest.raises(InputError) as refusal:
        find(tmp_path, content)
    names_all(str(refusal.value), 'boxes.json', *pieces)
    assert '\n' not in str(refusal.value)


# ---------------------------------------------------------------------------------------------------- detectors


class StandIn(torch.nn.Module):
    """Answers as torchvision's detectors do; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.weight = [], torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert not self.training
        self.asked.append(images)
        boxes = torch.tensor([[1.0, 2, 11, 22], [5, 5, 6, 6], [0, 0, 9, 9], [3, 3, 3, 8]])
        labels, scores = torch.tensor([1, 18, 1, 1]), torch.tensor([0.9, 0.95, 0.4, 0.99])
        return [{'boxes': boxes * self.weight, 'labels': labels, 'scores': scores}] * len(images)


def test_what_a_detector_sees_and_what_is_made_of_it(tmp_path, monkeypatch):
    network = StandIn()
    monkeypatch.setattr(torchvision.models, 'get_model', lambda *names, **options: network)
    torch.save({'model': {'weight': torch.full((1,), 2.0)}}, tmp_path / 'detector.pth')
    detector = Detector('torchvision:ssd300_vgg16', tmp_path / 'detector.pth', 0.5, torch.device('cpu'))
    image = np.zeros((6, 8, 3), np.uint8)
    image[1, 2] = 255, 51, 0  # blue, green, red
    found = detector([Frame(str(i), None, image) for i in range(6)])
    assert [len(images) for images in network.asked] == [4, 2]
    seen = network.asked[0][0]
    assert seen.shape == (3, 6, 8) and seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, 1, 2], torch.tensor([0, 0.2, 1]))
    assert len(found) == 6 and found[5].category == 1
    detector = Detector('torchvision:ssd300_vgg16', tmp_path / 'detector.pth', 0.5, torch.device('cpu'), '18')
    other = detector([Frame('a', None, image)])[0]
    assert other.boxes.tolist() == [[10, 10, 2, 2]] and other.category == 18
    np.testing.assert_allclose(found[5].boxes, [[2, 4, 20, 40]])
    np.testing.assert_allclose(found[5].scores, [0.9])


def test_a_detector_of_torchvisions_runs(tmp_path):
    """Never trained, but made to take all that it finds for people."""
    name = 'ssdlite320_mobilenet_v3_large'
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    for layer in network.head.classification_head.module_list:
        layer[-1].bias.data.view(-1, 91)[:, 1] = 5
    torch.save(network.state_dict(), tmp_path / 'detector.pth')
    detector = Detector(f'torchvision:{name}', tmp_path / 'detector.pth', 0.0, torch.device('cpu'))
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    people = detector([Frame('a.jpg', None, image)])[0]
    assert people.boxes.shape == (len(people.scores), 4) and len(people.scores)
    corner = people.boxes[:, :2] + people.boxes[:, 2:]
    assert (people.boxes >= 0).all() and (corner <= [90.001, 60.001]).all()


@pytest.mark.parametrize(
    'name, pieces',
    [
        ('ssd300_vgg16', ['write it as torchvision:NAME', 'fasterrcnn_resnet50_fpn_v2']),
        ('torchvision:resnet50', ['--detector torchvision:resnet50', 'NAME one of']),
        ('torchvision:ssdlite320_mobilenet_v3_large', ['detector.pth does not fit this model']),
    ],
)
def test_other_detectors_are_refused(tmp_path, name, pieces):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'detector.pth')
    with pytest.raises(InputError) as refusal:
        Detector(name, tmp_path / 'detector.pth', 0.5, torch.device('cpu'))
    names_all(str(refusal.value), *pieces)
