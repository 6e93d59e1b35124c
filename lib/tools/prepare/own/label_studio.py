"""Label Studio's COCO export: one annotation of joints per image, whatever number of people, and boxes beside it."""

from collections import defaultdict
from pathlib import Path

from cvpack.errors import InputError
from lib.tools.prepare.own.categories import as_key
from lib.tools.prepare.own.export import Repairs


def separate_people(content: dict, path: Path, repairs: Repairs) -> None:
    """Gives joints the box where there is one; leaves the joints of several people, which are mixed, out."""
    info = content.get('info')
    if not isinstance(info, dict) or info.get('contributor') != 'Label Studio':
        return
    boxes: dict[str, list] = defaultdict(list)
    for row in content['annotations']:
        if isinstance(row, dict) and not row.get('keypoints'):
            boxes[str(row.get('image_id'))].append(row.get('bbox'))
    categories = [row for row in content.get('categories') or () if isinstance(row, dict)]
    joints = {as_key(row.get('id')): len(row.get('keypoints') or ()) for row in categories}
    for number, row in enumerate(content['annotations']):
        if not isinstance(row, dict) or not isinstance(row.get('keypoints'), list) or not row['keypoints']:
            continue
        if len(row['keypoints']) != 3 * joints.get(as_key(row.get('category_id')), 0):
            raise InputError(
                f'{path}: annotation {number} has another number of joints than its category: give every label of '
                "Label Studio's KeyPointLabels a model_index of its own"
            )
        repairs.tell('instances whose joints are right only if their labels are in the order of model_index', str(path))
        where, own = f'{path}: annotation {number}', boxes[str(row.get('image_id'))]
        if len(own) == 1:
            row['bbox'], row['area'] = own[0], None
            repairs.tell("instances given their image's only box", where)
        elif own:
            row['keypoints'] = None
            repairs.tell(
                'images left out whose people Label Studio mixed into one: its YOLO export keeps them apart', where
            )
