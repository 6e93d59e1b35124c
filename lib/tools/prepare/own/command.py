"""`python -m lib.tools.prepare own`: from a labelling tool's export to a data set and an experiment that trains."""

import argparse
import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from cvpack.errors import InputError
from lib.config import run_config
from lib.config.places import REPOSITORY, home
from lib.tools.arguments import writing
from lib.tools.check_data.__main__ import check
from lib.tools.check_data.people import draw_sheet
from lib.tools.prepare.layout import Files, as_json, place, place_all, refuse_others
from lib.tools.prepare.own.boxes import BOXES, repair_boxes
from lib.tools.prepare.own.coco import read_coco
from lib.tools.prepare.own.dataset import JSON, SPLITS, drop_unused_joints, merge, split, tell_ids_and_crowds, to_json
from lib.tools.prepare.own.describe import check_pretrained, describe
from lib.tools.prepare.own.experiment import SCRIPTS, Experiment, experiment_files
from lib.tools.prepare.own.export import Export, Repairs
from lib.tools.prepare.own.formats import check_file
from lib.tools.prepare.own.images import ImageFiles, resolve_images
from lib.tools.prepare.own.repairs import place_in_pixels, repair_joints
from lib.tools.prepare.own.yolo import is_yolo, read_yolo

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')


def prepare_own(
    annotations: Sequence[Path],
    images: Path | None,
    name: str,
    val: Path | None,
    val_share: float,
    category: Sequence[str],
    boxes: str | None,
    normalised: bool,
    sigmas: bool,
    pretrained: Path | None,
    device: str,
    target: Path | None,
    experiments: Path,
) -> None:
    """From a labelling tool's export to dataset/NAME and exps/mspn.2xstg.NAME.

    Everything is read and checked before anything is written. Raises InputError for input that is missing, invalid or
    can be read in several ways, and for files in the way.
    """
    target, repairs = target or home() / 'dataset' / name, Repairs()
    files = ImageFiles(images or annotations[0].parent)
    try:
        exports = _read(annotations, val, files, category, repairs)
    except OSError as error:  # a folder that cannot be looked into, a name that is too long
        raise InputError(f'{error.filename}: {error.strerror}: correct the path') from None
    for export in [export for own in exports.values() for export in own]:
        resolve_images(export, files, repairs)
        repair_joints(export, repairs)
        place_in_pixels(export, normalised, boxes)
        repair_boxes(export, boxes, repairs)
        if not export.instances:
            reasons = '; '.join(f'{count:,} {what}' for what, (count, _) in repairs.found.items())
            raise InputError(f'{export.path}: no instance is left ({reasons}): correct it')
    merged = {key: merge(own, repairs) for key, own in exports.items()}
    splits, how = split(merged['train'], merged.get('val'), val_share, files)
    drop_unused_joints(splits, repairs)
    tell_ids_and_crowds(splits, repairs)
    experiment = describe(splits, name, target, sigmas, pretrained, device, repairs)
    taken = check_pretrained(experiment) if pretrained else ''
    _say(splits, how, experiment, repairs)
    folder = experiments / experiment.folder
    with _taken_back(target, folder):
        _write(splits, experiment, files.folder, target, folder)
        _check(folder, target)
    print('\n'.join(filter(None, [taken, *_next_commands(folder)])))


@contextlib.contextmanager
def _taken_back(target: Path, folder: Path) -> Iterator[None]:
    """Removes what was written if it turns out to be invalid, so that it does not hinder the next try."""
    ours = [target / name for name in (*JSON.values(), 'images', 'sheet.jpg')] + [folder / name for name in SCRIPTS]
    new = [path for path in (*ours, target, folder) if not os.path.lexists(path)]
    try:
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir() if path in (target, folder) else path.unlink()
        raise


def _read(
    annotations: Sequence[Path], val: Path | None, files: ImageFiles, category: Sequence[str], repairs: Repairs
) -> dict[str, list[Export]]:
    """The exports of each split that has files of its own."""
    exports: dict[str, list[Export]] = {}
    for key, paths in (('train', annotations), ('val', [val] if val else [])):
        for path in paths:
            check_file(path)
            if not is_yolo(path):
                found = {key: read_coco(path, category, repairs)}
            else:
                found = read_yolo(path, files, category, repairs)
                if key == 'val':  # a data.yaml for val alone: what it validates on, or else all that it has
                    found = {'val': found.get('val') or found['train']}
                elif 'train' not in found:
                    raise InputError(f'{path} has only val: name it with --val, or rename the key to train')
            for split_name, export in found.items():
                exports.setdefault(split_name, []).append(export)
    return exports


