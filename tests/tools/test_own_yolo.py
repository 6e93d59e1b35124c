"""prepare own: YOLO-pose as Ultralytics and labelling tools write it, from data.yaml to what is trained on."""

import shutil

import pytest

from tests.support.commands import names_all
from tests.support.exports import IMAGES, JOINTS, PAIRS, animals, draw, halves
from tests.support.exports_yolo import YOLO, one_folder, write, yolo
from tests.support.own import check, prepared, refused

NUMBERED = [f'j{i}' for i in range(len(JOINTS))]


@pytest.mark.parametrize('name', YOLO)
def test_yolo_forms(name, tmp_path, monkeypatch, capsys):
    """People, joints, boxes and names are those that were labelled; flip_idx pairs joints without names."""
    form, everybody = YOLO[name], animals(complete=name == 'supervisely')
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *yolo(tmp_path, everybody, form))
    check(cfg, everybody, occluded=form.numbers == 3)
    keypoint = cfg.DATASET.KEYPOINT
    assert ([*JOINTS] if form.named else NUMBERED) == keypoint.NAMES
    assert {*map(tuple, keypoint.FLIP_PAIRS)} == ({*PAIRS} if form.flip or form.named else set())
    assert (cfg.DATASET.TRAIN.PROB_FLIP > 0) == cfg.TEST.FLIP == (form.flip or form.named)


def test_yolo_images_need_no_search(tmp_path, monkeypatch, capsys):
    """data.yaml leads to them, so that none is told as found elsewhere."""
    _, printed = prepared(tmp_path, monkeypatch, capsys, *yolo(tmp_path, animals(), YOLO['ultralytics']))
    assert 'ash.jpg' not in printed


def test_labels_beside_images_in_a_folder_named_images(tmp_path, monkeypatch, capsys):
    """Where Ultralytics would look for a folder named labels alone."""
    options = one_folder(tmp_path, animals(), 'train: images\nkpt_shape: [6, 3]\n')
    for file in (tmp_path / 'labels').iterdir():
        file.rename(tmp_path / 'images' / file.name)
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


def test_images_and_labels_side_by_side(tmp_path, monkeypatch, capsys):
    """In a folder of any name, as X-AnyLabeling leaves them; and in capitals."""
    for images, labels in (('pics', 'labels'), ('Images', 'Labels')):
        folder = tmp_path / images
        options = one_folder(folder, animals(), f'train: {images}\nkpt_shape: [6, 3]\n')
        (folder / 'images').rename(folder / images)
        (folder / 'labels').rename(folder / labels)
        check(prepared(folder, monkeypatch, capsys, *options)[0], animals())


def test_images_that_were_not_exported(tmp_path, monkeypatch, capsys):
    """CVAT leaves them out by default: the labels are beside the places that its lists name."""
    options = yolo(tmp_path / 'zip', animals(), YOLO['cvat'])
    (tmp_path / 'zip/images').rename(tmp_path / 'pictures')
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options[:2], '--images', tmp_path / 'pictures')
    check(cfg, animals())


@pytest.mark.parametrize('exported', [False, True])
def test_other_labels_of_the_same_names(exported, tmp_path, monkeypatch, capsys):
    """Those of the export count, whatever is beside the images, or in a set beside the export."""
    options = yolo(tmp_path / 'sets/mine', animals(), YOLO['cvat'])
    others = tmp_path / ('sets' if exported else 'pictures')
    yolo(others, animals(complete=True), YOLO['cvat'])
    gone = next((tmp_path / 'sets/mine/labels/train').iterdir())
    gone.unlink()
    if not exported:
        lists = tmp_path / 'sets/mine/train.txt'
        lists.write_text(lists.read_text().replace('images/', 'data/images/'))
        shutil.rmtree(tmp_path / 'sets/mine/images')
        (others / 'labels/train' / gone.name).unlink()
        options[3] = others
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, [one for one in animals() if one.image[:-4] != gone.stem])


def test_labels_of_two_images(tmp_path, monkeypatch, capsys):
    """In one folder beside those of the images: nobody knows whose they are."""
    options = one_folder(tmp_path, animals(), 'train: a\nval: b\nkpt_shape: [6, 3]\n')
    shutil.copytree(tmp_path / 'images', tmp_path / 'a')
    (tmp_path / 'images').rename(tmp_path / 'b')
    error = refused(tmp_path, monkeypatch, capsys, *options)
    names_all(error, tmp_path / 'labels', tmp_path / 'a', tmp_path / 'b', 'put each beside its image')


def test_a_key_as_it_should_be_comes_first(tmp_path, monkeypatch, capsys):
    """Before its other spellings, and settings of training that others write there."""
    options = yolo(tmp_path, animals(), YOLO['cvat'])
    options[1].write_text('training: true\nValid: nowhere\nTrain: nowhere\nvalidation: 0.2\n' + YOLO['cvat'].yaml)
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


