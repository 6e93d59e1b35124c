"""`python config.py`: the resolved configuration, the cost of the network, and the schedule.

python config.py          prints the configuration, parameters, multiply-adds, iterations and learning rate
python config.py -log     also links ./log to the output folder

--set KEY=VALUE shows what train.py and test.py make of the same.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from easydict import EasyDict

from cvpack.errors import InputError
from lib.config.experiment import OWN
from lib.config.resolve import add_override_option, override
from lib.loader import train_samples
from lib.models.cost import count_cost
from lib.models.own import check_outputs, network_of
from lib.training import build_schedule


def main(cfg: EasyDict) -> None:
    """The command line of a finalized configuration."""
    parser = argparse.ArgumentParser(description='Print the resolved configuration, its cost and its schedule.')
    parser.add_argument('-log', action='store_true', help='link ./log to the output folder')
    add_override_option(parser)
    args = parser.parse_args()
    override(cfg, args.set)
    sys.modules.setdefault('config', sys.modules['__main__'])  # a network.py may import it
    print(json.dumps(cfg, indent=2))
    _print_cost(cfg)
    _print_schedule(cfg)
    if args.log:
        _link(Path('log'), cfg.OUTPUT_DIR)


def _print_cost(cfg: EasyDict) -> None:
    build_model, device, testing = network_of(cfg), 'meta', 'in testing, which needs a single head'
    if cfg.NETWORK == OWN:
        device, testing = cfg.MODEL.DEVICE if torch.cuda.is_available() else 'cpu', 'in testing'
        check_outputs(cfg, build_model(cfg), torch.device(device), build_model, training=True)
        print(f'network: of {build_model}')
    parameters, macs, test_macs = count_cost(cfg, build_model, device)
    size = 'x'.join(map(str, cfg.INPUT_SHAPE))
    print(f'parameters: {parameters:,}')
    print(f'GMACs: {macs / 1e9:.2f} a {size} image ({test_macs / 1e9:.2f} {testing})')


def _print_schedule(cfg: EasyDict) -> None:
    """Prints iterations, epochs and learning rate for 1 and 8 GPUs; a CPU process counts as a GPU."""
    try:
        people = len(train_samples(cfg))
    except InputError as error:
        people = None
        print(f'epochs: unknown, since {error}')
    for gpus in (1, 8):
        schedule, images = build_schedule(cfg, gpus), gpus * cfg.SOLVER.ACCUM_STEPS * cfg.SOLVER.IMS_PER_GPU
        epochs = f' ({schedule.max_iter * images / people:.1f} epochs)' if people else ''
        warm_up = f'after a warm-up of {schedule.warmup_iters:,} from {schedule.lr(0):.3g}'
        print(
            f'{gpus} GPU{"s" * (gpus > 1)}: {schedule.max_iter:,} iterations of {images} images{epochs}, '
            f'a checkpoint every {schedule.checkpoint_period:,}; learning rate {schedule.base_lr:.3g} {warm_up}, '
            f'then {schedule.decay} decay'
        )


def _link(link: Path, folder: str) -> None:
    """Raises InputError where the link cannot be created, or would replace a file or folder."""
    if link.exists() and not link.is_symlink():
        raise InputError(f'{link.absolute()} is in the way: move it, then run `python config.py -log` again')
    new = link.with_name('log.tmp')
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.symlink_to(folder)
        os.replace(new, link)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'cannot link {link.absolute()} to {folder} ({reason}): the outputs are there') from None
    print(f'log -> {folder}')