def _say(splits: dict[str, Export], how: str, experiment: Experiment, repairs: Repairs) -> None:
    settings = experiment.settings
    names = dict.fromkeys(name for export in splits.values() for name in export.categories)
    print('\n'.join(['found in the annotations:', *repairs.lines()] if repairs.found else ['nothing to repair']))
    if len(names) > 1:
        print(f'trained as one, since their joints are the same: {", ".join(names)}')
    print(how)
    height, width = settings.input_shape
    print(f'input {height}x{width}, {settings.max_iter:,} iterations: {settings.length_reason}')
    if experiment.device == 'cpu':
        print('these are for a CPU: --device cuda prepares for a GPU')
    if experiment.no_flip:
        print(f'images are not mirrored: {experiment.no_flip}')
    if experiment.no_half:
        print(f'no half-body augmentation: {experiment.no_half}')


def _write(splits: dict[str, Export], experiment: Experiment, images: Path, target: Path, folder: Path) -> None:
    """Writes annotations and experiment, and links the images, or names their folder where there are no links.

    Raises InputError, before any annotations are written, if other files are in the way.
    """
    names = splits['train'].categories
    data: Files = {}
    for key, export in splits.items():
        counts = f'{len(export.images):,} images, {len(export.instances):,} instances'
        data[JSON[key]] = as_json(to_json(export, names[0] if len(names) == 1 else experiment.name)), counts
    link = target / 'images'
    refuse_others({target / key: content for key, (content, _) in data.items()})
    target.mkdir(parents=True, exist_ok=True)
    named = ''
    if images.resolve().is_relative_to(target.resolve()):  # they are in the data set's folder already
        named = str(images.resolve().relative_to(target.resolve()))
    elif done := _link(link, images):
        print(f'{link}: {done}')
    else:
        named = str(images.resolve())
        print(f'{link} cannot be a link: config.py names {named} instead')
    if named:
        description = dataclasses.replace(experiment.description, images=named)
        experiment = dataclasses.replace(experiment, description=description)
    texts = {folder / key: content for key, content in experiment_files(experiment).items()}
    refuse_others(texts)
    place_all(target, data)
    with writing(folder, '--experiments'):
        for path, content in texts.items():
            print(f'{path}: {place(path, content)}')


def _link(link: Path, folder: Path) -> str:
    """Links a folder, and returns what was done; '' where there are no links.

    Raises InputError if something else is there.
    """
    if not os.path.lexists(link):
        try:
            link.symlink_to(folder.resolve(), target_is_directory=True)
        except (OSError, NotImplementedError):
            return ''
        return f'linked to {folder}'
    return place(link, folder)


def _check(folder: Path, target: Path) -> None:
    """Checks what was written and draws a sheet. Raises InputError if training would stop at it."""
    cfg = run_config(folder)
    findings = check(cfg, SPLITS, os.cpu_count() or 1)
    print(findings.table(found_only=True) or f'check_data: nothing wrong with {target}')
    if fatal := findings.count(fatal=True):
        raise InputError(
            f'{target}: training would stop at the {fatal:,} findings above, so nothing was written: correct them in '
            'the export'
        )
    if not (target / 'sheet.jpg').exists():
        draw_sheet(cfg, target / 'sheet.jpg')


def _next_commands(folder: Path) -> list[str]:
    cfg = run_config(folder)
    weights = Path(cfg.OUTPUT_DIR) / 'iter-last.pth'
    is_missing = cfg.MODEL.WEIGHT and not Path(cfg.MODEL.WEIGHT).is_file()
    return [
        'next:',
        *(['  python -m lib.tools.prepare weights    # ImageNet weights, once'] if is_missing else []),
        f'  cd {shlex.quote(str(folder))}',
        '  python train.py',
        '  python test.py -i last --pictures 8',
        f'  python -m lib.tools.predict --weights {shlex.quote(str(weights))} --input IMAGES --output FOLDER',
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options, but for --target."""
    add = parser.add_argument
    help_annotations = "COCO keypoints json, or YOLO-pose's data.yaml; several files are one data set"
    add('--annotations', type=Path, nargs='+', required=True, metavar='FILE', help=help_annotations)
    help_images = 'the folder of the images, or of folders with them (default: that of the annotations)'
    add('--images', type=Path, metavar='DIR', help=help_images)
    add('--name', type=_name, required=True, help='of the data set and the experiment')
    split = parser.add_mutually_exclusive_group()
    split.add_argument('--val', type=Path, metavar='FILE', help='annotations to validate on')
    split.add_argument(
        '--val-share', type=_ratio, default=0.1, help='ratio of the images to validate on (default: 0.1)'
    )
    add('--category', nargs='+', default=(), metavar='NAME', help='train these categories, as one (default: all)')
    add('--boxes', choices=BOXES, help='how to read bbox, or take boxes from the joints (default: xywh)')
    add('--normalised', action='store_true', help='coordinates are ratios of the image, from 0 to 1')
    add('--sigmas', action='store_true', help='measure sigmas from instances that are annotated several times')
    add('--pretrained', type=Path, metavar='FILE', help='a checkpoint to fine-tune')
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    add('--device', choices=('cuda', 'cpu'), default=default, help=f'to train on (default here: {default})')
    add('--experiments', type=Path, default=REPOSITORY / 'exps', metavar='DIR', help='default: exps')


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text} should be of letters, digits, dots, - and _, like horses')
    return text


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value
