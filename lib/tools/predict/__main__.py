"""Finds the joints of people in pictures or a video.

    python -m lib.tools.predict --weights FILE --input IMAGES|FOLDERS|VIDEO --output FOLDER
    python -m lib.tools.predict ... --boxes FILE.json [--category CLASS]
    python -m lib.tools.predict ... --detector torchvision:fasterrcnn_resnet50_fpn_v2 --detector-weights FILE

Without boxes or a detector each whole image is taken for one person. The experiment is read from the weights' file.
Writes results.json, a row for each person in the form of COCO's results, and the pictures, under their own names, or
the video with skeletons on them. What cannot be read is named and skipped. Exit code 0: done; 2: nothing could be.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tqdm import tqdm

from cvpack.device import configure_device
from cvpack.errors import InputError, exits_cleanly
from cvpack.files import atomic_write
from lib.deploy.predictor import PosePredictor
from lib.tools.predict.boxes import DETECTOR_SCORE, BoxFile, Detector, FindPeople, People, whole_images
from lib.tools.predict.media import RESULTS, Frame, ImageFiles, Unreadable, Video, open_source

# Of pixels in memory at once, unless a single image has more.
MAX_BYTES = 2**28


@dataclass
class Counts:
    """How many frames were predicted, people in them found, frames skipped."""

    frames: int = 0
    people: int = 0
    skipped: int = 0


def _groups(frames: Iterable[Frame | Unreadable], size: int) -> Iterator[list[Frame | Unreadable]]:
    """Frames in lists of so many or, where they are large, fewer."""
    group: list[Frame | Unreadable] = []
    memory = 0
    for frame in frames:
        group.append(frame)
        memory += frame.image.nbytes if isinstance(frame, Frame) else 0
        if len(group) == size or memory >= MAX_BYTES:
            yield group
            group, memory = [], 0
    if group:
        yield group


def _rows(frame: Frame, people: People, keypoints: np.ndarray, scores: np.ndarray) -> Iterator[dict]:
    """What results.json says of the people in a frame: COCO's results, with the image's name and the boxes.

    keypoints (n, K, 2), scores (n, K); as in a test a person's score is its box's times its joints' mean.
    """
    place = {'file_name': frame.name, 'image_id': people.image_id, 'frame': frame.number}
    place = {name: value for name, value in place.items() if value is not None}
    joints = np.concatenate([keypoints, scores[..., None]], axis=2).round(4).reshape(len(scores), 3 * scores.shape[1])
    totals = people.scores * scores.mean(axis=1)
    for box, row, score in zip(people.boxes.round(2).tolist(), joints.tolist(), totals.tolist()):
        yield {**place, 'category_id': people.category, 'bbox': box, 'keypoints': row, 'score': score}


def predict(predictor: PosePredictor, find_people: FindPeople, source: ImageFiles | Video, output: Path) -> Counts:
    """Predicts all frames of the source and writes results.json and pictures, or the video, into the folder."""
    counts = Counts()
    size = predictor.cfg.TEST.IMS_PER_GPU
    bar = tqdm(desc='predict', total=len(source) or None, unit=f' {source.unit}s', disable=None)
    with bar, atomic_write(output / RESULTS) as file, source.saving(output) as save:
        for group in _groups(source, size):
            frames = [frame for frame in group if isinstance(frame, Frame)]
            found = find_people(frames)
            poses = predictor([frame.image for frame in frames], [people.boxes for people in found])
            for frame, people, (keypoints, scores) in zip(frames, found, poses):
                for row in _rows(frame, people, keypoints, scores):
                    _append(file, row, first=counts.people == 0)
                    counts.people += 1
                predictor.draw(frame.image, keypoints, scores)
                save(frame)
            counts.frames += len(frames)
            for unreadable in (frame for frame in group if isinstance(frame, Unreadable)):
                counts.skipped += 1
                tqdm.write(f'skipped {unreadable}')
            bar.update(len(group))
        file.write(b'\n]\n' if counts.people else b'[]\n')
    return counts


def _append(file: BinaryIO, row: dict, first: bool) -> None:
    """Writes an entry of a json list, a line each, so that the list need not be in memory."""
    file.write((b'[\n' if first else b',\n') + json.dumps(row).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m lib.tools.predict',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--weights', type=Path, required=True, metavar='FILE', help='a checkpoint')
    parser.add_argument(
        '--input',
        nargs='+',
        required=True,
        metavar='PATH',
        help='images, folders of images, patterns as *.jpg; a video',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER', help='not that of the input')
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument(
        '--boxes',
        type=Path,
        metavar='JSON',
        help='detections in the form of COCO results, or COCO annotations; by file_name, image_id, or frame of a video',
    )
    boxes.add_argument('--detector', metavar='torchvision:NAME', help='one of torchvision.models.detection')
    parser.add_argument('--detector-weights', type=Path, metavar='FILE', help="the detector's state dict")
    parser.add_argument(
        '--category',
        metavar='CLASS',
        help='of the boxes to take: a number, or a name that the file of boxes gives (default: 1, people)',
    )
    parser.add_argument(
        '--min-score',
        type=float,
        metavar='S',
        help=f'leave out boxes with a lower score (default: {DETECTOR_SCORE} of a detector, none of a file)',
    )
    parser.add_argument(
        '--experiment', type=Path, metavar='DIR', help='exps/NAME, for a published checkpoint or an own network'
    )
    parser.add_argument('--ema', action='store_true', help="the weights' moving average (SOLVER.EMA)")
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda where there is one')
    return parser


def _find_people(args: argparse.Namespace, source: ImageFiles | Video, device: torch.device) -> FindPeople:
    """What the command line says of where people are."""
    if args.detector:
        score = DETECTOR_SCORE if args.min_score is None else args.min_score
        return Detector(args.detector, args.detector_weights, score, device, args.category)
    if args.boxes:
        names = source.names if isinstance(source, ImageFiles) else None
        return BoxFile(args.boxes, names, -np.inf if args.min_score is None else args.min_score, args.category)
    print(f'no --boxes and no --detector: each whole {source.unit} is taken for one person')
    return whole_images


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of the file."""
    args = _parser().parse_args(arguments)
    if bool(args.detector) != bool(args.detector_weights):
        raise InputError('--detector and --detector-weights go together: give both, or neither')
    for option in ('min_score', 'category'):
        if getattr(args, option) is not None and not (args.boxes or args.detector):
            raise InputError(f'--{option.replace("_", "-")} is of boxes: give --boxes or --detector too')
    source = open_source(args.input, args.output)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    configure_device(torch.device(device))
    predictor = PosePredictor(args.weights, device, args.ema, args.experiment)
    find_people = _find_people(args, source, predictor.device)
    try:
        counts = predict(predictor, find_people, source, args.output)
    except OSError as error:
        path, reason = error.filename or args.output, error.strerror or error
        raise InputError(f'cannot write {path} ({reason}): make room, or name another --output') from None
    if not counts.frames:
        raise InputError(f'--input {" ".join(args.input)}: no {source.unit} of it could be read')
    said = f'{counts.frames} {source.unit}s, {counts.people} people, {counts.skipped} skipped', source.remarks()
    print(f'{args.output}: {"; ".join(filter(None, said))}')


if __name__ == '__main__':
    main()
