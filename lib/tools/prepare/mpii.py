"""`python -m lib.tools.prepare mpii`: the published layout from the official .mat or the widely used json files."""

import hashlib
from pathlib import Path

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets import mpii_json
from lib.datasets.description import MPII
from lib.tools.prepare.layout import Files, as_json, count_missing, place_all
from lib.tools.prepare.mpii_mat import ADDRESS, MATRIX, Person, evaluation_mat, read_people

IMAGES = f'mpii_human_pose_v1.tar.gz from {ADDRESS}'
# The widely used split: people in the validation set, and in all.
VALIDATION_PEOPLE, ALL_PEOPLE = 2958, 25204


def prepare_mpii(source: Path, target: Path, valid_images: Path | None) -> None:
    """Links the images; links the json files and gt_valid.mat, or else writes them from the official .mat.

    The .mat does not define a validation set. valid_images, a text file of image names, does; without it, a hash of the
    image name selects about as many people as the widely used split has. Raises InputError for input that is missing or
    invalid, and for files in the way.
    """
    images = source / 'images'
    if not images.is_dir():
        raise InputError(f'no folder {images}: get {IMAGES}')
    json_folder = next((path for path in (source, source / 'annot') if (path / 'train.json').is_file()), None)
    matrix = next((path for path in (source / MATRIX, *source.glob(f'*/{MATRIX}')) if path.is_file()), None)
    if json_folder and valid_images:
        raise InputError(f'--valid-images needs {MATRIX}: the json files in {json_folder} are already split')
    if json_folder:
        files, names = _from_json(json_folder)
    elif matrix:
        files, names = _from_matrix(matrix, valid_images)
    else:
        raise InputError(
            f'{source} is not an MPII download: it has neither {MATRIX} (get mpii_human_pose_v1_u12_2.zip from '
            f'{ADDRESS}) nor train.json, valid.json and gt_valid.mat at the top or in annot'
        )
    place_all(target, {'images': (images, count_missing(images, names, IMAGES)), **files})


def _from_json(folder: Path) -> tuple[Files, set[str]]:
    """The files to link, and the names of the images in them."""
    sources = {MPII.train_json: folder / 'train.json', MPII.val_json: folder / 'valid.json'}
    if (folder / 'test.json').is_file():
        sources[MPII.test_json] = folder / 'test.json'
    else:
        print(f'{folder / "test.json"} does not exist, so no {MPII.test_json}: only --split test needs it')
    names = {
        name: mpii_json.read_people(read_json(path), path, len(MPII.joint_names), name != MPII.test_json).names
        for name, path in sources.items()
    }
    matrix, evaluated = folder / 'gt_valid.mat', len(names[MPII.val_json])
    if not matrix.is_file():
        raise InputError(f'{matrix} does not exist: get the ground truth that belongs to valid.json')
    mpii_json.read_ground_truth(matrix, evaluated)
    files: Files = {name: (path, f'{len(names[name])} people') for name, path in sources.items()}
    files[mpii_json.GROUND_TRUTH] = matrix, f'{evaluated} people'
    return files, set().union(*names.values())


def _from_matrix(matrix: Path, valid_images: Path | None) -> tuple[Files, set[str]]:
    """The files to write, and the names of the images in them."""
    people = read_people(matrix)
    labelled = [person for person in people if person.training and person.joints]
    usable = [person for person in labelled if person.located]
    test = [person for person in people if not person.training]
    located = [person for person in test if person.located]
    held_out = _listed_names(valid_images, usable) if valid_images else _hashed_names(usable)
    training = [person for person in usable if person.image not in held_out]
    validation = [person for person in usable if person.image in held_out and person.head_box]
    headless = len(usable) - len(training) - len(validation)
    print(
        f'{matrix}: {len(labelled)} labelled people; left out: {len(labelled) - len(usable)} without scale '
        f'or position, {headless} of the validation set without head box'
    )
    print(f'{matrix}: {len(test)} test people; left out: {len(test) - len(located)} without scale or position')
    if not training or not validation:
        raise InputError(
            f'{matrix}: the split has {len(training)} people to train on and {len(validation)} to validate on: '
            'name other images with --valid-images FILE'
        )
    records = {
        MPII.train_json: [person.record() for person in training],
        MPII.val_json: [person.record() for person in validation],
        MPII.test_json: [person.test_record() for person in located],
    }
    files: Files = {name: (as_json(rows), f'{len(rows)} people') for name, rows in records.items()}
    files[mpii_json.GROUND_TRUTH] = evaluation_mat(validation), f'{len(validation)} people'
    return files, {person.image for person in (*training, *validation, *located)}


def _hashed_names(people: list[Person]) -> set[str]:
    """Images for validation, selected by the SHA-256 of their names."""
    print(
        'note: the .mat defines no validation set: the images whose SHA-256(name) modulo '
        f"{ALL_PEOPLE} is below {VALIDATION_PEOPLE} become one. It is not the field's split: PCKh on it is not "
        'comparable with published results (--valid-images FILE sets the split)'
    )
    digests = {person.image: hashlib.sha256(person.image.encode()).hexdigest() for person in people}
    return {name for name, digest in digests.items() if int(digest, 16) % ALL_PEOPLE < VALIDATION_PEOPLE}


def _listed_names(path: Path, people: list[Person]) -> set[str]:
    """The images in the file that have usable people."""
    if not path.is_file():
        raise InputError(f'--valid-images {path} does not exist: name a text file with one image name per line')
    names = set(path.read_text().split())
    labelled = names & {person.image for person in people}
    print(
        f'{path}: {len(labelled)} of {len(names)} listed images have labelled people (the validation set of the '
        f'widely used split has {VALIDATION_PEOPLE} people)'
    )
    return labelled
