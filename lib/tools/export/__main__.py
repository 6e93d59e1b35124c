"""Exports a checkpoint to ONNX, torch.export or safetensors.

    python -m lib.tools.export --weights FILE --format onnx --output mspn.onnx [--with-decode] [--half]

The graph takes crops of people as OpenCV reads them, uint8 (batch, height, width, 3) in BGR, with any batch size, and
normalises them itself. It returns heatmaps, or with --with-decode keypoints in pixels of the crop and their scores. It
contains no flip test. A safetensors file holds only the weights, under a checkpoint's keys, for this project's own
commands.

The export is loaded again and compared with PyTorch on real crops; the file is written only if they agree.
docs/export.md shows how to use it.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict

from cvpack.errors import InputError, exits_cleanly
from cvpack.files import atomic_write, sha256
from lib.config import git_revision, to_plain
from lib.config.experiment import OWN, folder_of, own_file
from lib.deploy.saved import load_experiment
from lib.inference import PoseEstimator
from lib.loader import dataset_of
from lib.models.own import in_one_line
from lib.tools.arguments import command_parser, writing
from lib.tools.export.crops import find_crops
from lib.tools.export.formats import FORMATS, Export, Exportable, Run, exported_estimator

CROPS = 8  # the first alone, the others as a batch
# Tolerances, by whether the weights are float16: of heatmaps, relative to the highest peak; of scores; in pixels,
# of most joints (a few jump, where two peaks are almost equal).
MAX_DIFFERENCE = {False: 1e-3, True: 5e-2}
MAX_DISTANCE, MOST = {False: 0.01, True: 1.0}, 0.9


def describe(cfg: EasyDict, weights: Path, ema: bool, half: bool, outputs: str) -> dict[str, str]:
    """The metadata stored in the file."""
    dataset = dataset_of(cfg)
    height, width = cfg.INPUT_SHAPE
    return {
        'config': json.dumps(to_plain(cfg)),
        'git_revision': git_revision(),
        'weights': weights.name,
        'weights_sha256': sha256(weights),
        'weights_average': str(ema).lower(),
        'precision': 'float16' if half else 'float32',
        'input': f'uint8 (batch, {height}, {width}, 3), BGR, 0 to 255',
        'outputs': outputs,
        'joint_names': json.dumps(dataset.joint_names),
        'skeleton': json.dumps(dataset.skeleton),
    }


@torch.no_grad()
def compare(estimator: PoseEstimator, run: Run, crops: np.ndarray, half: bool) -> tuple[str, bool]:
    """How the outputs of an exported network differ from the estimator's, in words, and whether by too much.

    estimator: in float32; half: whether the exported network is in float16
    crops: (n, H, W, 3) uint8; the first is a batch of its own
    """
    parts = [run(part) for part in (crops[:1], crops[1:]) if len(part)]
    outputs = torch.cat([torch.from_numpy(np.concatenate(values)) for values in zip(*parts)], dim=2)
    heatmaps = estimator.heatmaps(torch.from_numpy(crops))
    differences, too_much = [], False
    if outputs.ndim == 4:
        highest, difference = heatmaps.abs().max(), (outputs - heatmaps).abs().max()
        too_much = not difference <= MAX_DIFFERENCE[half] * highest
        differences.append(f'heatmaps by at most {difference:.2g} (highest peak {highest:.4g})')
        outputs = estimator.decode(outputs)
    joints = estimator.decode(heatmaps)
    distances = (outputs - joints)[..., :2].norm(dim=-1).flatten()
    too_much |= not distances.quantile(MOST) <= MAX_DISTANCE[half]
    moved = (distances > 0.1).sum()
    differences.append(f'{moved} of {len(distances)} joints by more than 0.1 pixels (at most {distances.max():.2g})')
    difference = (outputs - joints)[..., 2].abs().max()
    too_much |= not difference <= MAX_DIFFERENCE[half]
    differences.append(f'scores by at most {difference:.2g}')
    return ', '.join(differences), too_much


def export(
    weights: Path,
    form: str,
    output: Path,
    with_decode: bool = False,
    half: bool = False,
    ema: bool = False,
    experiment: Path | None = None,
    images: Path | None = None,
) -> None:
    """Writes a network in a format of FORMATS; see the top of the file. Raises InputError where it cannot."""
    if form not in FORMATS:
        instead = 'torch-export for Python, onnx for C++' if form == 'torchscript' else f'one of {", ".join(FORMATS)}'
        raise InputError(f'--format {form} is not written: take {instead}')
    if with_decode and form == 'safetensors':
        raise InputError('--with-decode: a safetensors file holds weights and no graph to decode in; leave it out')
    cfg, model = load_experiment(weights, ema, experiment)
    write, runner, engine = FORMATS[form]
    joints, (h, w) = cfg.DATASET.KEYPOINT.NUM, cfg.OUTPUT_SHAPE
    outputs = f'heatmaps float32 (batch, {joints}, {h}, {w}), trained towards peaks of 255'
    if with_decode:
        outputs = f'keypoints float32 (batch, {joints}, 2) in pixels of the crop, scores float32 (batch, {joints}, 1)'
    metadata = describe(cfg, weights, ema, half, outputs)
    estimator = exported_estimator(cfg, model)
    graph = Exportable(exported_estimator(cfg, model, half) if half else estimator, with_decode).eval()
    job = Export(cfg, model, graph, metadata)
    crops, origin = find_crops(cfg, images, CROPS)
    with _own_faults(cfg, form):
        content = write(job)
    difference, too_much = compare(estimator, runner(content, job), crops, half)
    print(f'{len(crops)} crops, {origin}: in {engine} outputs differ from PyTorch in float32: {difference}')
    if too_much:
        raise InputError(
            f'{output} is not written: they differ too much; try {"without --half" if half else "another format"}'
        )
    with writing(output, '--output'), atomic_write(output) as file:
        file.write(content)
    print(f'{output}: {form}, {len(content) / 1e6:.1f} MB, weights in {metadata["precision"]}')
    if form != 'safetensors':
        print(f'in:  crops {metadata["input"]}\nout: {outputs}')


@contextlib.contextmanager
def _own_faults(cfg: EasyDict, form: str) -> Iterator[None]:
    """Turns an exporter's error into one line for an experiment's own network, which may not be exportable."""
    if cfg.NETWORK != OWN:
        yield
        return
    with in_one_line(f'{own_file(folder_of(cfg))} cannot be exported as {form}'):
        yield


def _parser() -> argparse.ArgumentParser:
    parser = command_parser('export', __doc__)
    parser.add_argument('--weights', type=Path, required=True, metavar='FILE', help='a checkpoint')
    parser.add_argument('--format', required=True, metavar='FORMAT', dest='form', help=', '.join(FORMATS))
    parser.add_argument('--output', type=Path, required=True, metavar='FILE', help='what to write')
    parser.add_argument('--with-decode', action='store_true', help='joints instead of heatmaps')
    parser.add_argument('--half', action='store_true', help='float16 inside; inputs and outputs keep their types')
    parser.add_argument('--ema', action='store_true', help='the EMA of the weights (SOLVER.EMA)')
    parser.add_argument(
        '--experiment',
        type=Path,
        metavar='DIR',
        help="for a file without its configuration, as published ones are, or of an experiment's own network",
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='DIR',
        help="pictures of one person each to compare on; default: the experiment's test crops, or synthetic people",
    )
    return parser


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    options = vars(_parser().parse_args(arguments))
    try:
        export(**options)
    except OSError as error:  # a file that cannot be read
        raise InputError(f'{error.filename or options["weights"]}: {error.strerror or error}') from None


if __name__ == '__main__':
    main()
