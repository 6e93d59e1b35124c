"""What an experiment runs: train(cfg, build_model) and test(cfg, build_model).

build_model builds the network from the configuration. A network.py in the experiment's folder replaces it by its own
(lib/models/own.py).
"""

import argparse
import contextlib
import logging
from pathlib import Path

import torch
from easydict import EasyDict

from cvpack import checkpoint, dist
from cvpack.checkpoint import Writer
from cvpack.checkpoint_order import LATEST
from cvpack.device import configure_device, refusing_nondeterminism
from cvpack.errors import InputError, Preempted, exits_cleanly
from cvpack.files import follow
from cvpack.logger import TrainLog, get_logger
from cvpack.precision import advice
from cvpack.preemption import StopRequest
from cvpack.workers import reporting_starved_workers
from lib.config import add_override_option, git_revision, override, writing
from lib.datasets.sides import unpaired_sides
from lib.evaluation.ensemble import load_estimators
from lib.evaluation.formats import evaluator_of
from lib.evaluation.nms import scoring_of
from lib.evaluation.results import save_pictures, write_results
from lib.evaluation.test_folder import claimed, describe, refuse_other_test, test_folder
from lib.evaluation.validation import Validation, check_validation, save_curves
from lib.inference import predict
from lib.loader import FEWER_WORKERS, reader_of, train_samples
from lib.models.own import BuildModel, select_network
from lib.training import Trainer, build_schedule
from lib.training.begin import begin
from lib.training.run import run

RESUME = '--resume auto'


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    add_override_option(parser)
    dist.add_launcher_arguments(parser)
    return parser


def _start(cfg: EasyDict, args: argparse.Namespace) -> tuple[torch.device, logging.Logger]:
    """Applies --set, joins the other processes and logs what the run uses."""
    override(cfg, args.set)
    wants_cuda = cfg.MODEL.DEVICE == 'cuda'
    device_type = 'cuda' if wants_cuda and torch.cuda.is_available() else 'cpu'
    device = dist.setup(device_type, args.local_rank, cfg.SOLVER.TIMEOUT)
    with writing(cfg):
        logger = get_logger(Path(cfg.OUTPUT_DIR) / 'log.txt')
    if wants_cuda and device.type == 'cpu':
        logger.info("MODEL.DEVICE is 'cuda' but this machine has no CUDA device: using the CPU")
    if cfg.TEST.CUDA_GRAPH and device.type == 'cpu':
        logger.info('TEST.CUDA_GRAPH: no CUDA graph, since there is no GPU')
    logger.info(f'{cfg.OUTPUT_DIR}: revision {git_revision()}, {dist.world_size()} process(es) on {device.type}')
    for line in unpaired_sides(cfg)[:1]:  # lib.tools.check_data lists all
        logger.warning(f'warning: {line}: mirrored images will confuse the two')
    return device, logger


@exits_cleanly
def train(cfg: EasyDict, build_model: BuildModel) -> None:
    """The command line of an experiment's train.py.

    cfg: finalized; build_model: configuration -> network with MSPN's outputs in train mode, unless the experiment's
    folder has a network.py
    """
    parser = _parser('Train this experiment.')
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '-c',
        '--continue',
        dest='checkpoint',
        metavar='FILE',
        help="checkpoint to resume from: a file, or a name or iteration in the output folder, or 'last'",
    )
    how.add_argument(
        '--resume', choices=('auto',), help='resume from the newest usable checkpoint, or start if there is none'
    )
    args = parser.parse_args()
    device, logger = _start(cfg, args)
    configure_device(device, cfg.RUN_EFFICIENT, cfg.SOLVER.DETERMINISTIC)
    for line in advice(device.type, cfg.SOLVER.PRECISION, 'SOLVER.PRECISION'):
        logger.warning(line)
    peers = dist.reporting_lost_peers(f'continue the run with {RESUME}')
    exact, starved = refusing_nondeterminism('SOLVER.DETERMINISTIC'), reporting_starved_workers(FEWER_WORKERS)
    with StopRequest() as stop, peers, exact, starved:
        build_model = select_network(cfg, build_model, device, training=True, logger=logger)
        torch.manual_seed(cfg.SOLVER.SEED)  # whatever trying an own network drew
        trainer = Trainer(cfg, build_model(cfg), build_schedule(cfg), device)
        begin(trainer, args, logger)
        samples = train_samples(cfg)
        check_validation(cfg)

        def validation(log: TrainLog, writer: Writer) -> Validation:
            return Validation(cfg, trainer, log, writer, logger)

        try:
            run(trainer, samples, logger, stop, validation if cfg.VALIDATION.PERIOD else None)
        except Preempted as error:
            dist.barrier()  # if a process exited now, the launcher would end the one that is still writing
            raise Preempted(error.iteration, f'continue with {RESUME}') from None
        if dist.is_main():
            save_curves(trainer, logger)
        logger.info(f'trained: {Path(cfg.OUTPUT_DIR) / LATEST}')
        dist.cleanup()


