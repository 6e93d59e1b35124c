"""Weight files: ResNets to begin with, in the forms that lib/models/resnet_names.py knows, and whole checkpoints."""

import json
import re
from pathlib import Path

import torch
from torch import nn

from cvpack import checkpoint
from cvpack.errors import InputError, OtherRun
from cvpack.stand_ins import Foreign
from lib.models.resnet_names import (
    State,
    from_torchvision,
    is_torchvision,
    layer_of,
    own_parts,
    place,
    torchvision_remainder,
)
from lib.utils import optional

HEAD_LAYER = re.compile(r'stage\d+\.upsample\.up\d\.res_conv2')


def read(path: Path) -> dict:
    """The content of a checkpoint; of a .safetensors file as a checkpoint: `model`, and `config` if it is there.

    Raises InputError for a file that is absent, damaged, or holds anything but data.
    """
    if path.suffix != '.safetensors':
        state = checkpoint.load(path)
        if isinstance(state.get('model'), Foreign):
            raise InputError(f"{path}: its 'model' is {state['model']}: save the state_dict() of that network alone")
        return state
    if not path.is_file():
        raise InputError(f'{path} does not exist: name a weight file')
    safe_open = optional.load('safetensors', 'export').safe_open
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            state = {'model': {key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118 it is no dictionary
        return state | {key: json.loads(metadata[key]) for key in ('config',) if key in metadata}
    except Exception as error:  # its own kind for damage; ValueError for the json
        raise InputError(f'{path} is not a readable safetensors file ({error}): get it again') from None


def unwrap(state: object) -> State:
    """The network's part of a checkpoint, without the prefix that DataParallel leaves."""
    part = state.get('model', state) if isinstance(state, dict) else None
    named = part.items() if isinstance(part, dict) else ()
    return {str(key).removeprefix('module.'): value for key, value in named if isinstance(value, torch.Tensor)}


def select_weights(state: dict, path: Path, ema: bool) -> dict:
    """The part of a checkpoint with the moving average of the weights, or the last ones' whole. Raises InputError."""
    if ema and isinstance(state.get('ema_state_dict'), dict):  # mmengine's, which counts its steps in there too
        return {key: value for key, value in state['ema_state_dict'].items() if str(key).startswith('module.')}
    if ema and 'ema' not in state:
        raise InputError(f'{path} has no moving average of the weights: train with SOLVER.EMA, or go without --ema')
    return state['ema'] if ema else state


def check_against(model_state: State, state: State, path: Path, wanted: list[str]) -> None:
    """Raises InputError unless `state` has all the wanted keys in the model's shapes."""
    missing = [key for key in wanted if key not in state]
    wrong = [key for key in wanted if key in state and state[key].shape != model_state[key].shape]
    if not missing and not wrong:
        return
    reasons = [f'{len(missing)} tensors are missing (first: {missing[0]})'] if missing else []
    if wrong:
        shapes = f'{tuple(state[wrong[0]].shape)}, the model wants {tuple(model_state[wrong[0]].shape)}'
        reasons.append(f'{len(wrong)} have another shape (first: {wrong[0]}: {shapes})')
    raise OtherRun(f'{path} does not fit this model: {"; ".join(reasons)}; check that it is of the same network')


def _load_backbone(model: nn.Module, state: State, path: Path, stages: str) -> list[str]:
    """Puts a ResNet's weights into the stem and into trunks, as load_pretrained says.

    state: what is in the file at path
    Returns lines that say what was filled, and what was not. Raises InputError if nothing can be, or a part only in
    part: a network half of whose trunk is random would train all the same, only worse.
    """
    form = 'renamed'
    if is_torchvision(state):
        left_over = {key: state[key] for key in torchvision_remainder(state)}
        state, form = left_over | from_torchvision(state), 'torchvision'
    counts = 'num_batches_tracked'
    state = {k: value.float() for k, value in state.items() if value.is_floating_point() and not k.endswith(counts)}
    model_state = model.state_dict()
    parts = own_parts(model_state)
    if not parts:
        raise InputError(f"{path}: this network has no tensors of MSPN's stem and trunks: set MODEL.WEIGHT to ''")
    asked = [part for part in parts if part in {'first': ('stem', 'stage0'), 'stem': ('stem',)}.get(stages, parts)]
    found = {part: {key: name for key in parts[part] if (name := place(state, part, key))} for part in asked}
    filled = [part for part in asked if found[part]]
    wanted = [key for part in filled or asked for key in parts[part]]
    matched = {key: state[name] for names in found.values() for key, name in names.items()}
    # ImageNet's ResNets have no biases before BatchNorm.
    unbiased = [part for part in filled if not any(key.endswith('conv.bias') for key in found[part])]
    absent = [key for part in unbiased for key in parts[part] if key.endswith('conv.bias')]
    zeros = {key: torch.zeros_like(model_state[key]) for key in absent}
    check_against(model_state, matched | zeros, path, wanted)
    _check_depth([key for part in asked for key in parts[part]], state, path, asked)
    model.load_state_dict(matched | zeros, strict=False)
    told = [f'{path}: {len(matched)} of {len(wanted)} tensors of {", ".join(filled)} matched ({form} file)']
    if absent:
        told[0] += f', the other {len(absent)} are biases that it does not have: 0'
    if left := [part for part in parts if part not in filled]:
        told.append(f'{", ".join(left)}: nothing from this file (MODEL.WEIGHT_STAGES {stages}), initialised at random')
    if unused := state.keys() - {name for names in found.values() for name in names.values()}:
        told.append(f'{path}: {len(unused)} of its tensors are not used (first: {min(unused)})')
    return told


def _check_depth(wanted: list[str], state: State, path: Path, asked: list[str]) -> None:
    """Raises InputError if the file has a layer, for a trunk that is asked for, which is not wanted."""
    own = {layer[1] for key in wanted if (layer := layer_of(key))}
    layers = {name: layer for name in state if (layer := layer_of(name)) and own}
    deeper = [name for name, (stage, below) in layers.items() if stage in (None, *asked) and below not in own]
    if deeper:
        raise InputError(
            f'{path} does not fit this model: {len(deeper)} of its tensors are of a deeper trunk '
            f'(first: {min(deeper)}); check MODEL.BACKBONE, and that the file is of a plain ResNet'
        )


def load_pretrained(model: nn.Module, path: Path, stages: str = 'all') -> str:
    """Begins a training run from a file: a ResNet, or a whole network that a run ended with.

    stages: what is taken of the file
        'all'    everything: of a ResNet the stem, and a trunk wherever the file has one: what it has under a stage's
                 name goes into that stage's trunk, what has no stage's name (torchvision's) into all the others
        'first'  the stem and the first stage's trunk, of a whole network too
        'stem'   the stem
    A stem or trunk that the file has nothing for stays as it was initialised; of a whole network that predicts other
    joints so do exactly the heads' layers whose shape differs. Returns what matched and what did not, in lines.
    Raises InputError if anything else does not match.
    """
    content = read(path)
    state = unwrap(content.get('state_dict', content))
    is_whole = _head_layers(state) or model.state_dict().keys() <= state.keys()
    if stages != 'all' or not is_whole:
        return '\n'.join(_load_backbone(model, state, path, stages))
    model_state = model.state_dict()
    anew = [
        layer
        for layer in _head_layers(model_state)
        if any(key in state and state[key].shape != value.shape for key, value in _below(model_state, layer).items())
    ]
    fresh = {key: value for layer in anew for key, value in _below(model_state, layer).items()}
    weights = check_state(model, {**state, **fresh}, path)
    model.load_state_dict(weights)
    told = f'{path}: {len(weights) - len(fresh)} of {len(weights)} tensors matched'
    return '\n'.join([told, *(f'{layer} predicts other joints: it begins anew' for layer in anew)])


def _head_layers(state: State) -> list[str]:
    """The layers that predict heatmaps, one a level."""
    return list(dict.fromkeys(match[0] for key in state if (match := HEAD_LAYER.match(key))))


def _below(state: State, layer: str) -> State:
    return {key: value for key, value in state.items() if key.startswith(f'{layer}.')}


def load_state(model: nn.Module, state: dict, path: Path) -> None:
    """Puts a checkpoint's weights, or bare ones, into the model. Raises InputError, by path, if they do not fit."""
    model.load_state_dict(check_state(model, state, path))


def check_state(model: nn.Module, state: dict, path: Path) -> State:
    """A checkpoint's weights, or bare ones. Raises InputError, by path, if they do not fit the model."""
    weights = unwrap(state)
    model_state = model.state_dict()
    check_against(model_state, weights, path, list(model_state))
    extra = [key for key in weights if key not in model_state]
    if extra:
        raise OtherRun(f'{path} does not fit this model: it has {len(extra)} more tensors (first: {extra[0]})')
    return weights
