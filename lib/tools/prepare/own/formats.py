"""Files that are not COCO's, or have no joints: what they are, and how to get joints out of the tool."""

from pathlib import Path
from typing import Any

from cvpack.errors import InputError

NEEDED = 'export it as COCO keypoints: an object with images, annotations and categories'
LABELME = (
    'X-AnyLabeling reads these files (the points of one instance need the same group_id) and exports them as COCO pose'
)
FROM_NODES = 'write COCO keypoints from skeleton.nodes of its own json (docs/own_data.md)'
BY_HAND = 'write COCO keypoints from it (docs/own_data.md)'
# Suffixes -> what the file is, and what to do.
OTHER_SUFFIXES = {
    ('.zip', '.tar', '.gz', '.7z', '.rar'): 'is an archive: unpack it, and name the file of annotations in it',
    ('.csv', '.h5', '.slp', '.mat', '.pkl'): f'is a table: {BY_HAND}',
    ('.ndjson', '.jsonl'): 'has a json object in every line: export COCO keypoints, or YOLO-pose with a data.yaml',
    ('.xml',): 'is no json: of CVAT\'s formats, export "COCO Keypoints 1.0"',
}
# A key at the top -> what the file is, and what to do.
OTHER_FORMATS = {
    'shapes': ("is labelme's own", LABELME),
    'items': ("is Datumaro's own", 'convert it with `datum convert -i FOLDER -f coco_person_keypoints -o FOLDER`'),
    '_via_img_metadata': (
        "is the VGG Image Annotator's own, and its COCO export takes each joint for a person",
        BY_HAND,
    ),
    'item': ("is V7 Darwin's own, and its COCO export has no joints", FROM_NODES),
}


def check_file(path: Path) -> None:
    """Raises InputError for a path that leads nowhere, a folder, or a format by its name, with what to do."""
    if not path.exists():
        raise InputError(f'{path} does not exist: correct the path')
    if path.is_dir():
        found = sorted(
            [*path.rglob('*.json'), *path.rglob('*.yaml')],
            key=lambda file: ('train' not in str(file.relative_to(path)), file),
        )
        raise InputError(
            f'{path} is a folder: name the file of annotations in it{f", like {found[0]}" if found else ""}'
        )
    for suffixes, what in OTHER_SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            raise InputError(f'{path} {what}')


def check_format(content: Any, path: Path) -> None:
    """Raises InputError for a json file that is not COCO's, with what to do."""
    keys = content.keys() if isinstance(content, dict) else ()
    if {'images', 'annotations'} <= {*keys}:
        return
    what, remedy = next((of for key, of in OTHER_FORMATS.items() if key in keys), ('', NEEDED))
    if not what and {*keys} == {'categories', 'info'}:
        what = "is the notes.json beside Label Studio's YOLO labels"
        remedy = (
            'write a data.yaml with train: images, names, kpt_shape: [K, 3] and kpt_names: its keypoints, and name that'
        )
    lacking = [key for key in ('images', 'annotations') if key not in keys]
    raise InputError(f'{path} {what or f"has no {lacking[0]}"}: {remedy}')


def no_joints(content: dict, path: Path) -> InputError:
    """For a file without labelled joints."""
    boxes = [row.get('bbox') for row in content['annotations']]
    crowds = [row.get('keypoints') for row in content['annotations'] if row.get('iscrowd')]
    remedy = 'export the keypoints, not only boxes'
    if 'tag_categories' in content:
        remedy = f"V7 Darwin's COCO export leaves them out: {FROM_NODES}"
    elif any(isinstance(box, list) and box[2:] == [1, 1] for box in boxes):
        remedy = f'labelme2coco made a box of 1 x 1 pixels of each point: {LABELME}'
    elif any(isinstance(joints, list) and any(joints) for joints in crowds):
        remedy = 'those with joints are marked as crowds: correct iscrowd, which is 0 for single instances'
    elif 'software/via' in str(content.get('info')):
        remedy = f"the VGG Image Annotator's COCO export takes each joint for a person: {BY_HAND}"
    elif not boxes:
        remedy = 'its annotations are empty (CVAT exports skeletons, but no points): label skeletons, or export again'
    return InputError(f'{path} has no instance with labelled joints: {remedy}')