@exits_cleanly
@dist.reporting_lost_peers('run the test again')
def test(cfg: EasyDict, build_model: BuildModel) -> None:
    """The command line of an experiment's test.py.

    cfg: finalized; build_model: configuration -> network with MSPN's output in eval mode, as in train
    """
    args = _test_parser().parse_args()
    device, logger = _start(cfg, args)
    configure_device(device)
    for line in advice(device.type, cfg.TEST.PRECISION, 'TEST.PRECISION'):
        logger.warning(line)
    build_model = select_network(cfg, build_model, device, training=False, logger=logger)
    output = Path(cfg.OUTPUT_DIR)

    def requested() -> list[list[Path]]:
        """The checkpoints of each test: of every iteration, or of the ensemble."""
        if args.weights:
            return [[follow(file) for file in args.weights]]
        return [[checkpoint.find(output, name)] for name in args.iter]

    tests = dist.agree(requested)  # once, since a training may be running
    reader = reader_of(cfg)
    if not getattr(reader.dataset, f'{args.split}_json'):
        raise InputError(f'--split {args.split}: config: DATASET.{args.split.upper()}_JSON names no file: set it')
    evaluator = evaluator_of(reader.dataset, reader.test_set(args.split, args.gt_boxes))
    scoring_of(cfg, evaluator.records)  # may refuse them
    folders = [test_folder(cfg, files, args) for files in tests]
    # Rank 0 writes the results; the others only predict.
    descriptions = [describe(cfg, evaluator, files, args) if dist.is_main() else None for files in tests]
    for folder, description in zip(folders, descriptions):
        refuse_other_test(folder, description)
    for files, folder, description in zip(tests, folders, descriptions):
        estimators = load_estimators(cfg, build_model, files, args.ema, device, logger)
        refuse_other_test(folder, description)  # again, since another may have started meanwhile
        with contextlib.ExitStack() as stack:
            if description is not None:
                with writing(cfg):
                    stack.enter_context(claimed(folder, description))
            with reporting_starved_workers(FEWER_WORKERS):
                keypoints, scores = predict(cfg, estimators, evaluator.records, device)
            if description is None:
                continue
            with writing(cfg):
                write_results(cfg, evaluator, keypoints, scores, folder, description, logger)
        if args.pictures > 0:
            picture = folder / 'predictions.jpg'
            save_pictures(evaluator, keypoints, scores, args.pictures, picture)
            logger.info(f'{picture}: ground truth left, prediction right')
    dist.barrier()
    dist.cleanup()


def _test_parser() -> argparse.ArgumentParser:
    parser = _parser('Test this experiment.')
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('-i', '--iter', nargs='+', default=[], metavar='N', help="iterations, 'last' or 'best'")
    which.add_argument('--weights', nargs='+', type=Path, metavar='FILE', help='a checkpoint; several: an ensemble')
    parser.add_argument('--gt-boxes', action='store_true', help="test on annotated boxes instead of a detector's")
    parser.add_argument('--split', choices=('val', 'test'), default='val', help='test: write the submission file')
    parser.add_argument('--ema', action='store_true', help='test the EMA of the weights (SOLVER.EMA)')
    parser.add_argument('--name', help='suffix of the results folder, for tests with other settings')
    parser.add_argument('--pictures', type=int, default=0, metavar='N', help='draw N images with ground truth')
    return parser