def test_splits_in_any_case(tmp_path, monkeypatch, capsys):
    """CVAT names them as its subsets, such as Validation."""
    options = yolo(tmp_path, animals(), YOLO['cvat'])
    options[1].write_text(YOLO['cvat'].yaml.replace('train: ', 'Train: ').replace('val: ', 'Validation: '))
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, animals())
    assert f'val: {options[1]}' in printed


def test_a_val_that_is_not_there(tmp_path, monkeypatch, capsys):
    """As in Roboflow's data.yaml, whatever folders there are; or without labels: what can be done is said."""
    text = 'train: images\nval: {}\nkpt_shape: [6, 3]\n'
    for val in ('../valid/photos', 'more'):
        options = one_folder(tmp_path / val[-4:], animals(), text.format(val))
        draw(tmp_path / val[-4:] / 'more', {IMAGES[0]: 'none.jpg'})
        error = refused(tmp_path, monkeypatch, capsys, *options)
        names_all(error, options[1], f"val = '{val}'", 'or remove it: --val-share')


def test_a_path_below_the_folder_of_the_images(tmp_path, monkeypatch, capsys):
    """As `path: coco8-pose` is meant below the folder of all data sets."""
    options = one_folder(tmp_path / 'datasets/farm', animals(), 'path: farm\ntrain: images\nkpt_shape: [6, 3]\n')
    yaml = tmp_path / 'configs/deep/farm.yaml'
    write(yaml, options[1].read_text())
    check(
        prepared(tmp_path, monkeypatch, capsys, '--annotations', yaml, '--images', tmp_path / 'datasets')[0], animals()
    )


def test_roboflow_beside_another_export(tmp_path, monkeypatch, capsys):
    """Its ../train/images is the folder beside data.yaml, also where the literal path leads to somebody else's."""
    form, mine = YOLO['roboflow'], tmp_path / 'mine'
    yolo(tmp_path, animals(complete=True), form)
    cfg, _ = prepared(mine, monkeypatch, capsys, *yolo(mine, animals(), form))
    check(cfg, animals())


def test_classes_with_other_joints(tmp_path, monkeypatch, capsys):
    """The rows of the one with fewer are filled up. They are not one: refused, and --category takes one."""
    yaml = 'train: images\nkpt_shape: [6, 3]\nnames: [animal, bird]\nkpt_names: {0: [a, b, c, d, e, f], 1: [g, h]}\n'
    options = one_folder(tmp_path, animals(), yaml)
    write(tmp_path / 'labels/oak.txt', '1 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 2' + ' 0 0 0' * 4)
    names_all(refused(tmp_path, monkeypatch, capsys, *options), 'animal', 'bird', '--category')
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options, '--category', 'animal')
    check(cfg, [one for one in animals() if one.image != 'oak.jpg'])
    assert [*'abcdef'] == cfg.DATASET.KEYPOINT.NAMES


def test_supervisely_moves_joints_in_yolo(tmp_path, monkeypatch, capsys):
    """Its rows have missing joints at the end, so that all others would be read as other joints: refused."""
    options = yolo(tmp_path, animals(), YOLO['supervisely'])
    names_all(refused(tmp_path, monkeypatch, capsys, *options), tmp_path, 'Supervisely', 'COCO')


def test_label_studio_in_yolo(tmp_path, monkeypatch, capsys):
    """With the data.yaml that a user adds, as the message about notes.json says."""
    yaml = 'train: images\nkpt_shape: [6, 3]\nnames: [animal]\nkpt_names: [nose, left_hand, right_hand, left_foot, '
    options = one_folder(tmp_path, animals(), yaml + 'right_foot, tail]\n')
    cfg, _ = prepared(tmp_path, monkeypatch, capsys, *options)
    check(cfg, animals())
    assert [*JOINTS] == cfg.DATASET.KEYPOINT.NAMES and {*map(tuple, cfg.DATASET.KEYPOINT.FLIP_PAIRS)} == {*PAIRS}


def test_names_outweigh_joints_that_mirror_themselves(tmp_path, monkeypatch, capsys):
    """As in Ultralytics' tiger-pose: every joint its own mirror, although they are named left and right."""
    form = YOLO['ultralytics, several folders']
    text = form.yaml.replace('[0, 2, 1, 4, 3, 5]', '[0, 1, 2, 3, 4, 5]')
    assert text != form.yaml
    options = yolo(tmp_path, animals(), form)
    options[1].write_text(text)
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *options)
    assert {*map(tuple, cfg.DATASET.KEYPOINT.FLIP_PAIRS)} == {*PAIRS}
    names_all(printed, 'flip_idx')


def test_mirror_joints_that_have_no_sides(tmp_path, monkeypatch, capsys):
    """As where flip_idx was copied from another data set: taken, and told."""
    names = 'kpt_names: {0: [a, tip, base, left_c, right_c, d]}\n'
    yaml = f'train: images\nkpt_shape: [6, 3]\nflip_idx: [0, 2, 1, 4, 3, 5]\n{names}'
    _, printed = prepared(tmp_path, monkeypatch, capsys, *one_folder(tmp_path, animals(), yaml))
    names_all(printed, 'flip_idx', 'tip and base')
    assert 'left_c and' not in printed


