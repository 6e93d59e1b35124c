"""Predicts people's joints in images or a video.

    python -m lib.tools.predict --weights FILE --input IMAGES|FOLDERS|VIDEO --output FOLDER
    python -m lib.tools.predict ... --boxes FILE.json [--category CLASS]
    python -m lib.tools.predict ... --detector torchvision:fasterrcnn_resnet50_fpn_v2 --detector-weights FILE

Without boxes or a detector each whole image is taken for one person. The experiment is read from the checkpoint.
Writes results.json, one row per person in COCO's results format, and the images under their own names, or the video,
with skeletons drawn. Unreadable images are named and skipped. Exit code 0: done; 2: nothing could be read.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cvpack.device import configure_device
from cvpack.errors import InputError, exits_cleanly
from cvpack.files import atomic_write
from lib.deploy.predictor import PosePredictor
from lib.tools.arguments import command_parser, writing
from lib.tools.predict.boxes import DETECTOR_SCORE, BoxFile, Detector, FindPeople, People, whole_images
from lib.tools.predict.media import RESULTS, Frame, ImageFiles, Video, open_source

# Bytes of pixels held at once, unless a single image has more.
MAX_BYTES = 2**28


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of `size` frames, or of fewer if they are large."""
    batch, memory = [], 0
    for frame in frames:
        batch.append(frame)
        memory += frame.image.nbytes
        if len(batch) == size or memory >= MAX_BYTES:
            yield batch
            batch, memory = [], 0
    if batch:
        yield batch


def _rows(frame: Frame, people: People, keypoints: np.ndarray, scores: np.ndarray) -> Iterator[dict]:
    """A frame's rows of results.json: COCO's results with the image's name and the box.

    keypoints (n, K, 2), scores (n, K). As in a test, a person's score is the box's times the mean of the joints'.
    """
    place = {'file_name': frame.name, 'image_id': people.image_id, 'frame': frame.number}
    place = {name: value for name, value in place.items() if value is not None}
    joints = np.concatenate([keypoints, scores[..., None]], axis=2).round(4).reshape(len(scores), 3 * scores.shape[1])
    totals = people.scores * scores.mean(axis=1)
    for box, row, score in zip(people.boxes.round(2).tolist(), joints.tolist(), totals.tolist()):
        yield {**place, 'category_id': people.category, 'bbox': box, 'keypoints': row, 'score': score}


def predict(
    predictor: PosePredictor, find_people: FindPeople, source: ImageFiles | Video, output: Path
) -> Counter[str]:
    """Predicts all frames; writes results.json and the images or video. Returns counts: frames, people, skipped."""
    counts = Counter[str]()
    bar = tqdm(desc='predict', total=len(source) or None, unit=f' {source.unit}s', disable=None)
    with bar, atomic_write(output / RESULTS) as file, source.saving(output) as save:
        for batch in _batches(source, predictor.cfg.TEST.IMS_PER_GPU):
            frames = [frame for frame in batch if not frame.fault]
            found = find_people(frames)
            poses = predictor([frame.image for frame in frames], [people.boxes for people in found])
            for frame, people, (keypoints, scores) in zip(frames, found, poses):
                for row in _rows(frame, people, keypoints, scores):
                    # Row by row: a video's rows may not fit in memory.
                    file.write((b',\n' if counts['people'] else b'[\n') + json.dumps(row).encode())
                    counts['people'] += 1
                predictor.draw(frame.image, keypoints, scores)
                save(frame)
            for frame in batch:
                counts['skipped' if frame.fault else 'frames'] += 1
                if frame.fault:
                    tqdm.write(f'skipped {frame}: {frame.fault}')
            bar.update(len(batch))
        file.write(b'\n]\n' if counts['people'] else b'[]\n')
    return counts


def _parser() -> argparse.ArgumentParser:
    parser = command_parser('predict', __doc__)
    add = parser.add_argument
    add('--weights', type=Path, required=True, metavar='FILE', help='a checkpoint')
    add('--input', nargs='+', required=True, metavar='PATH', help="images, folders, patterns ('*.jpg'); or one video")
    add('--output', type=Path, required=True, metavar='FOLDER', help="not the input's")
    boxes = parser.add_mutually_exclusive_group()
    text = 'COCO results or annotations; images by file_name or image_id, frames of a video by frame'
    boxes.add_argument('--boxes', type=Path, metavar='JSON', help=text)
    boxes.add_argument('--detector', metavar='torchvision:NAME', help='one of torchvision.models.detection')
    add('--detector-weights', type=Path, metavar='FILE', help="the detector's state dict")
    add('--category', metavar='CLASS', help="boxes' category, a number or a name in the file (default: 1, people)")
    text = f'ignore boxes with a lower score (default: {DETECTOR_SCORE} for a detector, none for a file)'
    add('--min-score', type=float, metavar='S', help=text)
    text = "the experiment's folder, for a checkpoint without its configuration, or of the experiment's own network"
    add('--experiment', type=Path, metavar='DIR', help=text)
    add('--ema', action='store_true', help='the EMA of the weights (SOLVER.EMA)')
    add('--device', choices=('cpu', 'cuda'), help='default: cuda if available')
    return parser


def _find_people(args: argparse.Namespace, source: ImageFiles | Video, device: torch.device) -> FindPeople:
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
            raise InputError(f'--{option.replace("_", "-")} applies to boxes: give --boxes or --detector too')
    source = open_source(args.input, args.output)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    configure_device(torch.device(device))
    predictor = PosePredictor(args.weights, device, args.ema, args.experiment)
    find_people = _find_people(args, source, predictor.device)
    with writing(args.output, '--output'):
        counts = predict(predictor, find_people, source, args.output)
    if not counts['frames']:
        raise InputError(f'--input {" ".join(args.input)}: no {source.unit} in it could be read')
    said = f'{counts["frames"]} {source.unit}s, {counts["people"]} people, {counts["skipped"]} skipped'
    print(f'{args.output}: {said}' + (f'; {source.remark}' if source.remark else ''))


if __name__ == '__main__':
    main()
