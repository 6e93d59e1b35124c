"""prepare own: exports in each tool's own form, from the file to what training and testing read, and to predictions."""

import dataclasses
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cvpack.files import read_json
from lib.loader import reader_of
from lib.tools.predict.__main__ import main as predict
from tests.support import exports, exports_sets
from tests.support.annotations import write_json
from tests.support.commands import names_all
from tests.support.exports import JOINTS, LIMBS, PAIRS, TROUSERS, Animal, animals
from tests.support.exports_yolo import YOLO, yolo
from tests.support.own import check, prepared, read, refused, rows

NUMBERED = tuple(f'j{i}' for i in range(len(JOINTS)))


@dataclass(frozen=True)
class Form:
    """A form of COCO's json, and what it tells."""

    write: Callable
    everybody: list[Animal]
    joints: tuple[str, ...] = JOINTS
    pairs: tuple = PAIRS
    limbs: tuple = LIMBS
    occluded: bool = True
    around: bool = False


def alone(everybody: list[Animal]) -> list[Animal]:
    """One of each image."""
    return [one for i, one in enumerate(everybody) if one.image not in {other.image for other in everybody[:i]}]


HAND, LEGS = animals(joints=21), animals(joints=14)
FORMS = {
    'COCO': Form(exports.plain, animals()),
    'CVAT': Form(exports.cvat, animals()),
    'Roboflow': Form(exports.roboflow, animals()),
    'COCO Annotator': Form(exports.coco_annotator, animals(), around=True),
    'Label Studio': Form(exports.label_studio, alone(animals()), limbs=(), occluded=False),
    'Supervisely': Form(exports.supervisely, animals(), occluded=False, around=True),
    'Datumaro': Form(exports.datumaro, animals()),
    'X-AnyLabeling': Form(exports.x_anylabeling, animals(), limbs=(), occluded=False),
    'AP-10K': Form(exports_sets.ap10k, animals()),
    'AnimalKingdom': Form(exports_sets.animal_kingdom, animals(), NUMBERED, (), (), occluded=False, around=True),
    'OneHand10K': Form(exports_sets.one_hand_10k, HAND, tuple(f'j{i}' for i in range(21)), (), (), occluded=False),
    'DeepFashion2': Form(
        exports_sets.deepfashion2, LEGS, tuple(str(i + 1) for i in range(294)[TROUSERS]), pairs=(), limbs=()
    ),
}


@pytest.mark.parametrize('name', FORMS)
def test_coco_forms(name, tmp_path, monkeypatch, capsys):
    """People, joints, boxes, names, limbs and flip pairs are those that were labelled."""
    form = FORMS[name]
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *form.write(tmp_path, form.everybody))
    check(cfg, form.everybody, form.occluded, form.around)
    keypoint = cfg.DATASET.KEYPOINT
    assert [*form.joints] == keypoint.NAMES
    assert {*map(tuple, keypoint.FLIP_PAIRS)} == {*form.pairs}
    assert {*map(tuple, keypoint.SKELETON)} == {*form.limbs}
    assert (cfg.DATASET.TRAIN.PROB_FLIP > 0) == cfg.TEST.FLIP == bool(form.pairs)


def test_splits_stay_as_they_are(tmp_path, monkeypatch, capsys):
    """Files of train and val give train and val, in either format."""
    train, val = exports.halves(animals())
    for name, form in (('coco', exports.roboflow), ('yolo', lambda *all: yolo(*all, YOLO['roboflow']))):
        folder = tmp_path / name
        cfg, _ = prepared(folder, monkeypatch, capsys, *form(folder, animals()))
        reader = reader_of(cfg)
        for records, own in ((reader.train_records(1), train), (reader.test_set('val', False).records, val)):
            assert {row[0] for row in rows(records)} == {one.image for one in own}


