"""Exports as research sets distribute them, and labels that have no joints in COCO's form (see exports)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.annotations import write_json
from tests.support.exports import HEIGHT, IMAGES, JOINTS, TROUSERS, WIDTH, Animal, Options, coco, draw, halves


def ap10k(folder: Path, everybody: Sequence[Animal]) -> Options:
    """AP-10K: a category a species, all with the same joints; images in `data`, numbered."""
    names = {image: f'{number:012}.jpg' for number, image in zip((102, 811, 3050, 17, 29002, 4), IMAGES)}
    paths = []
    for split, own in zip(('train', 'val'), halves(everybody)):
        content = coco(own)
        species = ((1, 'antelope'), (9, 'otter'), (54, 'zebra'))
        content['categories'] = [content['categories'][0] | {'id': key, 'name': name} for key, name in species]
        for number, row in enumerate(content['annotations']):
            row['category_id'] = species[number % 2 * 2][0]
        for row in content['images']:
            row |= {'file_name': names[row['file_name']], 'background': 5, 'license': 1}
        paths.append(write_json(folder / f'annotations/ap10k-{split}-split1.json', content))
    return ['--annotations', paths[0], '--val', paths[1], '--images', draw(folder / 'data', names)]


def animal_kingdom(folder: Path, everybody: Sequence[Animal]) -> Options:
    """AnimalKingdom: MPII's records, a list without names, sizes or boxes; missing joints are at -1, -1."""
    records = [
        {
            'image': f'{one.image[:-4].upper()}/{one.image}',
            'animal': 'Otter',
            'animal_class': 'Mammal',
            'joints_vis': one.labelled.astype(int).tolist(),
            'joints': np.where(one.labelled[:, None], one.keypoints[:, :2], -1.0).tolist(),
            'scale': max(one.box[2:]) / 200,
            'center': [one.box[0] + one.box[2] / 2, one.box[1] + one.box[3] / 2],
        }
        for one in everybody
    ]
    draw(folder / 'dataset', {name: f'{name[:-4].upper()}/{name}' for name in IMAGES})
    return ['--annotations', write_json(folder / 'annotation/train.json', records), '--images', folder / 'dataset']


def one_hand_10k(folder: Path, everybody: Sequence[Animal]) -> Options:
    """OneHand10K: a category without joint names, and visibility 1 for all that is labelled."""
    content = coco(everybody)
    content['categories'] = [{'id': 1, 'name': 'hand'}]
    for row, one in zip(content['annotations'], everybody):
        row['keypoints'] = (one.keypoints * [1, 1, 0] + one.labelled[:, None] * [0, 0, 1]).flatten().tolist()
    path = write_json(folder / 'annotations/onehand10k_train.json', content)
    return ['--annotations', path, '--images', draw(folder / 'Train/source')]


def deepfashion2(folder: Path, everybody: Sequence[Animal]) -> Options:
    """DeepFashion2: every category has the joints of all thirteen, "1" to "294"; visibility is a float.

    everybody: with the joints of trousers alone, which are TROUSERS of the 294; the first image has shorts too
    """
    content, names = coco(everybody), [str(number) for number in range(1, 295)]
    content['categories'] = [
        {'id': key, 'name': name, 'supercategory': 'clothes', 'keypoints': names, 'skeleton': []}
        for key, name in ((7, 'shorts'), (8, 'trousers'), (9, 'skirt'))
    ]
    for row, one in zip(content['annotations'], everybody):
        points = np.zeros((len(names), 3))
        points[TROUSERS] = one.keypoints
        row |= {'category_id': 8, 'pair_id': 13, 'style': 1, 'keypoints': points.flatten().tolist()}
    shorts = np.zeros((len(names), 3))
    shorts[158:168] = [(20 + joint, 30 + joint, 2) for joint in range(10)]
    other = {'id': 99, 'category_id': 7, 'keypoints': shorts.flatten().tolist(), 'num_keypoints': 10}
    content['annotations'].append(content['annotations'][0] | other)
    path = write_json(folder / 'deepfashion2_train.json', content)
    return ['--annotations', path, '--images', draw(folder / 'train/image'), '--category', 'trousers']


def joint_boxes(everybody: Sequence[Animal]) -> dict[str, Any]:
    """labelme2coco: rectangles are boxes, and so are points, of one pixel and a category a joint."""
    content = coco(everybody)
    content['categories'] = [{'id': key, 'name': name} for key, name in enumerate(('animal', *JOINTS))]
    boxes = [{key: row[key] for key in ('image_id', 'bbox', 'area')} for row in content['annotations']]
    points = [
        {'image_id': row['image_id'], 'category_id': 1 + joint, 'bbox': [x, y, 1.0, 1.0], 'area': 1}
        for row, one in zip(content['annotations'], everybody)
        for joint, (x, y, v) in enumerate(one.keypoints.tolist())
        if v
    ]
    rows = [*({'category_id': 0} | row for row in boxes), *points]
    content['annotations'] = [{'id': number, 'iscrowd': 0, 'segmentation': []} | row for number, row in enumerate(rows)]
    return content


def darwin_coco(everybody: Sequence[Animal]) -> dict[str, Any]:
    """V7 Darwin's COCO: skeletons are left out, ids are checksums."""
    content = coco(everybody, first=2518534992)
    content['categories'] = [{'id': 886886774, 'name': 'animal', 'supercategory': 'root'}]
    for row in content['annotations']:
        del row['keypoints'], row['num_keypoints']
        row |= {'category_id': 886886774, 'extra': {}}
    return content | {'info': {'description': 'Exported from Darwin'}, 'tag_categories': []}


def darwin(one: Animal) -> dict[str, Any]:
    """V7 Darwin's own json, a file an image."""
    nodes = [
        {'name': name, 'occluded': v == 1, 'x': x, 'y': y}
        for name, (x, y, v) in zip(JOINTS, one.keypoints.tolist())
        if v
    ]
    slot = {'slot_name': '0', 'width': WIDTH, 'height': HEIGHT}
    return {
        'version': '2.0',
        'item': {'name': one.image, 'path': '/', 'slots': [slot]},
        'annotations': [{'id': 'a1', 'name': 'animal', 'skeleton': {'nodes': nodes}}],
    }


def labelme(one: Animal) -> dict[str, Any]:
    """labelme's own json, a file an image."""
    shapes = [
        {'label': name, 'points': [[x, y]], 'group_id': 1, 'shape_type': 'point', 'flags': {}}
        for name, (x, y, v) in zip(JOINTS, one.keypoints.tolist())
        if v
    ]
    return {'version': '5.5.0', 'shapes': shapes, 'imagePath': one.image, 'imageHeight': HEIGHT, 'imageWidth': WIDTH}


def label_studio_notes() -> dict[str, Any]:
    """What Label Studio writes beside label files for YOLO, instead of a data.yaml."""
    return {
        'categories': [{'id': 0, 'name': 'animal', 'keypoints': list(JOINTS)}],
        'info': {'year': 2026, 'version': '1.0', 'contributor': 'Label Studio'},
    }


def via_coco() -> dict[str, Any]:
    """The VGG Image Annotator's export to COCO: an annotation for each point."""
    about = (
        'VIA project exported to COCO format using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via/)'
    )
    point = {
        'id': 1,
        'image_id': 1,
        'category_id': 1,
        'segmentation': [],
        'area': 0,
        'bbox': [9, 9, 0, 0],
        'iscrowd': 0,
    }
    images = [{'id': 1, 'width': 160, 'height': 120, 'file_name': 'ash.jpg'}]
    return {'info': {'description': about}, 'images': images, 'annotations': [point], 'categories': []}
