"""Where a test's files go: a folder of its own, that no other test writes over.

metrics.json says which test the results beside it are of; unfinished.json says it as long as that is not written.
Tests are the same if the weights, the data and every setting that their results depend on are; a test that is made
again may replace its own results.
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

# What tests may differ in: facts that metrics.json tells, and parts of the configuration ...
FACTS = ('weights_sha256', 'ema', 'split', 'boxes_from', 'boxes', 'data_sha256')
SETTINGS = ('CODEC', 'DATASET', 'INPUT', 'INPUT_SHAPE', 'TEST')
# ... but for what only training reads, or only speed depends on.
MOOT = re.compile(r'DATASET\.(TRAIN|KEYPOINT\.(LOAD_MIN_NUM|UPPER_BODY_IDS))|TEST\.IMS_PER_GPU')
# A refusal names so many differences, each value by so many characters.
SHOWN, LENGTH = 3, 30


def test_folder(cfg: EasyDict, files: Sequence[Path], args: argparse.Namespace) -> Path:
    """The folder of a test of a checkpoint, or of the ensemble of several; args: of the command line of test.py.

    Raises InputError for a --name that is none of a folder.
    """
    if args.name is not None and (args.name in ('', '..') or Path(args.name).name != args.name):
        raise InputError(f'--name {args.name}: it becomes a part of the name of a folder: take a word without slashes')
    variants = [name for name in ('gt_boxes', 'ema') if getattr(args, name)]
    variants += [args.split] if args.split != 'val' else []
    variants += [args.name] if args.name else []
    name = ensemble_name(files) if len(files) > 1 else files[0].resolve().stem
    return Path(cfg.TEST_DIR) / '.'.join([name, *variants])


def describe(cfg: EasyDict, evaluator: Evaluator, files: Sequence[Path], args: argparse.Namespace) -> dict[str, Any]:
    """What metrics.json tells of a test besides what came out of it; arguments as test_folder's."""
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
    """None where loading the weights will say what is wrong."""
    try:
        return sha256(file)
    except OSError:
        return None


def refuse_another(folder: Path, test: dict[str, Any] | None) -> None:
    """Raises InputError, on every rank, if the folder holds results of another test than rank 0's."""
    found = dist.broadcast(_another(folder, test) if test is not None else None)
    if found:
        raise InputError(
            f'{folder} holds {found}: move that away, or have this test write elsewhere: '
            f'with --name NAME into {folder.name}.NAME'
        )


def _another(folder: Path, test: dict[str, Any]) -> str | None:
    """What the folder holds that another test, or nobody knows which, has written."""
    told = [folder / name for name in (BEGUN, FINISHED) if (folder / name).exists()]
    if not told and (folder / RESULTS).exists():
        return f'a {RESULTS} without {FINISHED}, which would tell of which test it is'
    here = _identity(test)
    for file in told:
        try:
            there = _identity(read_json(file))
        except (InputError, TypeError, AttributeError, KeyError):
            return f'a {file.name} that does not tell of which test it is'
        # What an earlier version did not tell yet is taken to be the same.
        keys = [key for key in here if key in there and there[key] != here[key]]
        if keys:
            what = 'the results of another test' if file.name == FINISHED else 'another test, which is not finished'
            differences = [f'{key} {_short(there[key])}, now {_short(here[key])}' for key in keys[:SHOWN]]
            return f'{what} ({"; ".join(differences)}{"; ..." if keys[SHOWN:] else ""})'
    return None


def _identity(test: dict[str, Any]) -> dict[str, Any]:
    """By their names, all that has to be equal for tests to be the same."""
    settings = _flat({name: value for name, value in test.get('config', {}).items() if name in SETTINGS})
    facts = {name: test[name] for name in FACTS if name in test}
    facts['weights_sha256'] = test['weights_sha256']
    return facts | {key: value for key, value in settings.items() if not MOOT.match(key)}


def _flat(section: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        flat |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LENGTH else f'{text[:LENGTH]}...'


@contextlib.contextmanager
def claimed(folder: Path, test: dict[str, Any]) -> Iterator[None]:
    """Its body is the test: meanwhile the folder is its own, which it leaves as it was if it ends without results."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / BEGUN, test)
    try:
        yield
    finally:
        if (folder / FINISHED).exists() or not (folder / RESULTS).exists():
            (folder / BEGUN).unlink(missing_ok=True)  # the same test, run twice at once, shares it
        with contextlib.suppress(OSError):
            folder.rmdir()
