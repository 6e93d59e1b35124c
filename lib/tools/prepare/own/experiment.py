"""Writes the experiment of a data set of one's own: config.py with all in plain sight, train.py and test.py."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lib.datasets.description import KEYPOINT, Description
from lib.tools.prepare.own.settings import Settings

WIDTH = 120
FINE_TUNING_LR = 1e-4


@dataclass(frozen=True)
class Experiment:
    """What config.py says.

    notes:   field of the description -> the comment above it
    no_flip: why images are not mirrored; '': they are
    no_half: why there is no half-body augmentation; '': there is
    device:  'cuda' or 'cpu'
    weight:  the checkpoint to fine-tune; '': the ImageNet ResNet
    model:   keys of MODEL -> values, of those that differ from the published ones
    """

    name: str
    description: Description
    settings: Settings
    notes: dict[str, str]
    no_flip: str
    no_half: str
    device: str
    weight: str
    model: dict[str, object]

    @property
    def folder(self) -> str:
        """The experiment's name, mspn.2xstg.horses."""
        return f'mspn.{self.model["STAGE_NUM"]}xstg.{self.name}'


SCRIPTS = ('config.py', 'train.py', 'test.py')


def experiment_files(experiment: Experiment) -> dict[str, bytes]:
    """The content of SCRIPTS."""
    height, width = experiment.settings.input_shape
    what = f'{experiment.model["STAGE_NUM"]}-stage MSPN on {experiment.name}, {height}x{width}'
    logs = f'model_logs/<user>/{experiment.folder}'
    train = _script('train', f'Train {what}', f'Expect a line every 20 iterations and iter-N.pth files in {logs}.')
    test = _script(
        'test',
        f'Test {what}',
        f"""\
Expect COCO's ten metrics under the sigmas in config.py, PCK at 0.1 and 0.05 of the bounding box,
and test_dir/iter-N in {logs}.""",
    )
    return {name: text.encode() for name, text in zip(SCRIPTS, (_config(experiment, what), train, test))}


def _script(function: str, does: str, expect: str) -> str:
    """The text of train.py or test.py."""
    return f'''"""{does}.

    python {function}.py{' -i last' if function == 'test' else ''}

{expect}
"""

from config import cfg
from lib.engine import {function}
from lib.models.mspn import build_mspn

if __name__ == '__main__':
    {function}(cfg, build_mspn)
'''


def _config(experiment: Experiment, what: str) -> str:
    """The text of config.py."""
    lines = [
        f'"""{what}.\n\n    python train.py\n"""\n',
        'from pathlib import Path\n',
        'from lib.config import coco_defaults, finalize',
        'from lib.datasets.description import Description\n',
        *_description(experiment),
        '',
        'cfg = coco_defaults(DATA)',
        *(f'cfg.MODEL.{key} = {value!r}' for key, value in sorted(experiment.model.items())),
        *_input(experiment),
        *_augmentation(experiment),
        *_schedule(experiment),
        'finalize(cfg, __file__)',
    ]
    return '\n'.join(lines) + '\n'


def _description(experiment: Experiment) -> list[str]:
    description = experiment.description
    root = f'Path({str(description.root)!r})'
    lines = ['DATA = Description(', f'    name={description.name!r},', f'    root={root},']
    for field in ('images', 'train_json', 'val_json', *KEYPOINT.values()):
        if note := experiment.notes.get(field):
            lines += _comment(note, '    ')
        lines += _field(field, getattr(description, field))
    return [*lines, ')']


def _field(name: str, value: object) -> list[str]:
    """A field, in as many lines as it takes."""
    line = f'    {name}={value!r},'
    if len(line) <= WIDTH or not isinstance(value, tuple):
        return [line]
    entries = [f'{entry!r},' for entry in value]
    return [f'    {name}=(', *_filled(entries, ' ' * 8), '    ),']


def _filled(entries: Sequence[str], indent: str) -> list[str]:
    """Entries in lines; none is broken in two, whatever blanks are in it."""
    lines = [indent + entries[0]]
    for entry in entries[1:]:
        if len(lines[-1]) + 1 + len(entry) > WIDTH:
            lines.append(indent + entry)
        else:
            lines[-1] += f' {entry}'
    return lines


def _comment(text: str, indent: str = '') -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f'{indent}# ', subsequent_indent=f'{indent}# ')


def _input(experiment: Experiment) -> list[str]:
    settings = experiment.settings
    return [
        '',
        *_comment(f'{settings.shape_reason}. The kernels are the published ones, scaled with the input.'),
        f'cfg.INPUT_SHAPE = {list(settings.input_shape)}  # height, width',
        f'cfg.DATASET.TRAIN.GAUSSIAN_KERNELS = {list(settings.kernels)}',
        f'cfg.LOSS.TOPK = {settings.topk}  # hard joints, of {len(experiment.description.joint_names)}',
    ]


def _augmentation(experiment: Experiment) -> list[str]:
    lines = []
    if experiment.no_flip:
        lines += ['', *_comment(f'Images are not mirrored: {experiment.no_flip}.')]
        lines += ['cfg.DATASET.TRAIN.PROB_FLIP = 0.0', 'cfg.TEST.FLIP = False']
    if experiment.no_half:
        lines += ['', *_comment(f'No crops of the upper or lower half alone: {experiment.no_half}.')]
        lines += ['cfg.DATASET.TRAIN.PROB_HALF_BODY = 0.0']
    return lines


def _schedule(experiment: Experiment) -> list[str]:
    settings, lines = experiment.settings, ['']
    if experiment.device == 'cpu':
        lines += [
            '# Prepared for a CPU: with --device cuda, shape and iterations are those of a GPU.',
            "cfg.MODEL.DEVICE = 'cpu'",
            '',
        ]
    lines += [
        *_comment(f'{settings.length_reason}.'),
        'cfg.SOLVER.REFERENCE_GPUS = 1  # on n GPUs, a nth of the iterations and n times the learning rate',
        f'cfg.SOLVER.MAX_ITER = {settings.max_iter}',
        f'cfg.SOLVER.CHECKPOINT_PERIOD = {settings.checkpoint_period}',
        f'cfg.SOLVER.WARMUP_ITERS = {settings.warmup_iters}  # a fortieth, at most 2,400, as published',
    ]
    if experiment.weight:
        lines += [f'cfg.MODEL.WEIGHT = {experiment.weight!r}']
        lines += [f'cfg.SOLVER.BASE_LR = {FINE_TUNING_LR}  # per GPU; a fifth of the published one, to fine-tune']
    else:
        lines += ['cfg.SOLVER.BASE_LR = 5e-4  # per GPU, as published']
    return [*lines, 'cfg.VALIDATION.PERIOD = 1  # test at every checkpoint; iter-best.pth is the best one']
