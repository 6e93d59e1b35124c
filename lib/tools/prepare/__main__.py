"""Brings downloaded data and weights into the layout that the experiments read.

    python -m lib.tools.prepare coco --source DIR [--detections FILE] [--test-detections FILE]
    python -m lib.tools.prepare mpii --source DIR [--valid-images FILE]
    python -m lib.tools.prepare weights [--backbone Res-50] [--file FILE]
    python -m lib.tools.prepare toy [--train 2000] [--val 250] [--seed 0]

Each takes --target DIR; the defaults are dataset/COCO, dataset/MPII, lib/models and dataset/TOY. Images are
linked, and copied only where there can be no links. A command can be run again: what is there and right stays;
what is there and different is named and left alone. Every step prints a line with its counts.
"""

import argparse
import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision

from cvpack import checkpoint
from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json, sha256
from lib import config
from lib.datasets.synthetic import write_dataset
from lib.models.resnet import BACKBONES
from lib.models.resnet_names import from_torchvision
from lib.tools.arguments import positive
from lib.tools.prepare.coco import prepare_coco
from lib.tools.prepare.layout import as_json, place
from lib.tools.prepare.mpii import prepare_mpii

DEPTHS = {name: int(name.removeprefix('Res-')) for name in BACKBONES}


def prepare_weights(target: Path, backbone: str, file: Path | None) -> None:
    """Writes target/resnet-DEPTH_rename.pth from torchvision's ImageNet ResNet: from `file`, or else fetched.

    A renamed file that is already there is kept; with `file`, only if it holds the same. Raises InputError
    for weights that cannot be fetched or are of another network.
    """
    depth = DEPTHS[backbone]
    renamed = target / f'resnet-{depth}_rename.pth'
    if file is None and renamed.is_file():
        print(f'{renamed}: kept')
        return
    url = torchvision.models.get_model_weights(f'resnet{depth}').IMAGENET1K_V1.url
    origin = file or _fetched(url, target)
    state = from_torchvision(_read_torchvision(origin, depth))
    buffer = io.BytesIO()
    torch.save(state, buffer)
    print(f'{renamed}: {place(renamed, buffer.getvalue())}, {len(state)} tensors from {origin}')


def _fetched(url: str, target: Path) -> Path:
    """The file behind one of torchvision's addresses, whose name ends in the start of its SHA-256."""
    path = target / Path(url).name
    prefix = re.search(r'-([0-9a-f]{8,})\.pth$', url)[1]
    if path.is_file():
        if not sha256(path).startswith(prefix):
            raise InputError(f'{path} is damaged (its SHA-256 should start with {prefix}): remove it and run again')
        print(f'{path}: kept, {path.stat().st_size / 1e6:.1f} MB')
        return path
    target.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:  # no network; a wrong hash
        raise InputError(f'cannot fetch {url} ({error}): put the file at {path} or name it with --file') from error
    print(f'{path}: fetched, {path.stat().st_size / 1e6:.1f} MB')
    return path


def _read_torchvision(path: Path, depth: int) -> dict[str, torch.Tensor]:
    """The file's tensors; raises InputError unless they are, `fc` apart, a ResNet's of this depth."""
    state = checkpoint.load(path)
    with torch.device('meta'):
        wanted = _shapes(torchvision.models.get_model(f'resnet{depth}').state_dict())
    there = _shapes(state)
    wrong = sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))
    if wrong:
        raise InputError(
            f"{path} is not torchvision's ResNet-{depth}: {len(wrong)} of the tensors differ, as {wrong[0]}"
        )
    return state


def _shapes(state: dict) -> dict[str, torch.Size | None]:
    return {
        str(key): getattr(value, 'shape', None)
        for key, value in state.items()
        if not re.match(r'fc\.|.*num_batches_tracked', str(key))
    }


def prepare_toy(target: Path, train: int, val: int, seed: int) -> None:
    """Draws the synthetic people, whole or not at all; drawn.json beside them tells with which arguments.

    Raises InputError if something else is in the folder.
    """
    arguments = {'train': train, 'val': val, 'seed': seed}
    if target.exists():
        drawn = target / 'drawn.json'
        there = read_json(drawn) if drawn.is_file() else 'something else'
        if there != arguments:
            raise InputError(f'{target} holds {there}, not {arguments}: move it away or give another --target')
        print(f'{target}: kept, drawn with {arguments}')
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{target.name}.', dir=target.parent) as folder:
        unfinished = Path(folder) / target.name
        unfinished.mkdir()
        counts = write_dataset(unfinished, train, val, seed)
        place(unfinished / 'drawn.json', as_json(arguments))
        unfinished.rename(target)
    print(f'{target}: drawn with {arguments}, ' + ', '.join(f'{key} {value}' for key, value in counts.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.prepare',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    dataset = config.home() / 'dataset'
    defaults = {
        'coco': (prepare_coco, dataset / 'COCO'),
        'mpii': (prepare_mpii, dataset / 'MPII'),
        'weights': (prepare_weights, config.REPOSITORY / 'lib' / 'models'),
        'toy': (prepare_toy, dataset / 'TOY'),
    }
    command = {}
    for name, (function, target) in defaults.items():
        command[name] = commands.add_parser(name, help=function.__doc__.partition('\n')[0])
        command[name].set_defaults(function=function)
        command[name].add_argument('--target', type=Path, default=target, help=f'default: {target}')
    for name in ('coco', 'mpii'):
        command[name].add_argument('--source', type=Path, required=True, help='the folder of the download')
    command['coco'].add_argument('--detections', type=Path, help="a detector's boxes on val2017 (minival), json")
    command['coco'].add_argument('--test-detections', type=Path, help="a detector's boxes on test-dev, json")
    command['mpii'].add_argument('--valid-images', type=Path, help='text file: the validation images, one a line')
    command['weights'].add_argument('--backbone', choices=DEPTHS, default='Res-50')
    command['weights'].add_argument('--file', type=Path, help="torchvision's file, for machines without network")
    command['toy'].add_argument('--train', type=positive, default=2000, help='images to train on')
    command['toy'].add_argument('--val', type=positive, default=250, help='images to validate on')
    command['toy'].add_argument('--seed', type=int, default=0)
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    options = vars(_parser().parse_args(arguments))
    function, _ = options.pop('function'), options.pop('command')
    try:
        function(**options)
    except OSError as error:  # a full disk, a folder that may not be read or written
        raise InputError(f'{error.filename or options["target"]}: {error.strerror or error}') from error


if __name__ == '__main__':
    main()
