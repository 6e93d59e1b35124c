"""Weight files: pretrained ResNets, under the names in lib/models/resnet_names.py, and complete networks."""

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
    names_in_file,
    own_parts,
    torchvision_remainder,
)
from lib.utils import optional

HEAD_LAYER = re.compile(r'stage\d+\.upsample\.up\d\.res_conv2')


def read(path: Path) -> dict:
    """The content of a checkpoint; that of a .safetensors file as `model` and, if it is there, `config`.

    Raises InputError for a file that is absent, damaged, or holds anything but data.
    """
    if path.suffix != '.safetensors':
        state = checkpoint.load(path)
        if isinstance(state.get('model'), Foreign):
            raise InputError(f"{path}: its 'model' is {state['model']}: save that network's state_dict() instead")
        return state
    if not path.is_file():
        raise InputError(f'{path} does not exist: name a weight file')
    safe_open = optional.load('safetensors', 'export').safe_open
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            state = {'model': {key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118 it is no dictionary
        return state | {key: json.loads(metadata[key]) for key in ('config',) if key in metadata}
    except Exception as error:  # its own class for damage; ValueError for the json
        raise InputError(f'{path} is not a readable safetensors file ({error}): get it again') from None


def unwrap(state: object) -> State:
    """The network's tensors in a checkpoint, without DataParallel's prefix."""
    part = state.get('model', state) if isinstance(state, dict) else None
    named = part.items() if isinstance(part, dict) else ()
    return {str(key).removeprefix('module.'): value for key, value in named if isinstance(value, torch.Tensor)}


def select_weights(state: dict, path: Path, ema: bool) -> dict:
    """The part of a checkpoint that holds the EMA of the weights; without `ema`, all of it. Raises InputError."""
    if ema and isinstance(state.get('ema_state_dict'), dict):  # mmengine's, which keeps its step counter there too
        return {key: value for key, value in state['ema_state_dict'].items() if str(key).startswith('module.')}
    if ema and not isinstance(state.get('ema'), dict):
        raise InputError(f'{path} has no EMA of the weights: train with SOLVER.EMA, or leave out --ema')
    return state['ema'] if ema else state


def check_against(model_state: State, state: State, path: Path, wanted: list[str]) -> None:
    """Raises OtherRun unless `state` has all the wanted keys, in the model's shapes."""
    missing = [key for key in wanted if key not in state]
    wrong = [key for key in wanted if key in state and state[key].shape != model_state[key].shape]
    if not missing and not wrong:
        return
    reasons = [f'{len(missing)} tensors are missing (first: {missing[0]})'] if missing else []
    if wrong:
        shapes = f'{tuple(state[wrong[0]].shape)}, the model has {tuple(model_state[wrong[0]].shape)}'
        reasons.append(f'{len(wrong)} have another shape (first: {wrong[0]}: {shapes})')
    raise OtherRun(f'{path} does not fit this model: {"; ".join(reasons)}; check that it is of the same network')


def _load_backbone(model: nn.Module, state: State, path: Path, stages: str) -> list[str]:
    """Loads a ResNet's weights into the stem and trunks; see load_pretrained.

    state: the content of the file at path

    Returns lines that say what was loaded, and what was not. Raises InputError if nothing matches, or only some of a
    stem or trunk: a network with half a random trunk would train, only worse.
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
    names = names_in_file(state, [part for part in parts if part != 'stem'])
    filled = [part for part in asked if names.keys() & parts[part]]
    wanted = [key for part in filled or asked for key in parts[part]]
    matched = {key: state[names[key]] for key in wanted if key in names}
    # ImageNet's ResNets have no biases before BatchNorm.
    biases = {part: [key for key in parts[part] if key.endswith('conv.bias')] for part in filled}
    absent = [key for own in biases.values() if not matched.keys() & own for key in own]
    zeros = {key: torch.zeros_like(model_state[key]) for key in absent}
    check_against(model_state, matched | zeros, path, wanted)
    asked_trunks = tuple(f'{part}.' for part in asked)
    deeper = {name for key, name in names.items() if key.startswith(asked_trunks) and key not in model_state}
    if deeper:
        raise InputError(
            f'{path} does not fit this model: {len(deeper)} of its tensors belong to a deeper trunk '
            f'(first: {min(deeper)}); check MODEL.BACKBONE, and that the file is of a plain ResNet'
        )
    model.load_state_dict(matched | zeros, strict=False)
    lines = [f'{path}: {len(matched)} of {len(wanted)} tensors of {", ".join(filled)} matched ({form} file)']
    if absent:
        lines[0] += f', the other {len(absent)} are biases that it lacks: 0'
    if left := [part for part in parts if part not in filled]:
        lines.append(f'{", ".join(left)}: nothing from this file (MODEL.WEIGHT_STAGES {stages}), initialised at random')
    if unused := state.keys() - {names[key] for key in matched}:
        lines.append(f'{path}: {len(unused)} of its tensors are not used (first: {min(unused)})')
    return lines


def load_pretrained(model: nn.Module, path: Path, stages: str = 'all') -> str:
    """Initialises a training run from a file: a ResNet, or a trained network.

    stages: what is taken from the file
        'all'    everything. A ResNet's tensors under a stage's name go into that stage's trunk, those without one
                 (torchvision's) into all the others
        'first'  the stem and the first stage's trunk, from a trained network too
        'stem'   the stem

    A stem or trunk that is not in the file stays as it was initialised. If a trained network predicts other joints,
    exactly those layers of the heads whose shape differs are re-initialised. Returns, in lines, what matched and what
    did not. Raises InputError if anything else does not match.
    """
    content = read(path)
    state = unwrap(content.get('state_dict', content))
    is_network = _head_layers(state) or model.state_dict().keys() <= state.keys()
    if stages != 'all' or not is_network:
        return '\n'.join(_load_backbone(model, state, path, stages))
    model_state = model.state_dict()
    reinitialised = [
        layer
        for layer in _head_layers(model_state)
        if any(key in state and state[key].shape != value.shape for key, value in _below(model_state, layer).items())
    ]
    fresh = {key: value for layer in reinitialised for key, value in _below(model_state, layer).items()}
    weights = check_state(model, {**state, **fresh}, path)
    model.load_state_dict(weights)
    matched = f'{path}: {len(weights) - len(fresh)} of {len(weights)} tensors matched'
    return '\n'.join([matched, *(f'{layer} predicts other joints: re-initialised' for layer in reinitialised)])


def _head_layers(state: State) -> list[str]:
    """The layers that predict heatmaps, one per level."""
    return list(dict.fromkeys(match[0] for key in state if (match := HEAD_LAYER.match(key))))


def _below(state: State, layer: str) -> State:
    return {key: value for key, value in state.items() if key.startswith(f'{layer}.')}


def load_state(model: nn.Module, state: dict, path: Path) -> None:
    """Loads a checkpoint's weights, or a plain state dict. Raises InputError, naming the path, if they do not fit."""
    model.load_state_dict(check_state(model, state, path))


def check_state(model: nn.Module, state: dict, path: Path) -> State:
    """The weights in a checkpoint or plain state dict. Raises InputError, naming the path, if they do not fit."""
    weights = unwrap(state)
    model_state = model.state_dict()
    check_against(model_state, weights, path, list(model_state))
    extra = [key for key in weights if key not in model_state]
    if extra:
        raise OtherRun(f'{path} does not fit this model: it has {len(extra)} more tensors (first: {extra[0]})')
    return weights
