"""From the splits to an experiment: the description of the data set, and the settings that follow from it."""

import re
from pathlib import Path

import numpy as np

from cvpack.errors import InputError
from lib.config import coco_defaults
from lib.config.places import home
from lib.datasets.description import Description, Pairs
from lib.models.mspn import build_mspn
from lib.models.weights import load_pretrained, read, unwrap
from lib.tools.prepare.own.dataset import JSON
from lib.tools.prepare.own.experiment import Experiment
from lib.tools.prepare.own.export import Export, Repairs
from lib.tools.prepare.own.joints import (
    DEFAULT_SIGMA,
    pairs_by_name,
    repeated_annotations,
    sigmas_by_name,
    upper_half,
)
from lib.tools.prepare.own.settings import settings_for

# Keys of cfg.MODEL that a checkpoint determines.
NETWORK_KEYS = ('BACKBONE', 'WIDTH', 'UPSAMPLE_CHANNEL_NUM')  # beside STAGE_NUM


def describe(
    splits: dict[str, Export],
    name: str,
    target: Path,
    measure_sigmas: bool,
    pretrained: Path | None,
    device: str,
    repairs: Repairs,
) -> Experiment:
    """The experiment on these splits. Raises InputError if sigmas cannot be measured, or for a bad checkpoint."""
    notes: dict[str, str] = {}
    sigmas = _sigmas(splits, measure_sigmas, notes, repairs)
    train = splits['train']
    pairs = _flip_pairs(train, notes, repairs)
    upper, half = upper_half(train, pairs)
    notes['upper_body_ids'] = 'Joints that are in the upper half of the box on average.'
    target = target.resolve()
    aspect_ratio = float(np.median(train.boxes[:, 2] / train.boxes[:, 3]))
    return Experiment(
        name=name,
        description=Description(
            name=name,
            root=target.relative_to(home()) if target.is_relative_to(home()) else target,
            train_json=JSON['train'],
            val_json=JSON['val'],
            joint_names=train.joints.names,
            flip_pairs=pairs,
            upper_body_ids=upper,
            skeleton=train.joints.skeleton,
            sigmas=sigmas,
        ),
        settings=settings_for(len(train.instances), aspect_ratio, len(train.joints.names), device),
        notes=notes,
        no_flip='' if pairs else 'no joints are pairs, so left and right cannot be exchanged',
        no_half=half,
        device=device,
        weight=str(pretrained.resolve()) if pretrained else '',
        model=_network_settings(pretrained) if pretrained else {'STAGE_NUM': 2},
    )


def _flip_pairs(export: Export, notes: dict[str, str], repairs: Repairs) -> Pairs:
    """Those of the file; if it has none, those that the names say."""
    joints = export.joints
    by_name, alone = pairs_by_name(joints.names)
    if alone:
        listed = ', '.join(map(repr, alone))
        notes['flip_pairs'] = f'Without a mirror joint, so they keep their names in mirrored images: {listed}.'
        repairs.tell('joints named for a side, but without a mirror joint', listed, len(alone))
    if joints.flip_pairs == () and by_name:
        a, b = (joints.names[joint] for joint in by_name[0])
        repairs.tell('flip pairs by name, although flip_idx exchanges none', f'{a} and {b}', len(by_name))
    pairs = joints.flip_pairs or by_name
    for left, right in by_name:
        # Of these names the configuration is certain.
        names = {joints.names[left], joints.names[right]}
        if (left, right) not in pairs and any({f'left_{name[6:]}', f'right_{name[6:]}'} == names for name in names):
            raise InputError(f'{export.path}: flip_idx should exchange {" and ".join(sorted(names))}: correct it')
    return pairs


def _sigmas(splits: dict[str, Export], measure: bool, notes: dict[str, str], repairs: Repairs) -> tuple[float, ...]:
    sigmas, others = sigmas_by_name(splits['train'].joints.names)
    notes['sigmas'] = f"COCO's where it has the joint; their mean, {DEFAULT_SIGMA}, for the {len(others)} others."
    if not others:
        notes['sigmas'] = "COCO's."
    elif len(others) == len(sigmas):
        notes['sigmas'] = "The mean of COCO's, which has none of these joints."
    if not measure:
        return sigmas
    squares, counts = np.zeros(len(sigmas)), np.zeros(len(sigmas))
    for export in splits.values():
        own_squares, own_counts, repeated = repeated_annotations(export)
        squares, counts = squares + own_squares, counts + own_counts
        for i in np.flatnonzero(repeated):
            repairs.tell('repeated annotations, used for the sigmas alone', export.instances[i].where)
        export.instances = [instance for instance, again in zip(export.instances, repeated) if not again]
    if not np.any(counts):
        raise InputError('--sigmas: no instance is annotated several times: leave it out')
    notes['sigmas'] = f'Measured from repeated annotations; without any: {notes["sigmas"]}'
    values = np.sqrt(squares / np.maximum(counts, 1))
    return tuple(round(float(value), 4) if value > 0 else sigma for value, sigma in zip(values, sigmas))


def _network_settings(checkpoint: Path) -> dict[str, object]:
    """Settings of the network that a checkpoint is of: those it was saved with, or its number of stages."""
    content = read(checkpoint)
    config = content.get('config')
    if isinstance(config, dict) and isinstance(config.get('MODEL'), dict):
        defaults, saved = coco_defaults().MODEL, config['MODEL']
        return {key: saved[key] for key in NETWORK_KEYS if key in saved and saved[key] != defaults[key]} | {
            'STAGE_NUM': saved.get('STAGE_NUM', defaults.STAGE_NUM)
        }
    stages = {match[1] for key in unwrap(content) if (match := re.match(r'stage(\d+)\.', key))}
    return {'STAGE_NUM': len(stages) or 2}


def check_pretrained(experiment: Experiment) -> str:
    """What is taken from the checkpoint to fine-tune, in words. Raises InputError if it does not fit."""
    cfg = coco_defaults(experiment.description)
    cfg.MODEL.update(experiment.model)
    return load_pretrained(build_mspn(cfg), Path(experiment.weight))