def test_categories_with_other_joints(tmp_path, monkeypatch, capsys):
    """They are not one: the refusal lists them with their joints, and --category takes one."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    content['categories'].append({'id': 2, 'name': 'dot', 'keypoints': ['p'], 'skeleton': []})
    content['annotations'].append(content['annotations'][0] | {'id': 99, 'category_id': 2, 'keypoints': [5, 5, 2]})
    options = '--annotations', write_json(tmp_path / 'cvat.json', content), '--images', images
    names_all(refused(tmp_path, monkeypatch, capsys, *options), 'animal', 'dot', '--category')
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options, '--category', 'animal')
    check(cfg, animals())
    names_all(printed, 'dot')


def test_categories_by_their_supercategory(tmp_path, monkeypatch, capsys):
    """SuperAnnotate's annotations name the class, which is the supercategory of its template."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    content['categories'][0] |= {'id': 1, 'supercategory': 5031}
    content['categories'].append({'id': 2, 'supercategory': 77, 'name': 'dot', 'keypoints': ['p'], 'skeleton': []})
    for row in content['annotations']:
        row['category_id'] = 5031
    content['annotations'].append(content['annotations'][0] | {'id': 99, 'category_id': 77, 'keypoints': [5, 5, 2]})
    options = '--annotations', write_json(tmp_path / 'sa.json', content), '--images', images, '--category', 'animal'
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, animals())
    assert [*JOINTS] == cfg.DATASET.KEYPOINT.NAMES
    names_all(printed, 'supercategory', 'dot')


def test_categories_of_one_name(tmp_path, monkeypatch, capsys):
    """They are told apart by their joints all the same."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    first = content['categories'][0]
    content['categories'].append(first | {'id': 2, 'keypoints': first['keypoints'][::-1]})
    content['annotations'][3]['category_id'] = 2
    options = '--annotations', write_json(tmp_path / 'roboflow.json', content), '--images', images
    names_all(refused(tmp_path, monkeypatch, capsys, *options), tmp_path / 'roboflow.json', 'animal', 'joints')


def test_joints_in_another_order(tmp_path, monkeypatch, capsys):
    """Of two files; whether the second is for val or not."""
    first, second = (
        write_json(tmp_path / name, exports.coco(own, joints))
        for name, own, joints in zip(('a.json', 'b.json'), exports.halves(animals()), (JOINTS, JOINTS[::-1]))
    )
    for options in ((first, second), (first, '--val', second)):
        error = refused(
            tmp_path, monkeypatch, capsys, '--annotations', *options, '--images', exports.draw(tmp_path / 'i')
        )
        names_all(error, first, second, 'tail')


def test_files_that_repeat_instances(tmp_path, monkeypatch, capsys):
    """They are read once, and that is told."""
    path = write_json(tmp_path / 'a.json', exports.coco(animals()))
    copy = write_json(tmp_path / 'b.json', exports.coco(animals()[2:], first=7))
    options = '--annotations', path, copy, '--images', exports.draw(tmp_path / 'images')
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, animals())
    names_all(printed, copy)


def test_species_are_trained_as_one(tmp_path, monkeypatch, capsys):
    _, printed = prepared(tmp_path, monkeypatch, capsys, *exports_sets.ap10k(tmp_path, animals()))
    names_all(printed, 'antelope', 'zebra')
    assert 'otter' not in printed  # nobody labelled one


def test_label_studio_joins_the_people_of_an_image(tmp_path, monkeypatch, capsys):
    """Of two boxes and one set of joints nobody can tell whose they are: left out, and told."""
    options = exports.label_studio(tmp_path, animals())
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    single = [one for one in animals() if sum(other.image == one.image for other in animals()) == 1]
    check(cfg, single, occluded=False)
    names_all(printed, 'Label Studio', 'YOLO')


def test_supervisely_at_an_edge(tmp_path, monkeypatch, capsys):
    """A joint at x = 0: the box from 0, 0 has the missing joints in it all the same."""
    everybody = [dataclasses.replace(one, keypoints=one.keypoints.copy()) for one in animals()]
    for one in everybody:
        one.keypoints[one.labelled.argmax(), 0] = 0
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *exports.supervisely(tmp_path, everybody))
    assert all(box[1] > 0 for _, _, _, box in read(cfg))


@pytest.mark.parametrize('place', [0, -1])
def test_boxes_that_reach_to_missing_joints(place, tmp_path, monkeypatch, capsys):
    """Which are at 0, 0 or -1, -1: the box is that of the others."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    for row, one in zip(content['annotations'], animals()):
        points = np.where(one.labelled[:, None], one.keypoints, [place, place, 0])
        row |= {'keypoints': points.flatten().tolist()}
        row['bbox'] = [place, place, *(points[:, :2].max(axis=0) - place).tolist()]
    options = '--annotations', write_json(tmp_path / 'in.json', content), '--images', images
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals(), around=True)


