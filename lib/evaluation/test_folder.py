"""The folder of a test's results. A test never overwrites the results of another.

metrics.json identifies the test, unfinished.json does so while it runs. Tests are the same if their weights, data and
all settings that influence the results are equal; the same test may be repeated in its folder.
"""

import argparse
import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from cvpack import dist
from cvpack.errors import InputError
from cvpack.files import read_json, sha256, write_json
from lib.config import git_revision, to_plain
from lib.evaluation.ensemble import ensemble_name
from lib.evaluation.evaluator import RESULTS, Evaluator

FINISHED, BEGUN = 'metrics.json', 'unfinished.json'

# What identifies a test: entries of metrics.json, and sections of the configuration ...
FACTS = ('weights_sha256', 'ema', 'split', 'boxes_from', 'boxes', 'data_sha256')
SETTINGS = ('CODEC', 'DATASET', 'INPUT', 'INPUT_SHAPE', 'TEST')
# ... except keys that only matter for training, pictures or speed, and where files lie whose digests are facts.
IRRELEVANT = re.compile(
    r'DATASET\.(NAME|ROOT|TRAIN|KEYPOINT\.(LOAD_MIN_NUM|UPPER_BODY_IDS|SKELETON))|TEST\.(IMS_PER_GPU|CUDA_GRAPH)'
)
# Limits of a message: how many differences, and characters of a value.
MAX_DIFFERENCES, MAX_CHARACTERS = 3, 30


def test_folder(cfg: EasyDict, files: Sequence[Path], args: argparse.Namespace) -> Path:
    """The results folder of a checkpoint or an ensemble. args: of test.py. Raises InputError for an invalid --name."""
    if args.name is not None and (args.name in ('', '..') or Path(args.name).name != args.name):
        raise InputError(f'--name {args.name} becomes part of a folder name: use a word without slashes')
    variants = [name for name in ('gt_boxes', 'ema') if getattr(args, name)]
    variants += [args.split] if args.split != 'val' else []
    variants += [args.name] if args.name else []
    name = ensemble_name(files) if len(files) > 1 else files[0].resolve().stem
    return Path(cfg.TEST_DIR) / '.'.join([name, *variants])


def describe(cfg: EasyDict, evaluator: Evaluator, files: Sequence[Path], args: argparse.Namespace) -> dict[str, Any]:
    """What metrics.json says about a test, apart from its results; arguments as test_folder's."""
    dataset, records, split = evaluator.dataset, evaluator.records, args.split
    data = [dataset.annotations(split), evaluator.test_set.ground_truth_file]
    if records.joints is None and (boxes := dataset.boxes(split)):
        data.append(boxes)
    names, digests = [str(file.resolve()) for file in files], [_digest(file) for file in files]
    return {
        'experiment': cfg.EXPERIMENT,
        'weights': names if len(files) > 1 else names[0],
        'weights_sha256': digests if len(files) > 1 else digests[0],
        'ema': args.ema,
        'data_sha256': {file.name: sha256(file) for file in data if file.is_file()},
        'sigmas': list(dataset.sigmas),
        'boxes': len(records),
        'boxes_from': records.boxes_from,
        'flip': cfg.TEST.FLIP,
        'split': split,
        'git_revision': git_revision(),
        'config': to_plain(cfg),
    }


def _digest(file: Path) -> str | None:
    """None for a file that cannot be read: loading the weights will report it."""
    try:
        return sha256(file)
    except OSError:
        return None


def refuse_other_test(folder: Path, test: dict[str, Any] | None) -> None:
    """Raises InputError, on every rank, if the folder holds another test than rank 0's."""
    found = dist.broadcast(_find_other_test(folder, test) if test is not None else None)
    if found:
        raise InputError(f'{folder} holds {found}: move it away, or write to {folder.name}.NAME with --name NAME')


def _find_other_test(folder: Path, test: dict[str, Any]) -> str | None:
    """What the folder holds of another test, or of one that cannot be identified."""
    files = [folder / name for name in (BEGUN, FINISHED) if (folder / name).exists()]
    if not files and (folder / RESULTS).exists():
        return f'a {RESULTS} of an unknown test, without {FINISHED}'
    here = _identity(test)
    for file in files:
        try:
            there = _identity(read_json(file))
        except (InputError, TypeError, AttributeError, KeyError):
            return f'a {file.name} that does not identify its test'
        # Files of earlier versions lack some keys, which are taken to be equal.
        keys = [key for key in here if key in there and there[key] != here[key]]
        if keys:
            what = 'the results of another test' if file.name == FINISHED else 'another test, which is not finished'
            differences = [f'{key} {_shorten(there[key])}, now {_shorten(here[key])}' for key in keys[:MAX_DIFFERENCES]]
            return f'{what} ({"; ".join(differences)}{"; ..." if keys[MAX_DIFFERENCES:] else ""})'
    return None


def _identity(test: dict[str, Any]) -> dict[str, Any]:
    """By name, everything that is equal for the same test."""
    settings = _flat({name: value for name, value in test.get('config', {}).items() if name in SETTINGS})
    facts = {name: test[name] for name in FACTS if name in test}
    facts['weights_sha256'] = test['weights_sha256']
    return facts | {key: value for key, value in settings.items() if not IRRELEVANT.match(key)}


def _flat(section: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        flat |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return flat


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else f'{text[:MAX_CHARACTERS]}...'


@contextlib.contextmanager
def claimed(folder: Path, test: dict[str, Any]) -> Iterator[None]:
    """Reserves the folder for the test that runs inside. Without results, it is left as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_json(folder / BEGUN, test)
        yield
    finally:
        if (folder / FINISHED).exists() or not (folder / RESULTS).exists():
            (folder / BEGUN).unlink(missing_ok=True)  # may be gone: the same test can run twice at once
        with contextlib.suppress(OSError):
            folder.rmdir()
