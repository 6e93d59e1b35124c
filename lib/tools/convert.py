"""Turns weight files into each other, every tensor accounted for: one that is missing or left over is refused by name.

    python -m lib.tools.convert --weights FILE --to own|published|torchvision|mmpose --output FILE

A whole network becomes
    own           a checkpoint that says of which experiment it is, so that the file alone suffices to test or predict
    published     {'model': ...} as the published code has it: weights and iteration alone, to test with
    mmpose        {'state_dict': ...} by the names of another file of mmpose's, of the same network (--like FILE)
    torchvision   a ResNet without `fc`: the stem and the first stage's trunk; the rest is left out, and counted
A ResNet, torchvision's or renamed as in the published code, becomes
    own, published   the renamed file, which MODEL.WEIGHT takes
    torchvision      torchvision's

What a file is, is seen from its names. A network without its configuration, as the published ones and mmpose's are,
needs --experiment exps/NAME. mmpose's names are those of its version 1.3.2: a file that has others is refused.
"""

import argparse
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
from lib.models.own import network_in, network_of
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

TARGETS = ('own', 'published', 'torchvision', 'mmpose')
TRUNK = 'stage0.downsample.'
RENAMED = 'layer1.0.conv_bn_relu1.conv.weight'


@dataclass
class Weights:
    """What was read.

    state:     tensors by our names, those of a network or of a renamed ResNet; float32
    cfg:       of the network; None: it is a ResNet
    iteration: of the checkpoint, if it says
    form:      what the file is
    left_out:  its tensors that have no name of ours
    """

    state: State
    form: str
    cfg: EasyDict | None = None
    iteration: int | None = None
    left_out: tuple[str, ...] = ()


def read_weights(path: Path, ema: bool, experiment: Path | None) -> Weights:
    """A weight file of any of the forms. Raises InputError unless its tensors are all those of a network."""
    content = read(path)
    weights = tensors(select_weights(content, path, ema))
    if network_in(content) == OWN or own_file(experiment):
        return _read_own_network(content, weights, path, experiment)
    if is_torchvision(weights) or RENAMED in weights:
        return _read_resnet(weights, path)
    is_own = 'stage0.upsample.up1.u_skip.conv.weight' in weights
    if not is_own and not is_mmpose(weights):
        raise InputError(f"{path} has no tensors of MSPN's, nor of a ResNet: name another file")
    cfg = config_of(content, path, experiment)
    with torch.device('meta'):
        model = build_mspn(cfg)
    state = check_state(model, by_own_names(weights, path), path)
    form = 'mmpose' if is_mmpose(weights) else 'own' if 'config' in content else 'published'
    return Weights(_single_precision(state), f'{form} network', cfg, content.get('iteration'))


def _read_own_network(content: dict, weights: State, path: Path, experiment: Path | None) -> Weights:
    """The weights of a network that an experiment's network.py builds."""
    cfg = config_of(content, path, experiment)
    build_model = network_of(cfg)
    state = check_state(build_model(cfg), weights, path)
    return Weights(_single_precision(state), f'network of {build_model}', cfg, content.get('iteration'))


def _read_resnet(weights: State, path: Path) -> Weights:
    form, left_out = 'renamed ResNet', []
    if is_torchvision(weights):
        form, left_out = 'torchvision ResNet', torchvision_remainder(weights)
        unknown = [key for key in left_out if not key.startswith('fc.')]
        if unknown:
            raise _unlike_resnet(path, unknown)
        weights = from_torchvision(weights)
    expected = _resnet_like(weights, path)
    # ImageNet's ResNets have no biases before BatchNorm, and old files do not count batches.
    wanted = [key for key in expected if not key.endswith(('.conv.bias', 'num_batches_tracked'))]
    check_against(expected, weights, path, wanted)
    extra = [key for key in weights if key not in expected]
    if extra:
        raise _unlike_resnet(path, extra)
    return Weights(_single_precision(weights), form, left_out=tuple(left_out))


def _unlike_resnet(path: Path, keys: list[str]) -> InputError:
    return InputError(f"{path}: {len(keys)} tensors are no ResNet's (first: {keys[0]}): name another file")


