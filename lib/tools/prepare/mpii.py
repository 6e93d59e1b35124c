"""`python -m lib.tools.prepare mpii`: the published layout from the .mat or the widely used json."""

import hashlib
from pathlib import Path

from cvpack.errors import InputError
from cvpack.files import read_json
from lib.datasets import mpii_json
from lib.datasets.description import MPII
from lib.tools.prepare.layout import as_json, count_absent, place
from lib.tools.prepare.mpii_mat import Person, evaluation_mat, read_people

ADDRESS = 'http://human-pose.mpi-inf.mpg.de'
MATRIX = 'mpii_human_pose_v1_u12_1.mat'
# The widely used split has this many people to validate on and in all.
VALIDATION_PEOPLE, ALL_PEOPLE = 2958, 25204

# Name in the layout -> a file or its content, and what to say of it.
Files = dict[str, tuple[Path | bytes, str]]


def prepare_mpii(source: Path, target: Path, valid_images: Path | None) -> None:
    """Links the images; links the json files and gt_valid.mat, or else writes them from the official .mat.

    The .mat has no validation set: valid_images, a text file with an image name a line, gives its images, and
    without it a hash of the name draws about as many people as the widely used split has. Raises InputError
    for what is missing, unfit or in the way.
    """
    images = source / 'images'
    if not images.is_dir():
        raise InputError(f'no folder {images}: get mpii_human_pose_v1.tar.gz from {ADDRESS}')
    json_folder = next((path for path in (source, source / 'annot') if (path / 'train.json').is_file()), None)
    matrices = (source / MATRIX, *source.glob(f'*/{MATRIX}'))
    matrix = next((path for path in matrices if path.is_file()), None)
    files: Files
    if json_folder:
        if valid_images:
            raise InputError(f'--valid-images is for {MATRIX}, but the json files in {json_folder} have a split')
        files, names = _from_json(json_folder)
    elif matrix:
        files, names = _from_matrix(matrix, valid_images)
    else:
        raise InputError(
            f'{source} is no MPII download: looked for {MATRIX} (get mpii_human_pose_v1_u12_2.zip from '
            f'{ADDRESS}) and for train.json, valid.json and gt_valid.mat in it and in annot'
        )
    counts = count_absent(images, names, f'mpii_human_pose_v1.tar.gz from {ADDRESS}')
    print(f'{target / "images"}: {place(target / "images", images)}, {counts}')
    for name, (content, counts) in files.items():
        print(f'{target / name}: {place(target / name, content)}, {counts}')


def _from_json(folder: Path) -> tuple[Files, set[str]]:
    """{name in the layout: (file, what to say of it)}, and the images that the files list."""
    sources = {'gt_json/train.json': folder / 'train.json', 'gt_json/valid.json': folder / 'valid.json'}
    if (folder / 'test.json').is_file():
        sources['det_json/test.json'] = folder / 'test.json'
    else:
        print(f'{folder / "test.json"}: not there, so no det_json/test.json: only the test set needs it')
    people = {
        name: mpii_json.read_people(read_json(path), path, len(MPII.joint_names), labelled=name.startswith('gt')).names
        for name, path in sources.items()
    }
    matrix = folder / 'gt_valid.mat'
    if not matrix.is_file():
        raise InputError(f'no file {matrix}: it is the ground truth that valid.json is evaluated on')
    evaluated = len(people['gt_json/valid.json'])
    mpii_json.read_ground_truth(matrix, evaluated)
    files: Files = {name: (path, f'{len(people[name])} people') for name, path in sources.items()}
    files['gt_json/valid.mat'] = (matrix, f'{evaluated} people')
    return files, {name for names in people.values() for name in names}


def _from_matrix(matrix: Path, valid_images: Path | None) -> tuple[Files, set[str]]:
    """{name in the layout: (contents, what to say of them)}, and the images that they list."""
    people = read_people(matrix)
    labelled = [person for person in people if person.training and person.joints]
    usable = [person for person in labelled if person.located]
    testing = [person for person in people if not person.training]
    located = [person for person in testing if person.located]
    held_out = _listed_names(valid_images, usable) if valid_images else _drawn_names(usable)
    training = [person for person in usable if person.image not in held_out]
    validation = [person for person in usable if person.image in held_out and person.head_box]
    headless = len(usable) - len(training) - len(validation)
    print(
        f'{matrix}: {len(labelled)} labelled people; left out: {len(labelled) - len(usable)} without scale '
        f'or position, {headless} of the validation set without head box'
    )
    print(f'{matrix}: {len(testing)} test people; left out: {len(testing) - len(located)} without scale or position')
    if not training or not validation:
        raise InputError(
            f'{matrix}: {len(training)} people would train and {len(validation)} validate: name other images '
            'with --valid-images FILE'
        )
    records = {
        'gt_json/train.json': [person.record() for person in training],
        'gt_json/valid.json': [person.record() for person in validation],
        'det_json/test.json': [person.test_record() for person in located],
    }
    files: Files = {name: (as_json(people), f'{len(people)} people') for name, people in records.items()}
    files['gt_json/valid.mat'] = (evaluation_mat(validation), f'{len(validation)} people')
    return files, {person.image for person in (*training, *validation, *located)}


def _drawn_names(people: list[Person]) -> set[str]:
    def number(name: str) -> int:
        return int(hashlib.sha256(name.encode()).hexdigest(), 16)

    print(
        'note: the .mat has no validation set; the images whose SHA-256(name) modulo '
        f"{ALL_PEOPLE} is below {VALIDATION_PEOPLE} make one. It is not the field's split: PCKh on it cannot "
        'be compared with published validation figures (--valid-images FILE gives another split)'
    )
    names = {person.image for person in people}
    return {name for name in names if number(name) % ALL_PEOPLE < VALIDATION_PEOPLE}


def _listed_names(path: Path, people: list[Person]) -> set[str]:
    if not path.is_file():
        raise InputError(f'no file {path}: --valid-images takes a text file with an image name a line')
    names = set(path.read_text().split())
    labelled = names & {person.image for person in people}
    print(
        f'{path}: {len(labelled)} of {len(names)} listed images have labelled people (the widely used split '
        f'holds {VALIDATION_PEOPLE} people out)'
    )
    return labelled
