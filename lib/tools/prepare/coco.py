"""`python -m lib.tools.prepare coco`: the published layout from an official COCO download."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets.coco import annotated_boxes
from lib.datasets.coco_json import PERSON, check_ground_truth, joint_count, labelled_people, listed_images, person_boxes
from lib.datasets.description import COCO
from lib.datasets.image_names import image_path
from lib.tools.prepare.layout import Files, as_json, count_missing, place_all

ADDRESS = 'http://images.cocodataset.org'
# Published names of the annotation files -> the 2017 download's names of the same sets.
SETS = {'train_val_minus_minival_2014.json': 'train2017', 'minival_2014.json': 'val2017'}
VALIDATION_SET = 'minival_2014.json'
TEST_SET, TEST_SPLIT = 'test_dev.json', 'test2017'
NOT_COMPARABLE = 'AP from annotated boxes is not comparable with published results'


def prepare_coco(source: Path, target: Path, detections: Path | None, test_detections: Path | None) -> None:
    """Links the images; links (2014) or writes (2017) the annotations; writes the boxes to test on.

    The 2017 annotations change in one thing: each file name gets its folder in front. Everything is read and checked
    before anything is written. Raises InputError for input that is missing or invalid, and for files in the way.
    """
    paths = _annotation_files(source)
    if test_detections and TEST_SET not in paths:
        raise InputError(
            f'--test-detections needs annotations/image_info_test-dev2017.json and {TEST_SPLIT} in {source}: '
            f'get {ADDRESS}/annotations/image_info_test2017.zip and {ADDRESS}/zips/{TEST_SPLIT}.zip'
        )
    sets = {name: _read_annotations(name, path, split) for name, (path, split) in paths.items()}
    boxes = {COCO.val_boxes: _validation_boxes(sets[VALIDATION_SET], target, detections)}
    if test_detections:
        boxes[COCO.test_boxes] = _checked_boxes(test_detections, sets[TEST_SET])
    files = _image_folders(source, [image for data in sets.values() for image in data['images']])
    for name, data in sets.items():
        path, split = paths[name]
        annotations = data.get('annotations', [])
        people = len(annotated_boxes(annotations))
        counts = f'{len(data["images"])} images, {len(annotations)} annotations, {people} people with keypoints'
        files[f'gt_json/{name}'] = as_json(data) if split else path, counts
    place_all(target, files | boxes)


def _annotation_files(source: Path) -> dict[str, tuple[Path, str]]:
    """{published name: (annotation file, folder to put in front of its file names)}."""
    folder = source / 'annotations'
    files = {name: (folder / f'person_keypoints_{split}.json', split) for name, split in SETS.items()}
    if any(path.is_file() for path, _ in files.values()):
        test = folder / 'image_info_test-dev2017.json'
        if test.is_file() and _image_folder(source, TEST_SPLIT):
            files[TEST_SET] = (test, TEST_SPLIT)
        for path, _ in files.values():
            if not path.is_file():
                raise InputError(f'{path} does not exist: get {ADDRESS}/annotations/annotations_trainval2017.zip')
        return files
    for folder in (source, source / 'annotations', source / 'gt_json'):
        if all((folder / name).is_file() for name in SETS):
            return {name: (folder / name, '') for name in SETS}
    raise InputError(
        f'{source} is not a COCO download: it has neither annotations/person_keypoints_{{train,val}}2017.json '
        f'(get {ADDRESS}/annotations/annotations_trainval2017.zip) nor {" and ".join(SETS)} at the top, in '
        'annotations or in gt_json'
    )


def _read_annotations(name: str, path: Path, split: str) -> dict[str, Any]:
    """The content of the annotation file that gets this published name, checked for training or evaluation."""
    data = read_json(path)
    listed = listed_images(data, path)
    if name != TEST_SET:
        labelled_people(data, path, listed, len(COCO.joint_names), min_keypoints=1)
    if name == VALIDATION_SET:
        check_ground_truth(data, path, joint_count(data, len(COCO.joint_names)))
    for image in data['images'] if split else ():
        image['file_name'] = f'{split}/{image["file_name"]}'
    return data


def _image_folder(source: Path, folder: str) -> Path | None:
    return next((path for path in (source / folder, source / 'images' / folder) if path.is_dir()), None)


def _image_folders(source: Path, images: list[dict]) -> Files:
    """The image folders of the download that these images are in. Raises InputError for one that is missing."""
    names = defaultdict(set)
    for image in images:
        folder, _, name = image_path(image['file_name']).rpartition('/')
        if not folder:
            raise InputError(
                f'{name} does not name its folder: it should look like COCO_val2014_1.jpg or val2017/1.jpg'
            )
        names[folder].add(name)
    files: Files = {}
    for folder in names:
        origin, address = _image_folder(source, folder), f'{ADDRESS}/zips/{folder}.zip'
        if origin is None:
            raise InputError(f'neither {source / folder} nor {source / "images" / folder} exists: get {address}')
        files[f'images/{folder}'] = origin, count_missing(origin, names[folder], address)
    return files


def _validation_boxes(data: dict, target: Path, detections: Path | None) -> tuple[bytes, str]:
    """The validation set's boxes as json, and counts: detections given or already there, else the annotated boxes."""
    present = target / COCO.val_boxes
    if detections or present.is_file():
        return _checked_boxes(detections or present, data)
    boxes = annotated_boxes(data.get('annotations', []))
    return as_json(boxes), f'{len(boxes)} annotated boxes (no --detections FILE): {NOT_COMPARABLE}'


def _checked_boxes(path: Path, data: dict) -> tuple[bytes, str]:
    """A file of detections in COCO's results format, and counts."""
    content = read_json(path)
    boxes = person_boxes(content, path, listed_images(data, path))
    people = sum(box['category_id'] == PERSON for box in content)
    unlisted = people - len(boxes.boxes) - boxes.left_out
    counts = f'{len(content)} boxes, {people} of people, {unlisted} of those in images that are not listed'
    if boxes.left_out:
        counts += f', {boxes.left_out} empty or not finite'
    if annotated := boxes.rows.column('source').count('annotation'):
        counts += f', {annotated} annotated: {NOT_COMPARABLE}'
    return path.read_bytes(), counts
