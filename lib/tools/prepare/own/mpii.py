"""A json list in MPII's style, in which each person has an image, joints and their visibility, as COCO's lists."""

from pathlib import Path
from typing import Any

from cvpack.errors import InputError
from lib.datasets.checks import shown
from lib.tools.prepare.own.formats import BY_HAND

NEEDED = 'it should have image, joints ([x, y] of each) and joints_vis'
LABEL_STUDIO = "is Label Studio's own: export it as YOLO, which keeps people apart, or as COCO"
# Keys of a record -> what the file is, and what to do.
OTHER_LISTS = (
    ({'annotations', 'data'}, LABEL_STUDIO),
    ({'annotation_id', 'annotator'}, LABEL_STUDIO),
    ({'data_row'}, f"is Labelbox's own: {BY_HAND}"),
    ({'DataRow ID'}, f"is Labelbox's own: {BY_HAND}"),
    ({'label_hash'}, f"is Encord's own: {BY_HAND}"),
    ({'keypoints', 'score'}, 'has what a network detected: name the annotations'),
)


def as_coco(people: list, path: Path) -> dict[str, Any]:
    """COCO's images and annotations. Boxes are left to be taken from the joints: the scale's meaning differs.

    Raises InputError for a record without the fields.
    """
    ids: dict[str, int] = {}
    annotations = []
    for number, person in enumerate(people):
        where = f'{path}: record {number}'
        for keys, what in OTHER_LISTS if isinstance(person, dict) else ():
            if keys <= person.keys():
                raise InputError(f'{path} {what}')
        if not isinstance(person, dict) or not isinstance(person.get('image'), str):
            raise InputError(
                f'{where}: {shown(person)}: {NEEDED}, or the file be an object with images and annotations'
            )
        joints: Any = person.get('joints')
        visible: Any = person.get('joints_vis')
        if not (_is_pairs(joints) and isinstance(visible, list) and len(joints) == len(visible)):
            raise InputError(f'{where}: joints = {shown(joints)}, joints_vis = {shown(visible)}: {NEEDED}')
        image = ids.setdefault(person['image'], len(ids))
        keypoints = [value for (x, y), v in zip(joints, visible) for value in (x, y, v)]
        annotations.append({'image_id': image, 'category_id': 1, 'keypoints': keypoints})
    images = [{'id': number, 'file_name': name} for name, number in ids.items()]
    return {'images': images, 'annotations': annotations}


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, list) and len(entry) == 2 for entry in value)