def test_a_yaml_of_val_alone(tmp_path, monkeypatch, capsys):
    """With --val, as the refusal of it alone says."""
    train, val = halves(animals())
    mine = one_folder(tmp_path / 'train', train, 'train: images\nkpt_shape: [6, 3]\n')
    others = one_folder(tmp_path / 'val', val, 'val: images\nkpt_shape: [6, 3]\n')
    for folder, own in (('train', val), ('val', train)):
        for image in {one.image for one in own}:
            (tmp_path / folder / 'images' / image).unlink()
    options = *mine[:2], '--val', others[1], '--images', tmp_path
    check(prepared(tmp_path, monkeypatch, capsys, *options)[0], animals())


def test_a_name_of_two_joints(tmp_path, monkeypatch, capsys):
    """Each gets a name of its own, and what was made up is told."""
    yaml = 'train: images\nkpt_shape: [6, 3]\nkpt_names: {0: [a, a, b, c, d, e]}\n'
    cfg, printed = prepared(tmp_path, monkeypatch, capsys, *one_folder(tmp_path, animals(), yaml))
    check(cfg, animals())
    assert len({*cfg.DATASET.KEYPOINT.NAMES}) == len(JOINTS) and 'a' in cfg.DATASET.KEYPOINT.NAMES
    names_all(printed, 'renamed')


YAML = [
    ('train: images\nnames: [animal]\n', ('kpt_shape',)),
    ('images', ('kpt_shape',)),
    ('train: images\nkpt_shape: [0, 3]\n', ('data.yaml', 'kpt_shape', '[0, 3]')),
    ('train: images\nkpt_shape: [6, 2]\n', ('line 1', '[6, 2]', 23, 17)),
    ('train: images\nkpt_shape: [6, 3]\nflip_idx: [1, 2, 3, 4, 5, 6]\n', ('flip_idx', '[1, 2, 3, 4, 5, 6]')),
    ('train: images\nkpt_shape: [6, 3]\nflip_idx: ["0", b, c, d, e, f]\n', ('flip_idx',)),
    (
        'train: images\nkpt_shape: [6, 3]\nflip_idx: [5, 1, 2, 3, 4, 0]\nkpt_names: [a, left_b, right_b, c, d, e]\n',
        ('data.yaml', 'flip_idx', 'left_b', 'right_b'),
    ),
    ('train: images\nkpt_shape: [6, 3]\nnames: {animal: 0}\n', ('names', 'animal')),
    ('train: images\nkpt_shape: [6, 3]\nkpt_names: {0: [a, b, c, d, e, f, g]}\n', ('kpt_names', 6)),
    ('train: images\nkpt_shape: [6, 3]\nkpt_names: {0: [a, b]}\n', ('kpt_names', 2, 6)),
    ('train: pictures\nkpt_shape: [6, 3]\n', ('train', 'pictures')),
    ('train: labels\nkpt_shape: [6, 3]\n', ('train', 'labels')),
    ('train: data.yaml\nkpt_shape: [6, 3]\n', ('train', 'data.yaml')),
    ('train: images/ash.jpg\nkpt_shape: [6, 3]\n', ('data.yaml', 'images/ash.jpg')),
    ('train: images\nval: images\nkpt_shape: [6, 3]\n', ('val', 6, 'images')),
    ('val: images\nkpt_shape: [6, 3]\n', ('data.yaml', 'only val', '--val', 'train')),
    ('kpt_shape: [6, 3]\n', ('data.yaml', 'train')),
]


@pytest.mark.parametrize('yaml, pieces', YAML)
def test_yaml_that_does_not_fit(yaml, pieces, tmp_path, monkeypatch, capsys):
    options = one_folder(tmp_path, animals(), yaml)
    names_all(refused(tmp_path, monkeypatch, capsys, *options), tmp_path, *pieces)


BOX, JOINT = ' 0.5 0.5 0.4 0.4', ' 0.5 0.5 2'
LABELS = {
    'a class that is no integer': (b'7.5' + (BOX + 6 * JOINT).encode(), '7.5'),
    'no class': (b'nan' + (BOX + 6 * JOINT).encode(), 'nan'),
    'too few joints': (b'0' + (BOX + 5 * JOINT).encode(), 20),
    'words': (b'animal' + (BOX + 6 * JOINT).encode(), 'animal'),
    'no text': (b'\xff\xfe0\x00', 'text'),
    'pixels': (b'0 80 60 40 40' + 6 * b' 70 50 2', 'pixels'),
}


@pytest.mark.parametrize('name', LABELS)
def test_labels_that_do_not_fit(name, tmp_path, monkeypatch, capsys):
    content, piece = LABELS[name]
    options = one_folder(tmp_path, animals(), 'train: images\nkpt_shape: [6, 3]\n')
    for file in (tmp_path / 'labels').iterdir():
        file.write_bytes(content)
    names_all(refused(tmp_path, monkeypatch, capsys, *options), tmp_path / 'labels', piece)
