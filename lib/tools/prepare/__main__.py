"""Arranges downloaded data and weights as the experiments expect them.

    python -m lib.tools.prepare coco --source DIR [--detections FILE] [--test-detections FILE]
    python -m lib.tools.prepare mpii --source DIR [--valid-images FILE]
    python -m lib.tools.prepare weights [--backbone Res-50] [--file FILE]
    python -m lib.tools.prepare toy [--train 2000] [--val 250] [--seed 0]
    python -m lib.tools.prepare own --annotations FILE [FILE ...] --images DIR --name NAME   # docs/own_data.md

Each takes --target DIR; the defaults are dataset/COCO, dataset/MPII, lib/models, dataset/TOY and dataset/NAME. Images
are linked; on a file system without links they are copied, or, by `own`, named in config.py. Commands can be repeated:
a correct file is kept, and a different one is named and left alone. Each step prints a line with its counts.
"""

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import read_json, sha256
from lib.config.places import REPOSITORY, home
from lib.datasets.synthetic import write_dataset
from lib.deploy.mmpose import tensors
from lib.models.resnet import BACKBONES
from lib.models.weights import read
from lib.tools.arguments import command_parser, positive, writing
from lib.tools.convert import read_resnet
from lib.tools.prepare.coco import prepare_coco
from lib.tools.prepare.layout import as_json, place
from lib.tools.prepare.mpii import prepare_mpii
from lib.tools.prepare.own.command import add_options, prepare_own


def prepare_weights(target: Path, backbone: str, file: Path | None) -> None:
    """Writes target/resnet-DEPTH_rename.pth from torchvision's ImageNet ResNet: from `file`, else downloaded.

    An existing renamed file is kept; with `file`, only if the content is the same. Raises InputError if the weights
    cannot be downloaded or are of another network.
    """
    depth = backbone.removeprefix('Res-')
    renamed = target / f'resnet-{depth}_rename.pth'
    if file is None and renamed.is_file():
        print(f'{renamed}: kept')
        return
    origin = file or _download(f'resnet{depth}', target)
    state = read_resnet(tensors(read(origin)), origin, backbone).state
    buffer = io.BytesIO()
    torch.save(state, buffer)
    print(f'{renamed}: {place(renamed, buffer.getvalue())}, {len(state)} tensors from {origin}')


def _download(model: str, target: Path) -> Path:
    """torchvision's ImageNet weights of a model; the file's name ends in the start of its SHA-256."""
    url = torchvision.models.get_model_weights(model).IMAGENET1K_V1.url
    path, prefix = target / Path(url).name, Path(url).stem.rpartition('-')[2]
    done = 'kept'
    if not path.is_file():
        target.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:  # no network; wrong hash
            raise InputError(f'cannot download {url} ({error}): put it at {path}, or name it with --file') from error
        done = 'downloaded'
    elif not sha256(path).startswith(prefix):
        raise InputError(f'{path} is damaged (its SHA-256 should start with {prefix}): remove it and run this again')
    print(f'{path}: {done}, {path.stat().st_size / 1e6:.1f} MB')
    return path


def prepare_toy(target: Path, train: int, val: int, seed: int) -> None:
    """Writes the synthetic people, atomically; drawn.json beside them holds the arguments.

    Raises InputError if the folder holds something else.
    """
    arguments = {'train': train, 'val': val, 'seed': seed}
    if target.exists():
        drawn = target / 'drawn.json'
        present = read_json(drawn) if drawn.is_file() else 'something else'
        if present != arguments:
            raise InputError(f'{target} holds {present}, not {arguments}: move it away, or name another --target')
        print(f'{target}: kept, synthetic people with {arguments}')
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{target.name}.', dir=target.parent) as folder:
        unfinished = Path(folder) / target.name
        unfinished.mkdir()
        counts = write_dataset(unfinished, train, val, seed)
        place(unfinished / 'drawn.json', as_json(arguments))
        unfinished.rename(target)
    print(f'{target}: synthetic people with {arguments}, ' + ', '.join(f'{key} {n}' for key, n in counts.items()))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser('prepare', __doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    command = {}
    for name, function, target in (
        ('coco', prepare_coco, home() / 'dataset/COCO'),
        ('mpii', prepare_mpii, home() / 'dataset/MPII'),
        ('weights', prepare_weights, REPOSITORY / 'lib/models'),
        ('toy', prepare_toy, home() / 'dataset/TOY'),
        ('own', prepare_own, None),
    ):
        does = (function.__doc__ or '').partition('\n')[0]
        command[name] = commands.add_parser(name, help=does, description=does)
        command[name].set_defaults(function=function)
        command[name].add_argument(
            '--target', type=Path, default=target, help=f'default: {target or home() / "dataset/NAME"}'
        )
    for name in ('coco', 'mpii'):
        command[name].add_argument('--source', type=Path, required=True, help='the folder of the download')
    command['coco'].add_argument('--detections', type=Path, help="a detector's boxes on val2017 (minival), json")
    command['coco'].add_argument('--test-detections', type=Path, help="a detector's boxes on test-dev, json")
    command['mpii'].add_argument('--valid-images', type=Path, help='text file of validation images, one per line')
    command['weights'].add_argument('--backbone', choices=BACKBONES, default='Res-50')
    command['weights'].add_argument('--file', type=Path, help="torchvision's file, for machines without network")
    command['toy'].add_argument('--train', type=positive, default=2000, help='training images')
    command['toy'].add_argument('--val', type=positive, default=250, help='validation images')
    command['toy'].add_argument('--seed', type=int, default=0)
    add_options(command['own'])
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    options = vars(_parser().parse_args(arguments))
    function, _ = options.pop('function'), options.pop('command')
    with writing(options['target'] or home() / 'dataset', '--target'):
        function(**options)


if __name__ == '__main__':
    main()
