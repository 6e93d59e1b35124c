"""`python -m lib.tools.prepare own`: from a labelling tool's export to a data set and an experiment that trains."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cvpack.errors import InputError
from lib.config import coco_defaults, run_config
from lib.config.places import home
from lib.datasets.description import Description
from lib.models.mspn import build_mspn
from lib.models.weights import load_pretrained, read, unwrap
from lib.tools.check_data.__main__ import check
from lib.tools.check_data.people import draw_sheet
from lib.tools.prepare.layout import as_json, place, place_all
from lib.tools.prepare.own.coco import read_coco
from lib.tools.prepare.own.dataset import SPLITS, arrays, merge, split, to_json
from lib.tools.prepare.own.experiment import Experiment, experiment_files
from lib.tools.prepare.own.export import Export, Repairs
from lib.tools.prepare.own.images import ImageFiles, resolve_images
from lib.tools.prepare.own.joints import DEFAULT_SIGMA, measured_sigmas, pairs_by_name, sigmas_by_name, upper_half
from lib.tools.prepare.own.repairs import repair_boxes, repair_joints, to_pixels
from lib.tools.prepare.own.settings import settings_for
from lib.tools.prepare.own.yolo import is_yolo, read_yolo

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')
JSON = {'train': 'person_keypoints_train.json', 'val': 'person_keypoints_val.json'}
# Keys of cfg.MODEL that a checkpoint determines.
NETWORK_KEYS = ('STAGE_NUM', 'BACKBONE', 'WIDTH', 'UPSAMPLE_CHANNEL_NUM')


def prepare_own(
    annotations: Sequence[Path],
    images: Path,
    name: str,
    val: Path | None,
    val_share: float,
    category: Sequence[str],
    boxes: str | None,
    normalised: bool,
    sigmas: bool,
    pretrained: Path | None,
    target: Path | None,
    experiments: Path,
) -> None:
    """From a labelling tool's export to dataset/NAME and exps/mspn.2xstg.NAME.

    Everything is read and checked before anything is written. Raises InputError for input that is missing, invalid or
    can be read in several ways, and for files in the way.
    """
    if not NAME.fullmatch(name):
        raise InputError(f'--name {name}: take letters, digits, dots, - and _, like horses')
    target, repairs, files = target or home() / 'dataset' / name, Repairs(), ImageFiles(images)
    exports = _read(annotations, val, images, category, repairs)
    for export in [export for own in exports.values() for export in own]:
        _repair(export, files, boxes, normalised, repairs)
    merged = {key: merge(own, repairs) for key, own in exports.items()}
    splits, how = split(merged['train'], merged.get('val'), val_share)
    experiment = _experiment(splits, name, _root(target), sigmas, pretrained, repairs)
    taken = _check_pretrained(experiment)
    _say(splits, how, repairs)
    folder = experiments / experiment.folder
    _write(splits, experiment, images, target, folder)
    _check(folder, target)
    if taken:
        print(taken)
    print(_next_commands(folder, experiment.weight))


def _read(
    annotations: Sequence[Path], val: Path | None, images: Path, category: Sequence[str], repairs: Repairs
) -> dict[str, list[Export]]:
    """The exports of each split that has files of its own."""
    exports: dict[str, list[Export]] = {}
    for key, paths in (('train', annotations), ('val', [val] if val else [])):
        for path in paths:
            if is_yolo(path):
                for split_name, export in read_yolo(path, images, category, repairs).items():
                    exports.setdefault(split_name, []).append(export)
            else:
                exports.setdefault(key, []).append(read_coco(path, category, repairs))
    return exports


def _repair(export: Export, files: ImageFiles, boxes: str | None, normalised: bool, repairs: Repairs) -> None:
    """Images found, coordinates in pixels, instances with labelled joints, boxes and areas."""
    resolve_images(export, files, repairs)
    sizes = np.array([picture.size for picture in export.images], float)
    repair_joints(export, repairs)
    if normalised or export.normalised:
        to_pixels(export, sizes)
    repair_boxes(export, sizes, boxes, repairs)
    if not export.instances:
        raise InputError(f'{export.path} has no instance with labelled joints in an image of {files.folder}')


def _experiment(
    splits: dict[str, Export], name: str, root: Path, measure_sigmas: bool, pretrained: Path | None, repairs: Repairs
) -> Experiment:
    """The description and the settings that follow from the training split."""
    train = splits['train']
    joints, (keypoints, boxes) = train.joints, arrays(train)
    notes = {}
    pairs, flip = joints.flip_pairs, ''
    by_name, alone = pairs_by_name(joints.names)
    if not pairs:
        pairs = by_name
    if alone:
        notes['flip_pairs'] = f'Without a mirror joint: {", ".join(alone)}.'
    if not pairs:
        flip = 'no joints are pairs by their names, so left and right could not be exchanged'
    upper, half = upper_half(keypoints, boxes)
    sigmas, others = joints.sigmas, []
    if not sigmas:
        sigmas, others = sigmas_by_name(joints.names)
        notes['sigmas'] = f"COCO's where it has the joint; {DEFAULT_SIGMA}, their mean, for the others ({len(others)})."
        if not others:
            notes['sigmas'] = "COCO's."
    if measure_sigmas:
        sigmas = _measure(splits, sigmas, repairs)
        notes['sigmas'] = 'Measured from instances that were annotated several times, where there are any of the joint.'
    notes['upper_body_ids'] = 'Joints that are in the upper half of the box on average.'
    cpu = not torch.cuda.is_available()
    return Experiment(
        name=name,
        description=Description(
            name=name,
            root=root,
            train_json=JSON['train'],
            val_json=JSON['val'],
            joint_names=joints.names,
            flip_pairs=pairs,
            upper_body_ids=upper,
            skeleton=joints.skeleton,
            sigmas=sigmas,
        ),
        settings=settings_for(
            len(train.instances), float(np.median(boxes[:, 2] / boxes[:, 3])), len(joints.names), cpu
        ),
        notes=notes,
        flip=flip,
        half=half,
        cpu=cpu,
        weight=str(pretrained.resolve()) if pretrained else '',
        model=_model_settings(pretrained),
    )


def _measure(splits: dict[str, Export], by_name: tuple[float, ...], repairs: Repairs) -> tuple[float, ...]:
    """Sigmas from repeated annotations, which are then left out. Raises InputError if there are none."""
    measured = []
    for export in splits.values():
        images, areas = (np.array([getattr(one, field) for one in export.instances]) for field in ('image', 'area'))
        values, repeated = measured_sigmas(images, *arrays(export), areas)
        measured.append(values)
        for one in [one for one, again in zip(export.instances, repeated) if again]:
            repairs.tell('repeated annotations, used for the sigmas alone', one.where)
        export.instances = [one for one, again in zip(export.instances, repeated) if not again]
    if np.isnan(measured).all():
        raise InputError('--sigmas: no instance is annotated several times: leave it out')
    values = np.nanmax(measured, axis=0)
    return tuple(round(float(own), 4) if own > 0 else sigma for own, sigma in zip(values, by_name))


def _model_settings(pretrained: Path | None) -> tuple[tuple[str, object], ...]:
    """Settings of the network that a checkpoint is of."""
    if pretrained is None:
        return (('STAGE_NUM', 2),)
    content = read(pretrained)
    config = content.get('config')
    if isinstance(config, dict):
        defaults = coco_defaults().MODEL
        saved = {key: config['MODEL'][key] for key in NETWORK_KEYS if key in config.get('MODEL', {})}
        return tuple((key, value) for key, value in saved.items() if key == 'STAGE_NUM' or value != defaults[key])
    stages = {
        match[1] for key in unwrap(content.get('state_dict', content)) if (match := re.match(r'stage(\d+)\.', key))
    }
    return (('STAGE_NUM', len(stages) or 2),)


def _root(target: Path) -> Path:
    """The description's root: relative to home() where it is below it."""
    target = target.resolve()
    return target.relative_to(home()) if target.is_relative_to(home()) else target


