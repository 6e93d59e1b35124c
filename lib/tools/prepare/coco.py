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
from lib.tools.prepare.layout import as_json, count_absent, place

ADDRESS = 'http://images.cocodataset.org'
# The published names of the two sets of annotations, and the 2017 download's name for the same images.
SETS = {'train_val_minus_minival_2014.json': 'train2017', 'minival_2014.json': 'val2017'}
NOT_COMPARABLE = 'AP from annotated boxes is not comparable with the published figures'
VALIDATION_SET = 'minival_2014.json'
TEST_SET, TEST_SPLIT = 'test_dev.json', 'test2017'


def prepare_coco(source: Path, target: Path, detections: Path | None, test_detections: Path | None) -> None:
    """Links the images and writes (2017) or links (2014) the annotations and the boxes to test on.

    Of the 2017 download only the file names in the annotations change: they get their folder in front, which
    is how the data set finds them. Everything is read and checked before anything is written. Raises
    InputError for what is missing, unfit or in the way.
    """
    files = _annotation_files(source)
    if test_detections and TEST_SET not in files:
        raise InputError(
            f'--test-detections needs annotations/image_info_test-dev2017.json and {TEST_SPLIT} in {source}: '
            f'get {ADDRESS}/annotations/image_info_test2017.zip and {ADDRESS}/zips/{TEST_SPLIT}.zip'
        )
    sets = {name: _read_annotations(name, path, split) for name, (path, split) in files.items()}
    boxes = {'minival_2014_det.json': _validation_boxes(sets[VALIDATION_SET], target, detections)}
    if test_detections:
        boxes['test_dev_det.json'] = _checked_boxes(test_detections, sets[TEST_SET])
    folders = _check_images(source, [image for data in sets.values() for image in data['images']])

    for folder, (origin, counts) in folders.items():
        path = target / 'images' / folder
        print(f'{path}: {place(path, origin)}, {counts}')
    for name, data in sets.items():
        path, (origin, split), annotations = (
            target / 'gt_json' / name,
            files[name],
            data.get('annotations', []),
        )
        done = place(path, as_json(data) if split else origin)
        people = len(annotated_boxes(annotations))
        print(
            f'{path}: {done}, {len(data["images"])} images, {len(annotations)} annotations, {people} of them '
            'people with keypoints'
        )
    for name, (content, counts) in boxes.items():
        path = target / 'det_json' / name
        print(f'{path}: {place(path, content)}, {counts}')


def _annotation_files(source: Path) -> dict[str, tuple[Path, str]]:
    """{published name: (annotation file, the folder that its file names leave out)}."""
    folder = source / 'annotations'
    files = {name: (folder / f'person_keypoints_{split}.json', split) for name, split in SETS.items()}
    if any(path.is_file() for path, _ in files.values()):
        test = folder / 'image_info_test-dev2017.json'
        if test.is_file() and _image_folder(source, TEST_SPLIT):
            files[TEST_SET] = (test, TEST_SPLIT)
        for path, _ in files.values():
            if not path.is_file():
                raise InputError(f'no file {path}: get {ADDRESS}/annotations/annotations_trainval2017.zip')
        return files
    for folder in (source, source / 'annotations', source / 'gt_json'):
        if all((folder / name).is_file() for name in SETS):
            return {name: (folder / name, '') for name in SETS}
    raise InputError(
        f'{source} is no COCO download: looked for annotations/person_keypoints_{{train,val}}2017.json '
        f'(get {ADDRESS}/annotations/annotations_trainval2017.zip), then for {" and ".join(SETS)} in it, in '
        'annotations and in gt_json'
    )


def _read_annotations(name: str, path: Path, split: str) -> dict[str, Any]:
    """The annotations that become the set of this published name, fit to train on or to test against."""
    data = read_json(path)
    listed = listed_images(data, path)
    if name != TEST_SET:
        labelled_people(data, path, listed, len(COCO.joint_names), min_keypoints=1)
    if name == VALIDATION_SET:
        check_ground_truth(data, path, joint_count(data, len(COCO.joint_names)))
    if split:
        for image in data['images']:
            image['file_name'] = f'{split}/{image["file_name"]}'
    return data


def _image_folder(source: Path, folder: str) -> Path | None:
    return next((path for path in (source / folder, source / 'images' / folder) if path.is_dir()), None)


def _check_images(source: Path, images: list[dict]) -> dict[str, tuple[Path, str]]:
    """{folder under images: (where it is in the download, what to say of its images)}."""
    names = defaultdict(set)
    for image in images:
        folder, _, name = image_path(image['file_name']).rpartition('/')
        if not folder:
            raise InputError(f'{name} tells no folder: a file name is COCO_val2014_1.jpg or val2017/1.jpg')
        names[folder].add(name)
    folders = {}
    for folder in names:
        origin, address = _image_folder(source, folder), f'{ADDRESS}/zips/{folder}.zip'
        if origin is None:
            raise InputError(f'no folder {source / folder} or {source / "images" / folder}: get {address}')
        folders[folder] = origin, count_absent(origin, names[folder], address)
    return folders


def _validation_boxes(data: dict, target: Path, detections: Path | None) -> tuple[bytes | Path, str]:
    """What to place as the validation set's detections, and what to say of it."""
    present = target / 'det_json' / 'minival_2014_det.json'
    if detections or present.is_file():
        return _checked_boxes(detections or present, data)
    boxes = annotated_boxes(data.get('annotations', []))
    return as_json(boxes), (
        f'{len(boxes)} annotated boxes in place of detections: {NOT_COMPARABLE} (give --detections FILE)'
    )


def _checked_boxes(path: Path, data: dict) -> tuple[bytes, str]:
    """A detector's json in COCO's results format, and what to say of it."""
    content = read_json(path)
    boxes = person_boxes(content, path, listed_images(data, path))
    people = sum(box['category_id'] == PERSON for box in content)
    unknown = people - len(boxes.boxes) - boxes.left_out
    annotated = boxes.rows.column('source').count('annotation')
    counts = f'{len(content)} boxes, {people} of people, {unknown} of those on images that are not listed'
    counts += f', {boxes.left_out} of no size or not finite' if boxes.left_out else ''
    return path.read_bytes(), f'{counts}, {annotated} annotated: {NOT_COMPARABLE}' if annotated else counts
