"""mmpose's names for MSPN's tensors.

Checked against the module of mmpose 1.3.2, with 1 to 4 stages, in both directions. Every tensor of a file must have one
of the names below and the right shape, and none may be missing. Where versions spell a name differently, both are read.

In mmpose convolutions before BatchNorm have no biases, and images are RGB.
"""

import re
from pathlib import Path

from cvpack.errors import InputError
from lib.models.resnet_names import STEM as OWN_STEM
from lib.models.resnet_names import State, rename, with_biases, without_biases
from lib.models.weights import check_against, unwrap

# mmpose's names -> ours; those of the heads are in own_name.
STAGE = r'backbone\.multi_stage_mspn\.(\d+)'
BLOCK = rf'{STAGE}\.downsample\.(layer\d\.\d+)'
UP_UNITS = {
    'in_skip': 'u_skip',
    'up_conv': 'up_conv',
    'out_skip1': 'skip1',
    'out_skip2': 'skip2',
    'cross_conv': 'cross_conv',
}
NAMES = {
    r'backbone\.top\.top\.0\.(conv|bn)\.(\w+)': r'top.conv.\1.\2',
    rf'{BLOCK}\.(conv|bn)([123])\.(\w+)': r'stage\1.downsample.\2.conv_bn_relu\4.\3.\5',
    rf'{BLOCK}\.downsample\.(?:conv|0)\.(\w+)': r'stage\1.downsample.\2.downsample.conv.\3',
    rf'{BLOCK}\.downsample\.(?:bn|1)\.(\w+)': r'stage\1.downsample.\2.downsample.bn.\3',
    **{
        rf'{STAGE}\.upsample\.(up\d)\.{theirs}\.(conv|bn)\.(\w+)': rf'stage\1.upsample.\2.{ours}.\3.\4'
        for theirs, ours in UP_UNITS.items()
    },
}
HEAD = re.compile(
    r'(?:keypoint_)?head\.predict_layers\.(\d+)\.(conv_layers\.0|conv_layers\.1|final_layer)\.(conv|bn)\.(\w+)'
)
LEVELS = 4
# Normalisation of pictures, which is no part of the network here.
PREPROCESSOR = 'data_preprocessor.'


def tensors(content: dict) -> State:
    """The network's tensors in a file, which mmpose keeps under `state_dict`."""
    return unwrap(content.get('state_dict', content))


def by_own_names(content: dict, path: Path) -> State:
    """The network's tensors under our names, from mmpose's file or ours. Raises InputError as from_mmpose does."""
    weights = tensors(content)
    return from_mmpose(weights, path) if is_mmpose(weights) else weights


def is_mmpose(weights: State) -> bool:
    """Whether tensors are of mmpose's MSPN, by their names."""
    return any(own_name(key) for key in weights)


def own_name(key: str) -> str | None:
    """mmpose's name of a tensor -> ours; None for one that is not MSPN's."""
    if match := HEAD.fullmatch(key):
        index, unit, kind, parameter = match.groups()
        stage, level = divmod(int(index), LEVELS)
        return f'stage{stage}.upsample.up{level + 1}.res_conv{1 if unit == "conv_layers.0" else 2}.{kind}.{parameter}'
    return rename(key, NAMES)


def from_mmpose(weights: State, path: Path) -> State:
    """mmpose's tensors by our names: BGR input, biases of zero. Raises InputError for one that has no name of ours."""
    names = _own_names(weights, path)
    state = {name: weights[key] for key, name in names.items()}
    if OWN_STEM in state:
        state[OWN_STEM] = state[OWN_STEM].flip(1)
    return with_biases(state)


def to_mmpose(state: State, template: State, path: Path) -> State:
    """Our network's tensors by the names that those of mmpose's file have. Raises InputError unless they are the same.

    template: the file's tensors; path: the file, for what is said of it
    """
    names = _own_names(template, path)
    own = without_biases(state)
    own[OWN_STEM] = own[OWN_STEM].flip(1)
    check_against(own, {name: template[key] for key, name in names.items()}, path, list(own))
    extra = [key for key, name in names.items() if name not in own]
    if extra:
        raise InputError(f'{path} does not fit this model: it has {len(extra)} more tensors (first: {extra[0]})')
    return {key: own[name] for key, name in names.items()}


def _own_names(weights: State, path: Path) -> dict[str, str]:
    """mmpose's names -> ours, one to one."""
    names = {key: own_name(key) or '' for key in weights if not key.startswith(PREPROCESSOR)}
    unknown = [key for key, name in names.items() if not name]
    if unknown:
        raise InputError(f"{path}: {len(unknown)} tensors are not known as of mmpose's MSPN (first: {unknown[0]})")
    if len(set(names.values())) < len(names):
        raise InputError(f'{path}: some tensors are there twice, by two spellings of their names: it cannot be read')
    return names
