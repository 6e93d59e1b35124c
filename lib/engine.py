"""What an experiment runs: train(cfg, build_model) and test(cfg, build_model).

An experiment hands over a callable that builds its network from the configuration; a new network is one more file in
its folder, network.py, whose build_model then takes that callable's place (lib/models/own.py).
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
from cvpack.device import configure_device
from cvpack.errors import InputError, Preempted, exits_cleanly
from cvpack.files import follow
from cvpack.logger import TrainLog, get_logger
from cvpack.preemption import StopRequest
from cvpack.workers import reporting_starved_workers
from lib.config import git_revision, override, writing
from lib.datasets.sides import unpaired_sides
from lib.evaluation.ensemble import load_estimators
from lib.evaluation.formats import evaluator_of
from lib.evaluation.results import save_pictures, write_results
from lib.evaluation.test_folder import claimed, describe, refuse_another, test_folder
from lib.evaluation.validation import Validation, check_validation, save_curves
from lib.inference import predict
from lib.loader import FEWER_WORKERS, reader_of, train_samples
from lib.models.own import BuildModel, select_network
from lib.training import Trainer, build_schedule
from lib.training.begin import begin
from lib.training.run import run

GO_ON = '--resume auto'


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        '--set',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override keys of the configuration for this run, for example SOLVER.BASE_LR=1e-3',
    )
    dist.add_launcher_arguments(parser)
    return parser


def _start(cfg: EasyDict, args: argparse.Namespace) -> tuple[torch.device, logging.Logger]:
    """Applies the command line's settings, joins the other processes and says what this run runs on."""
    override(cfg, args.set)
    wants_cuda = cfg.MODEL.DEVICE == 'cuda'
    device_type = 'cuda' if wants_cuda and torch.cuda.is_available() else 'cpu'
    device = dist.setup(device_type, args.local_rank, cfg.SOLVER.TIMEOUT)
    with writing(cfg):
        logger = get_logger(Path(cfg.OUTPUT_DIR) / 'log.txt')
    if wants_cuda and device.type == 'cpu':
        logger.info("MODEL.DEVICE is 'cuda' but this machine has no CUDA device: going on with the CPU")
    if cfg.TEST.CUDA_GRAPH and device.type == 'cpu':
        logger.info('TEST.CUDA_GRAPH: no CUDA graph, since there is no GPU')
    logger.info(f'{cfg.OUTPUT_DIR}: revision {git_revision()}, {dist.world_size()} process(es) on {device.type}')
    for line in unpaired_sides(cfg)[:1]:  # the others: lib.tools.check_data
        logger.warning(f'warning: {line}: mirrored images will confuse the two')
    return device, logger


# ---------------------------------------------------------------------------------------------------- training


@exits_cleanly
def train(cfg: EasyDict, build_model: BuildModel) -> None:
    """Trains an experiment; the command line's arguments are read here.

    cfg: finalized; build_model: configuration -> network with MSPN's outputs in train mode;
    a network.py in the experiment's folder has the last word
    """
    parser = _parser('Train this experiment.')
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '-c',
        '--continue',
        dest='checkpoint',
        metavar='FILE',
        help="checkpoint to go on from: a file, or its name or iteration in the output folder, or 'last'",
    )
    how.add_argument(
        '--resume', choices=('auto',), help='go on from the newest good checkpoint, or begin where there is none'
    )
    args = parser.parse_args()
    device, logger = _start(cfg, args)
    configure_device(device, spare_memory=cfg.RUN_EFFICIENT)
    build_model = select_network(cfg, build_model, device, training=True, logger=logger)
    torch.manual_seed(cfg.SOLVER.SEED)
    peers = dist.reporting_lost_peers(f'started again with {GO_ON} the run goes on')
    with StopRequest() as stop, peers, reporting_starved_workers(FEWER_WORKERS):
        trainer = Trainer(cfg, build_model(cfg), build_schedule(cfg), device)
        begin(trainer, args, logger)
        samples = train_samples(cfg)
        check_validation(cfg)

        def validation(log: TrainLog, writer: Writer | None) -> Validation:
            return Validation(cfg, trainer, log, writer, logger)

        try:
            run(trainer, samples, logger, stop, validation if cfg.VALIDATION.PERIOD else None)
        except Preempted as error:
            dist.barrier()  # a process that ends now would have the launcher end the one that is still writing
            raise Preempted(error.iteration, f'go on with {GO_ON}') from None
        if dist.is_main():
            save_curves(trainer, logger)
        logger.info(f'trained: {Path(cfg.OUTPUT_DIR) / LATEST}')
        dist.cleanup()


# ---------------------------------------------------------------------------------------------------- testing


@exits_cleanly
def test(cfg: EasyDict, build_model: BuildModel) -> None:
    """Tests an experiment's checkpoints; the command line's arguments are read here.

    cfg: finalized; build_model: configuration -> network with MSPN's output in eval mode, as in train
    """
    args = _test_parser().parse_args()
    device, logger = _start(cfg, args)
    configure_device(device)
    build_model = select_network(cfg, build_model, device, training=False, logger=logger)
    output = Path(cfg.OUTPUT_DIR)
    # Training may go on meanwhile: what is last or best is looked up once.
    tests = dist.agree(lambda: [[checkpoint.find(output, i)] for i in args.iter] or [list(map(follow, args.weights))])
    reader = reader_of(cfg)
    if not getattr(reader.dataset, f'{args.split}_json'):
        raise InputError(f'--split {args.split}: config: DATASET.{args.split.upper()}_JSON names no file: set it')
    evaluator = evaluator_of(reader.dataset, reader.test_set(args.split, args.gt_boxes))
    if cfg.TEST.NMS == 'oks' and evaluator.records.joints is not None:
        raise InputError("TEST.NMS = 'oks' removes people found twice, of whom annotated boxes have none: take 'none'")
    folders = [test_folder(cfg, files, args) for files in tests]
    # Rank 0 writes the results; the others only predict.
    facts = [describe(cfg, evaluator, files, args) if dist.is_main() else None for files in tests]
    for folder, one in zip(folders, facts):
        refuse_another(folder, one)
    for files, folder, one in zip(tests, folders, facts):
        estimators = load_estimators(cfg, build_model, files, args.ema, device, logger)
        refuse_another(folder, one)  # again: another may have begun meanwhile
        with contextlib.ExitStack() as stack:
            if one is not None:
                with writing(cfg):
                    stack.enter_context(claimed(folder, one))
            with reporting_starved_workers(FEWER_WORKERS):
                keypoints, scores = predict(cfg, estimators, evaluator.records, device)
            if one is None:
                continue
            with writing(cfg):
                write_results(cfg, evaluator, keypoints, scores, folder, one, logger)
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
    which.add_argument('--weights', nargs='+', type=Path, metavar='FILE', help='a checkpoint; of several, the ensemble')
    parser.add_argument('--gt-boxes', action='store_true', help="the annotated boxes instead of a detector's")
    parser.add_argument('--split', choices=('val', 'test'), default='val', help='test: write the submission file')
    parser.add_argument('--ema', action='store_true', help="the weights' moving average (SOLVER.EMA)")
    parser.add_argument('--name', help="added to the name of the results' folder, to tell another way of testing apart")
    parser.add_argument('--pictures', type=int, default=0, metavar='N', help='draw N images with their ground truth')
    return parser
