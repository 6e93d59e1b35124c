"""The names of ResNets' tensors in files.

torchvision   `conv1.weight`, `layer1.0.conv1.weight`, ...: RGB, convolutions without biases
renamed       our network's names, with or without their prefixes: `stage0.downsample.layer1...` is for that stage's
              trunk only, `layer1.0.conv_bn_relu1.conv.weight` for any; `top.conv...` is the stem
"""

import re
from collections.abc import Iterable

import torch

State = dict[str, torch.Tensor]

STEM = 'top.conv.conv.weight'
# torchvision's names -> those of a renamed file.
TORCHVISION = {
    r'(conv|bn)1\.(\w+)': r'top.conv.\1.\2',
    r'(layer[1-4]\.\d+)\.(conv|bn)([123])\.(\w+)': r'\1.conv_bn_relu\3.\2.\4',
    r'(layer[1-4]\.\d+)\.downsample\.0\.(\w+)': r'\1.downsample.conv.\2',
    r'(layer[1-4]\.\d+)\.downsample\.1\.(\w+)': r'\1.downsample.bn.\2',
}
OWN_KEY = re.compile(r'top\.|(stage\d+)\.downsample\.')
# In a renamed file.
STEM_KEY = re.compile(r'(?:top\.)?(conv\..+)')
TRUNK_KEY = re.compile(r'(?:(?:(stage\d+)\.)?downsample\.)?(layer\d.*)')


def rename(key: str, names: dict[str, str]) -> str | None:
    """The new form of a name that a pattern matches as a whole; None if none does. names: pattern -> new form"""
    matches = ((re.fullmatch(pattern, key), new) for pattern, new in names.items())
    return next((match.expand(new) for match, new in matches if match), None)


def is_torchvision(state: State) -> bool:
    """Whether any of the names is from torchvision's ResNets; the renamed form has none of them."""
    return any(rename(key, TORCHVISION) for key in state)


def torchvision_remainder(state: State) -> list[str]:
    """torchvision's names of what MSPN lacks."""
    return [key for key in state if rename(key, TORCHVISION) is None]


def from_torchvision(state: State) -> State:
    """torchvision's ResNet -> the renamed form: BGR input."""
    renamed = {new: value for key, value in state.items() if (new := rename(key, TORCHVISION))}
    if STEM in renamed and renamed[STEM].ndim == 4:  # another shape is refused later, by name
        renamed[STEM] = renamed[STEM].flip(1)
    return renamed


def to_torchvision(state: State) -> State:
    """The renamed form -> torchvision's ResNet without `fc`: RGB input, convolutions without biases."""
    unbiased = without_biases(state)
    unbiased[STEM] = unbiased[STEM].flip(1)
    theirs = {}
    for key, value in unbiased.items():
        name = key.replace('top.conv.conv.', 'conv1.').replace('top.conv.bn.', 'bn1.')
        name = name.replace('downsample.conv.', 'downsample.0.').replace('downsample.bn.', 'downsample.1.')
        theirs[re.sub(r'conv_bn_relu(\d)\.(conv|bn)\.', r'\2\1.', name)] = value
    return theirs


def without_biases(state: State) -> State:
    """The same function without the convolutions' biases, which are folded into BatchNorm's means."""
    units = [key.removesuffix('.conv.bias') for key in state if key.endswith('.conv.bias')]
    means = {f'{unit}.bn.running_mean': state[f'{unit}.bn.running_mean'] - state[f'{unit}.conv.bias'] for unit in units}
    return {key: value for key, value in (state | means).items() if not key.endswith('.conv.bias')}


def with_biases(state: State) -> State:
    """The same with zero biases for the convolutions, which our network has."""
    weights = {key.removesuffix('weight'): value for key, value in state.items() if key.endswith('.conv.weight')}
    return {f'{unit}bias': weight.new_zeros(weight.shape[0]) for unit, weight in weights.items()} | state


def own_parts(state: State) -> dict[str, list[str]]:
    """The names of a network's tensors that a ResNet can fill, under 'stem', 'stage0', 'stage1', ...; no counters."""
    parts: dict[str, list[str]] = {}
    for key in state:
        match = OWN_KEY.match(key)
        if match and not key.endswith('num_batches_tracked'):
            parts.setdefault(match[1] or 'stem', []).append(key)
    return parts


def names_in_file(state: State, stages: Iterable[str]) -> dict[str, str]:
    """Our network's names of a renamed file's tensors -> the file's names; stem and trunks alone.

    stages: of the network. A trunk without a stage's name is that of every stage that has none of its own in the file.
    """
    own: dict[str, str] = {}
    shared: dict[str, str] = {}
    for name in state:
        if stem := STEM_KEY.fullmatch(name):
            own[f'top.{stem[1]}'] = name
        elif (trunk := TRUNK_KEY.fullmatch(name)) and trunk[1]:
            own[f'{trunk[1]}.downsample.{trunk[2]}'] = name
        elif trunk:
            shared |= {f'{stage}.downsample.{trunk[2]}': name for stage in stages}
    return shared | own
