"""Converts weight files between forms; a tensor that is missing or left over is an error that names it.

    python -m lib.tools.convert --weights FILE --to own|published|torchvision|mmpose --output FILE

A whole network becomes
    own           a checkpoint with its configuration, enough to test or predict with
    published     {'model': ..., 'iteration': ...}, as the published code saves it, to test with
    mmpose        {'state_dict': ...} under the names of an mmpose file of the same network (--like FILE)
    torchvision   a ResNet without `fc`: the stem and the first stage's trunk; the rest is dropped and counted
A ResNet, torchvision's or renamed as by the published code, becomes
    own, published   the renamed file, for MODEL.WEIGHT
    torchvision      torchvision's

The form of the input is recognised by its tensors' names. A network without its configuration (published, mmpose) needs
--experiment exps/NAME. mmpose's names are those of version 1.3.2; files with other names are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict

from cvpack import checkpoint
from cvpack.errors import InputError, exits_cleanly
from lib.config import to_plain
from lib.config.experiment import OWN, own_file
from lib.deploy.mmpose import by_own_names, is_mmpose, tensors, to_mmpose
from lib.deploy.saved import config_of
from lib.models.mspn import MSPN, build_mspn
from lib.models.own import network_of
from lib.models.provenance import network_in
from lib.models.resnet import BACKBONES, BasicBlock
from lib.models.resnet_names import (
    STEM,
    State,
    from_torchvision,
    is_torchvision,
    to_torchvision,
    torchvision_remainder,
)
from lib.models.weights import check_against, check_state, read, select_weights
from lib.tools.arguments import command_parser, writing

TARGETS = ('own', 'published', 'torchvision', 'mmpose')
TRUNK = 'stage0.downsample.'
# Names by which a renamed ResNet and a network are recognised.
RENAMED = 'layer1.0.conv_bn_relu1.conv.weight'
NETWORK = 'stage0.upsample.up1.u_skip.conv.weight'


@dataclass
class Weights:
    """A weight file.

    state:     tensors under this project's names, of a network or of a renamed ResNet; float32
    form:      what the file is, in words
    cfg:       the network's configuration; None for a ResNet
    iteration: of the checkpoint, if known
    left_out:  names of tensors that have no counterpart here
    """

    state: State
    form: str
    cfg: EasyDict | None = None
    iteration: int | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.state = {k: value.float() if value.is_floating_point() else value for k, value in self.state.items()}


def read_weights(path: Path, ema: bool, experiment: Path | None) -> Weights:
    """Reads a weight file of any form. Raises InputError unless its tensors are exactly those of a network."""
    content = read(path)
    weights = tensors(select_weights(content, path, ema))
    is_own = network_in(content) == OWN or own_file(experiment) is not None
    if not is_own and (is_torchvision(weights) or RENAMED in weights):
        return read_resnet(weights, path)
    if not (is_own or is_mmpose(weights) or NETWORK in weights):
        raise InputError(f'{path} has no tensors of MSPN or of a ResNet: name another file')
    cfg = config_of(content, path, experiment)
    build_model = network_of(cfg)
    if is_own:
        state, form = check_state(build_model(cfg), weights, path), f'network of {build_model}'
    else:
        with torch.device('meta'):
            model = build_mspn(cfg)
        state = check_state(model, by_own_names(weights, path), path)
        form = 'mmpose' if is_mmpose(weights) else 'own' if 'config' in content else 'published'
        form = f'{form} network'
    return Weights(state, form, cfg, content.get('iteration'))


def read_resnet(weights: State, path: Path, backbone: str = '') -> Weights:
    """A ResNet, torchvision's or renamed. Raises InputError unless its tensors, `fc` apart, are exactly a ResNet's.

    path: of the file; backbone: the ResNet that it has to be; '': any
    """
    form, left_out = 'renamed ResNet', []
    if is_torchvision(weights):
        form, left_out, weights = 'torchvision ResNet', torchvision_remainder(weights), from_torchvision(weights)
    expected = _resnet_like(weights, path, backbone)
    unknown = [key for key in left_out if not key.startswith('fc.')] + [key for key in weights if key not in expected]
    if unknown:
        raise InputError(f"{path}: {len(unknown)} tensors are no ResNet's (first: {unknown[0]}): name another file")
    # ImageNet ResNets have no biases before BatchNorm, and old files lack num_batches_tracked.
    wanted = [key for key in expected if not key.endswith(('.conv.bias', 'num_batches_tracked'))]
    check_against(expected, weights, path, wanted)
    return Weights(weights, form, left_out=tuple(left_out))


def _resnet_like(weights: State, path: Path, backbone: str) -> State:
    """The tensors, on the meta device, of the renamed ResNet with the same numbers of blocks."""
    blocks = [{key.split('.')[1] for key in weights if key.startswith(f'layer{i}.')} for i in (1, 2, 3, 4)]
    depths = tuple(map(len, blocks))
    basic = 'layer1.0.conv_bn_relu3.conv.weight' not in weights
    fitting = [name for name, (block, own) in BACKBONES.items() if own == depths and (block is BasicBlock) == basic]
    if STEM not in weights or weights[STEM].ndim != 4 or not fitting or backbone not in ('', *fitting):
        wanted = backbone or f'a known ResNet ({", ".join(BACKBONES)})'
        raise InputError(f'{path} is not {wanted}: it has layers of {depths} blocks: name another file')
    with torch.device('meta'):
        model = MSPN(1, 1, backbone=fitting[0], width=len(weights[STEM]))
    return _stem_and_trunk(model.state_dict())


def _stem_and_trunk(state: State) -> State:
    """A network's stem and first trunk as a renamed ResNet."""
    return {key.removeprefix(TRUNK): value for key, value in state.items() if key.startswith(('top.', TRUNK))}