def _resnet_like(weights: State, path: Path) -> State:
    """The tensors, without memory, of the renamed ResNet with as many blocks a layer. Raises InputError for others."""
    blocks = [{key.split('.')[1] for key in weights if key.startswith(f'layer{i}.')} for i in (1, 2, 3, 4)]
    depths = tuple(map(len, blocks))
    basic = 'layer1.0.conv_bn_relu3.conv.weight' not in weights
    names = [name for name, (block, own) in BACKBONES.items() if own == depths and (block is BasicBlock) == basic]
    if not names or STEM not in weights:
        raise InputError(f'{path}: layers of {depths} blocks and a stem are those of no ResNet that is known here')
    with torch.device('meta'):
        model = MSPN(1, 1, backbone=names[0], width=len(weights[STEM]))
    return _stem_and_trunk(model.state_dict())


def _stem_and_trunk(state: State) -> State:
    """A network's stem and first trunk, as a renamed ResNet."""
    return {key.removeprefix(TRUNK): value for key, value in state.items() if key.startswith(('top.', TRUNK))}


def _single_precision(state: State) -> State:
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def written(weights: Weights, to: str, like: Path | None) -> tuple[dict, int, str]:
    """The content of the file that weights become, the count of tensors in it, and what else is to be said.

    like: for mmpose, the file with the names. Raises InputError for what cannot be.
    """
    state, is_network = weights.state, weights.cfg is not None
    if weights.cfg is not None and weights.cfg.NETWORK == OWN and to in ('torchvision', 'mmpose'):
        raise InputError(f'--to {to} takes an MSPN, and this is a {weights.form}: use --to own or published')
    if to == 'mmpose':
        if not is_network:
            raise InputError('--to mmpose takes a whole network, and this file is a ResNet: use --to torchvision')
        if like is None:
            raise InputError("--to mmpose needs --like FILE: a file of mmpose's of the same network, for its names")
        theirs = to_mmpose(state, tensors(read(like)), like)
        return {'state_dict': theirs, 'meta': {}}, len(theirs), _taken_over(state)
    if to == 'torchvision':
        resnet = _stem_and_trunk(state) if is_network else state
        theirs = to_torchvision(resnet)
        left = len(state) - len(resnet)
        return theirs, len(theirs), _taken_over(resnet) + (f', {left} of no ResNet left out' if left else '')
    if not is_network:
        return state, len(state), ', a renamed ResNet for MODEL.WEIGHT'
    content: dict[str, Any] = {'model': state}
    if weights.iteration is not None:
        content['iteration'] = weights.iteration
    if to == 'own':
        content['config'] = to_plain(weights.cfg)
    return content, len(state), ''


def _taken_over(state: State) -> str:
    biases = sum(key.endswith('.conv.bias') for key in state)
    return f', {biases} biases taken over by means of BatchNorm' if biases else ''


def convert(
    weights: Path,
    to: str,
    output: Path,
    ema: bool = False,
    experiment: Path | None = None,
    like: Path | None = None,
) -> None:
    """Writes a weight file in another form; see the top of the file. Raises InputError where that cannot be."""
    source = read_weights(weights, ema, experiment)
    content, count, remark = written(source, to, like)
    checkpoint.write(output, content)
    left = f', left out: {", ".join(source.left_out)}' if source.left_out else ''
    print(f'{weights}: {source.form}, {len(source.state)} tensors matched{left}')
    print(f'{output}: {to}, {count} tensors{remark}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.convert', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--weights', type=Path, required=True, metavar='FILE')
    parser.add_argument('--to', required=True, choices=TARGETS)
    parser.add_argument('--output', type=Path, required=True, metavar='FILE')
    parser.add_argument('--ema', action='store_true', dest='ema', help="the weights' moving average (SOLVER.EMA)")
    parser.add_argument(
        '--experiment', type=Path, metavar='DIR', help='whose configuration a network has, and network.py'
    )
    parser.add_argument('--like', type=Path, metavar='FILE', help="mmpose's file to take names from")
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    options = vars(_parser().parse_args(arguments))
    try:
        convert(**options)
    except OSError as error:  # a full disk, a folder that may not be written
        raise InputError(f'{error.filename or options["output"]}: {error.strerror or error}') from None


if __name__ == '__main__':
    main()