def _check_pretrained(experiment: Experiment) -> str:
    """What is taken from the checkpoint to fine-tune. Raises InputError if it does not fit."""
    if not experiment.weight:
        return ''
    cfg = coco_defaults(experiment.description)
    cfg.MODEL.update(experiment.model)
    return load_pretrained(build_mspn(cfg), Path(experiment.weight))


def _write(splits: dict[str, Export], experiment: Experiment, images: Path, target: Path, folder: Path) -> None:
    """Writes annotations and experiment, and links the images, or names their folder where there are no links."""
    category = experiment.name if len(splits['train'].categories) != 1 else splits['train'].categories[0]
    place_all(
        target,
        {
            JSON[key]: (
                as_json(to_json(export, category)),
                f'{len(export.images):,} images, {len(export.instances):,} people',
            )
            for key, export in splits.items()
        },
    )
    if not _link(target / 'images', images):
        description = dataclasses.replace(experiment.description, images=str(images.resolve()))
        experiment = dataclasses.replace(experiment, description=description)
    for file, content in experiment_files(experiment).items():
        print(f'{folder / file}: {place(folder / file, content)}')


def _link(link: Path, folder: Path) -> bool:
    """Whether the images could be linked, or are. Raises InputError if something else is there."""
    if not os.path.lexists(link):
        with contextlib.suppress(OSError, NotImplementedError):
            link.symlink_to(folder.resolve(), target_is_directory=True)
        if not link.is_symlink():
            print(f'{link} cannot be a link: config.py names {folder.resolve()} instead')
            return False
    print(f'{link}: {place(link, folder)}')
    return True


def _say(splits: dict[str, Export], how: str, repairs: Repairs) -> None:
    names = splits['train'].categories
    if len(names) > 1:
        print(f'trained as one, since their joints are the same: {", ".join(names)}')
    print(how)
    print('\n'.join(['repaired, or left out:', *repairs.lines()] if repairs.found else ['nothing to repair']))


def _check(folder: Path, target: Path) -> None:
    """Checks what was written and draws a sheet. Raises InputError if training would stop at it."""
    cfg = run_config(folder)
    findings = check(cfg, SPLITS, os.cpu_count() or 1)
    print(findings.table())
    if fatal := findings.count(fatal=True):
        raise InputError(
            f'{target}: training would stop at {fatal:,} findings, listed above: correct them in the export'
        )
    draw_sheet(cfg, target / 'sheet.jpg')


def _next_commands(folder: Path, weight: str) -> str:
    lines = ['next:']
    cfg = run_config(folder)
    weights = Path(cfg.OUTPUT_DIR) / 'iter-last.pth'
    if not weight and not Path(cfg.MODEL.WEIGHT).is_file():
        lines.append('  python -m lib.tools.prepare weights    # ImageNet weights, once')
    return '\n'.join(
        [
            *lines,
            f'  cd {folder}',
            '  python train.py',
            '  python test.py -i last --pictures 8',
            f'  python -m lib.tools.predict --weights {weights} --input IMAGES --output FOLDER',
        ]
    )
