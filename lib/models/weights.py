"""Weight files: torchvision's ResNets, the published "renamed" ResNets, whole MSPN checkpoints.

A renamed file has the keys of a trunk of ours without the stage's prefix (`layer1.0.conv_bn_relu1.conv.weight`,
`top.conv.conv.weight`): a key of the model takes the longest of its suffixes that the file holds.
"""

import json
import re
from pathlib import Path

import torch
from torch import nn

from cvpack import checkpoint, optional
from cvpack.errors import InputError, OtherRun
from cvpack.stand_ins import Foreign

State = dict[str, torch.Tensor]

STEM = 'top.conv.conv.weight'
TORCHVISION_KEY = re.compile(r'(conv1|bn1|layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))\.(\w+)')

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


def choose(state: dict, path: Path, average: bool) -> dict:
    """The part of a checkpoint with the moving average of the weights, or the last ones' whole. Raises InputError."""
    if average and isinstance(state.get('ema_state_dict'), dict):  # mmengine's, which counts its steps in there too
        return {key: value for key, value in state['ema_state_dict'].items() if str(key).startswith('module.')}
    if average and 'ema' not in state:
        raise InputError(f'{path} has no moving average of the weights: train with SOLVER.EMA, or go without --ema')
    return state['ema'] if average else state


def _rename(key: str) -> str | None:
    """torchvision's name of a tensor -> the renamed file's; None for what MSPN does not have (`fc`)."""
    match = TORCHVISION_KEY.fullmatch(key)
    if match is None:
        return None
    unit, parameter = match[1], match[3]
    if unit in ('conv1', 'bn1'):
        return f'top.conv.{unit[:-1]}.{parameter}'
    prefix, name = unit.rsplit('.', 1)
    if name in '01':
        return f'{prefix}.{"conv" if name == "0" else "bn"}.{parameter}'
    return f'{prefix}.conv_bn_relu{name[-1]}.{name[:-1]}.{parameter}'


def is_torchvision(state: State) -> bool:
    """Whether these are torchvision's names."""
    return 'conv1.weight' in state and 'layer1.0.conv1.weight' in state


def torchvision_remainder(state: State) -> list[str]:
    """torchvision's names of what MSPN does not have."""
    return [key for key in state if _rename(key) is None]


def from_torchvision(state: State) -> State:
    """torchvision's ResNet -> the renamed form: float32, BGR input."""
    renamed = {new: value for key, value in state.items() if (new := _rename(key)) is not None}
    renamed[STEM] = renamed[STEM].flip(1)
    return {key: value.float() if value.is_floating_point() else value for key, value in renamed.items()}


def to_torchvision(state: State) -> State:
    """The renamed form -> torchvision's ResNet but for `fc`: RGB input, no convolution's biases."""
    unbiased = without_biases(state)
    unbiased[STEM] = unbiased[STEM].flip(1)
    theirs = {}
    for key, value in unbiased.items():
        name = key.replace('top.conv.conv.', 'conv1.').replace('top.conv.bn.', 'bn1.')
        name = name.replace('downsample.conv.', 'downsample.0.').replace('downsample.bn.', 'downsample.1.')
        theirs[re.sub(r'conv_bn_relu(\d)\.(conv|bn)\.', r'\2\1.', name)] = value
    return theirs


def without_biases(state: State) -> State:
    """The same function without the biases of convolutions: BatchNorm, which subtracts a mean, takes them over."""
    units = [key.removesuffix('.conv.bias') for key in state if key.endswith('.conv.bias')]
    means = {f'{unit}.bn.running_mean': state[f'{unit}.bn.running_mean'] - state[f'{unit}.conv.bias'] for unit in units}
    return {key: value for key, value in (state | means).items() if not key.endswith('.conv.bias')}


def with_biases(state: State) -> State:
    """The same with biases of zero for the convolutions, as our network has them."""
    weights = {key.removesuffix('weight'): value for key, value in state.items() if key.endswith('.conv.weight')}
    return {f'{unit}bias': weight.new_zeros(weight.shape[0]) for unit, weight in weights.items()} | state


def _longest_suffix(key: str, names: State) -> str | None:
    """The longest suffix of a dotted key, itself included, that is in `names`."""
    parts = key.split('.')
    suffixes = ('.'.join(parts[i:]) for i in range(len(parts)))
    return next((suffix for suffix in suffixes if suffix in names), None)


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


def _load_backbone(model: nn.Module, state: State, path: Path, stages: str) -> str:
    """Puts a ResNet's weights into the stem and into the trunk of every stage, or of the first alone.

    state: what is in the file at path; stages: 'all' or 'first'
    Returns a line that says how many tensors matched. Raises InputError if one that should match does not: a
    network half of whose trunk is random would train all the same, only worse.
    """
    form = 'renamed'
    if is_torchvision(state):
        state, form = from_torchvision(state), 'torchvision'
    model_state = model.state_dict()
    trunk = re.compile(r'top\.|stage\d+\.downsample\.' if stages == 'all' else r'top\.|stage0\.downsample\.')
    wanted = [key for key in model_state if trunk.match(key) and not key.endswith('num_batches_tracked')]
    found = {key: _longest_suffix(key, state) for key in wanted}
    matched = {key: state[name] for key, name in found.items() if name is not None}
    # ImageNet's ResNets have no biases before BatchNorm.
    absent = [key for key in wanted if key not in matched and key.endswith('conv.bias')]
    zeros = {key: torch.zeros_like(model_state[key]) for key in absent}
    check_against(model_state, matched | zeros, path, wanted)
    left = [name for name in state.keys() - found.values() if re.match(r'layer.*(?<!num_batches_tracked)$', name)]
    if left:
        raise InputError(
            f'{path} does not fit this model: {len(left)} of its tensors are of a deeper trunk (first: {min(left)}); '
            'check MODEL.BACKBONE'
        )
    model.load_state_dict(matched | zeros, strict=False)
    return (
        f'{path}: {len(matched)} of {len(wanted)} tensors of stem and trunks matched ({form} file), '
        f'the other {len(absent)} are biases that it does not have: 0'
    )


def load_pretrained(model: nn.Module, path: Path, stages: str = 'all') -> str:
    """Begins a training run from a file: a ResNet (_load_backbone), or a whole network that a run ended with.

    Of a whole network that predicts other joints, exactly the heads' layers whose shape differs stay as they were
    initialised. Returns what matched, in lines. Raises InputError if anything else does not.
    """
    state = unwrap(read(path))
    if not _head_layers(state):
        return _load_backbone(model, state, path, stages)
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


def load_model(model: nn.Module, path: Path, average: bool = False) -> dict:
    """Loads a whole network strictly and returns the rest of the checkpoint (iteration, optimizer, ...).

    average: take the moving average of the weights (SOLVER.EMA) instead of the last ones.
    Raises InputError when the file is of another network, or has no average.
    """
    state = read(path)
    load_state(model, choose(state, path, average), path)
    return {key: value for key, value in state.items() if key not in ('model', 'ema')}


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
