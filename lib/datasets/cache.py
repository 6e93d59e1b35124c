"""Records kept beside a run's outputs: a second start, or the next process, need not parse a large json again."""

import dataclasses
import hashlib
import logging
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np

from cvpack import dist
from cvpack.files import replacing
from cvpack.logger import LOGGER
from lib.datasets import checks, coco_categories, coco_json, image_names, joints, mpii_json
from lib.datasets.description import Description
from lib.datasets.joints import Records


def train_records(reader: ModuleType, dataset: Description, min_keypoints: int, file: Path) -> Records:
    """reader.train_records(dataset, min_keypoints), or what an earlier call with the same outcome left in `file`.

    The same: the json's bytes, the arguments, the code that reads it, and the folders that images are looked for in.
    Rank 0 reads the json and writes `file`, the others find it. Raises what reader.train_records raises.
    """
    logger = logging.getLogger(LOGGER)
    with dist.main_first():
        fingerprint = _fingerprint(reader, dataset, min_keypoints)
        records = _load(file, fingerprint)
        if records is None:
            records = reader.train_records(dataset, min_keypoints)
            if dist.is_main():
                try:
                    _save(file, records, fingerprint)
                except OSError as error:
                    logger.info(f'{file} cannot be written ({error.strerror}): the next start reads the json again')
        return records


def _fingerprint(reader: ModuleType, dataset: Description, min_keypoints: int) -> str:
    """A hash of all that the records follow from; '' where there is no json to read."""
    source = dataset.annotations('train')
    if not source.is_file():
        return ''
    digest = hashlib.sha256(f'{dataset.at(dataset.root.resolve())} {min_keypoints}'.encode())
    digest.update(repr(image_names.times(dataset.image_folder('train'))).encode())
    readers = (reader, joints, checks, coco_categories, coco_json, image_names, mpii_json)
    for path in (*(Path(module.__file__) for module in readers), source):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _load(file: Path, fingerprint: str) -> Records | None:
    """The records in `file`; None where it is absent, damaged (zip has checksums) or of another fingerprint."""
    try:
        with np.load(file, allow_pickle=False) as content:
            if str(content['fingerprint']) != fingerprint:
                return None
            values = {name: content[name] for name in content.files if name != 'fingerprint'}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    values = {name: value if value.ndim else str(value) for name, value in values.items()}
    return Records(**{**values, 'root': Path(values['root'])})


def _save(file: Path, records: Records, fingerprint: str) -> None:
    values = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    with replacing(file) as stream:
        np.savez(stream, fingerprint=fingerprint, **{name: v for name, v in values.items() if v is not None})