def converted(weights: Weights, to: str, like: Path | None) -> tuple[dict, int, str]:
    """The content of the converted file, its number of tensors, and a remark to print after that.

    like: for mmpose, the file whose names to take. Raises InputError for a conversion that is not possible.
    """
    state, cfg = weights.state, weights.cfg
    if cfg is not None and cfg.NETWORK == OWN and to in ('torchvision', 'mmpose'):
        raise InputError(f'--to {to} takes an MSPN, and this is a {weights.form}: use --to own or published')
    if to == 'mmpose':
        if cfg is None:
            raise InputError('--to mmpose takes a whole network, and this file is a ResNet: use --to torchvision')
        if like is None:
            raise InputError('--to mmpose needs --like FILE: an mmpose file of the same network, for its names')
        theirs = to_mmpose(state, tensors(read(like)), like)
        return {'state_dict': theirs, 'meta': {}}, len(theirs), _folded(state)
    if to == 'torchvision':
        resnet = state if cfg is None else _stem_and_trunk(state)
        theirs, dropped = to_torchvision(resnet), len(state) - len(resnet)
        return theirs, len(theirs), _folded(resnet) + (f', {dropped} outside the ResNet dropped' if dropped else '')
    if cfg is None:
        return state, len(state), ', a renamed ResNet for MODEL.WEIGHT'
    content: dict[str, Any] = {'model': state}
    if weights.iteration is not None:
        content['iteration'] = weights.iteration
    if to == 'own':
        content['config'] = to_plain(cfg)
    return content, len(state), ''


def _folded(state: State) -> str:
    biases = sum(key.endswith('.conv.bias') for key in state)
    return f', {biases} biases folded into BatchNorm' if biases else ''


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    parser = command_parser('convert', __doc__)
    parser.add_argument('--weights', type=Path, required=True, metavar='FILE')
    parser.add_argument('--to', required=True, choices=TARGETS)
    parser.add_argument('--output', type=Path, required=True, metavar='FILE')
    parser.add_argument('--ema', action='store_true', help='the EMA of the weights (SOLVER.EMA)')
    parser.add_argument('--experiment', type=Path, metavar='DIR', help="for a network's configuration and network.py")
    parser.add_argument('--like', type=Path, metavar='FILE', help='the mmpose file whose names to take')
    args = parser.parse_args(arguments)
    source = read_weights(args.weights, args.ema, args.experiment)
    content, count, remark = converted(source, args.to, args.like)
    with writing(args.output, '--output'):
        checkpoint.write(args.output, content)
    left = f', left out: {", ".join(source.left_out)}' if source.left_out else ''
    print(f'{args.weights}: {source.form}, {len(source.state)} tensors matched{left}')
    print(f'{args.output}: {args.to}, {count} tensors{remark}')


if __name__ == '__main__':
    main()
