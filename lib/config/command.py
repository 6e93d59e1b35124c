"""`python config.py`: what an experiment's configuration resolves to, and what its network costs."""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from easydict import EasyDict

from cvpack.errors import InputError
from lib.config.experiment import OWN
from lib.models.mspn import count_cost
from lib.models.own import check_outputs, network_of


def main(cfg: EasyDict) -> None:
    """Prints a finalized configuration, parameters and GMACs; the command line's arguments are read here."""
    parser = argparse.ArgumentParser(description='Print the resolved configuration, parameters and GMACs.')
    parser.add_argument('-log', action='store_true', help='link ./log to the output folder')
    args = parser.parse_args()
    sys.modules.setdefault('config', sys.modules['__main__'])  # a network.py may import it
    print(json.dumps(cfg, indent=2))
    _print_cost(cfg)
    if args.log:
        link = Path('log')
        if link.exists() and not link.is_symlink():
            raise InputError(f'{link.absolute()} is in the way: move it, then run `python config.py -log` again')
        new = link.with_name('log.tmp')
        try:
            Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.symlink_to(cfg.OUTPUT_DIR)
            os.replace(new, link)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise InputError(
                f'cannot link {link.absolute()} to {cfg.OUTPUT_DIR} ({reason}): look for the outputs there'
            ) from None
        print(f'log -> {cfg.OUTPUT_DIR}')


def _print_cost(cfg: EasyDict) -> None:
    build_model, device, testing = network_of(cfg), 'meta', 'in testing, which needs one head'
    if cfg.NETWORK == OWN:
        device, testing = cfg.MODEL.DEVICE if torch.cuda.is_available() else 'cpu', 'in testing'
        check_outputs(cfg, build_model(cfg), torch.device(device), build_model, training=True)
        print(f'network: of {build_model}')
    parameters, macs, test_macs = count_cost(cfg, build_model, device)
    size = 'x'.join(map(str, cfg.INPUT_SHAPE))
    print(f'parameters: {parameters:,}')
    print(f'GMACs: {macs / 1e9:.2f} a {size} image ({test_macs / 1e9:.2f} {testing})')