def test_areas_that_reach_to_missing_joints(tmp_path, monkeypatch, capsys):
    """Of boxes that do not (Supervisely's application): from the box."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    for row, one in zip(content['annotations'], animals()):
        high = one.keypoints[one.labelled, :2].max(axis=0)
        row |= {'bbox': one.hull, 'area': int(high.prod())}
    options = '--annotations', write_json(tmp_path / 'in.json', content), '--images', images
    _, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    names_all(printed, f'{len(animals()):>9}  areas from the box', 'reached to 0, 0')
    for part in ('train', 'val'):
        for row in read_json(tmp_path / f'home/dataset/farm/person_keypoints_{part}.json')['annotations']:
            assert row['area'] == pytest.approx(0.53 * row['bbox'][2] * row['bbox'][3])


def test_boxes_around_the_joints_alone(tmp_path, monkeypatch, capsys):
    """Without rectangles CVAT and Datumaro write them: kept as they are, and what adds a margin is told."""
    content, images = exports.coco(animals()), exports.draw(tmp_path / 'images')
    for row, one in zip(content['annotations'], animals()):
        row['bbox'] = one.hull
    options = '--annotations', write_json(tmp_path / 'cvat.json', content), '--images', images
    cfg, printed = prepared(tmp_path / 'kept', monkeypatch, capsys, *options)
    check(cfg, [dataclasses.replace(one, box=tuple(one.hull)) for one in animals()])
    names_all(printed, '--boxes joints')
    cfg, _ = prepared(tmp_path / 'wider', monkeypatch, capsys, *options, '--boxes', 'joints')
    check(cfg, animals(), around=True)


# -------------------------------------------------------------------------------------------- what is refused

# The file's name -> its content, and what the line names beside the file.
REFUSED = {
    'labelme2coco.json': (exports_sets.joint_boxes(animals()), ('labelme', 'X-AnyLabeling')),
    'labelme.json': (exports_sets.labelme(animals()[0]), ('labelme', 'X-AnyLabeling')),
    'darwin_coco.json': (exports_sets.darwin_coco(animals()), ('Darwin', 'skeleton')),
    'darwin.json': (exports_sets.darwin(animals()[0]), ('Darwin',)),
    'via.json': ({'_via_settings': {}, '_via_img_metadata': {}}, ('VGG', 'own_data.md')),
    'via_coco.json': (exports_sets.via_coco(), ('VGG', 'own_data.md')),
    'min.json': ([{'image': 'ash.jpg', 'annotation_id': 1, 'annotator': 1}], ('Label Studio', 'YOLO')),
    'labelbox.json': ([{'data_row': {'id': 'a'}, 'projects': {}}], ('Labelbox', 'own_data.md')),
    'labelbox1.json': ([{'ID': 'x', 'DataRow ID': 'y', 'Label': {}}], ('Labelbox', 'own_data.md')),
    'encord.json': ([{'label_hash': 'x', 'data_units': {}}], ('Encord', 'own_data.md')),
    'results.json': ([{'image_id': 1, 'keypoints': [9, 9, 1], 'score': 0.5}], ('detected', 'name the annotations')),
    'notes.json': (exports_sets.label_studio_notes(), ('Label Studio', 'data.yaml', 'kpt_shape')),
}


@pytest.mark.parametrize('name', REFUSED)
def test_files_without_joints_in_cocos_form(name, tmp_path, monkeypatch, capsys):
    """One line that names the file, whose it is, and a way that this tool has."""
    content, pieces = REFUSED[name]
    images = exports.draw(tmp_path / 'images')
    path = write_json(tmp_path / name, content)
    error = refused(tmp_path, monkeypatch, capsys, '--annotations', path, '--images', images)
    names_all(error, path, *pieces)


@pytest.mark.parametrize(
    'name, content, pieces',
    [
        ('export.zip', b'PK\x03\x04', ('unpack',)),
        ('annotations.xml', b'<?xml version="1.0"?><annotations/>', ('CVAT', 'COCO Keypoints')),
        ('points.CSV', b'scorer,me', ('table', 'own_data.md')),
        ('labels.slp', b'\x89HDF', ('table', 'own_data.md')),
        ('animals.ndjson', b'{}\n{}', ('every line', 'data.yaml')),
        ('latin1.json', '{"é": 1}'.encode('latin1'), ('UTF-8',)),
        ('latin1.yaml', 'path: é\nkpt_shape: [6, 3]'.encode('latin1'), ('UTF-8',)),
        ('pose.yaml', b'classes: {cat: [nose]}', ('no kpt_shape', 'write one')),
        ('export', None, ('folder',)),
    ],
)
def test_what_is_no_json_or_yaml(name, content, pieces, tmp_path, monkeypatch, capsys):
    path = tmp_path / name
    path.write_bytes(content) if content else path.mkdir()
    options = '--annotations', path, '--images', exports.draw(tmp_path / 'images')
    names_all(refused(tmp_path, monkeypatch, capsys, *options), path, *pieces)


def test_a_folder_of_splits(tmp_path, monkeypatch, capsys):
    """The file of the one to train on is named."""
    for split in ('test', 'train', 'valid'):
        write_json(tmp_path / split / '_annotations.coco.json', {})
    error = refused(tmp_path, monkeypatch, capsys, '--annotations', tmp_path)
    names_all(error, f'like {tmp_path / "train/_annotations.coco.json"}')


@pytest.mark.parametrize('name', ['anotations.json', 'data.yaml'])
def test_a_file_that_is_not_there(name, tmp_path, monkeypatch, capsys):
    options = '--annotations', tmp_path / name, '--images', exports.draw(tmp_path / 'images')
    names_all(refused(tmp_path, monkeypatch, capsys, *options), tmp_path / name, 'does not exist', 'path')


# ---------------------------------------------------------------------------------------- from file to prediction

# A small network for two iterations; all that the experiment says of its data stays.
SMALL = (
    'MODEL.BACKBONE=Res-18',
    'MODEL.WIDTH=16',
    'MODEL.UPSAMPLE_CHANNEL_NUM=16',
    'MODEL.WEIGHT=',
    'MODEL.DEVICE=cpu',
    'SOLVER.IMS_PER_GPU=2',
    'SOLVER.MAX_ITER=2',
    'SOLVER.CHECKPOINT_PERIOD=1',
    'DATALOADER.NUM_WORKERS=0',
)


def run_experiment(patch: pytest.MonkeyPatch, script: Path, *arguments: str) -> None:
    """The script as it stands, in this process."""
    patch.setattr(sys, 'argv', [str(script), *arguments, '--set', *SMALL])
    patch.syspath_prepend(script.parent)
    patch.delitem(sys.modules, 'config', raising=False)  # of another experiment
    try:
        runpy.run_path(str(script), run_name='__main__')
    finally:
        sys.modules.pop('config', None)


@pytest.mark.parametrize('form', [exports.roboflow, lambda *all: yolo(*all, YOLO['ultralytics'])])
def test_from_file_to_prediction(form, tmp_path, monkeypatch, capsys):
    """Train, test and predict, with the files as `prepare own` wrote them."""
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *form(tmp_path, animals()))
    folder = tmp_path / 'exps/mspn.2xstg.farm'
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    run_experiment(monkeypatch, folder / 'train.py')
    run_experiment(monkeypatch, folder / 'test.py', '-i', 'last')
    assert 'PCK@0.1' in capsys.readouterr().out
    weights, output = Path(cfg.OUTPUT_DIR) / 'iter-last.pth', tmp_path / 'predicted'
    pictures = exports.draw(tmp_path / 'new')
    predict(['--weights', str(weights), '--input', str(pictures), '--output', str(output), '--device', 'cpu'])
    assert len({file.stem for file in output.rglob('*.jpg')}) == len(exports.IMAGES)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
