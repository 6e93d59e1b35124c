"""What can be wrong with a data set, and how it is told.

Whoever reads a file hands over a `Report`. Reading for training or testing stops at the first fatal finding
(`refuse`); lib.tools.check_data counts all of them.
"""

import reprlib
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from cvpack.errors import InputError
from lib.datasets.image_names import ImageFolder, oddity


class Issue(Enum):
    """A kind of finding. Training and testing stop at a fatal one; the others are worth a look."""

    def __init__(self, description: str, fatal: bool) -> None:
        self.description, self.fatal = description, fatal

    FILE = 'file of annotations or boxes that is missing, damaged or of another form', True
    FIELD = 'field that is missing or not of its type', True
    NUMBER = 'number that is NaN, infinite or beyond all sense', True
    JOINTS = 'wrong number or order of joints', True
    BOX = 'box of zero or negative size', True
    NAME = 'file name that leaves the images folder, cannot lead to a file in it, or is none', True
    DUPLICATE_ID = 'id that is given twice', True
    CATEGORY = 'labelled person of another category than 1, or no such category', True
    NOBODY = 'file without anybody to train on or to test', True
    MISSING = 'image that is listed but absent', True
    EMPTY = 'image file of zero bytes', True
    DAMAGED = 'image that is cut short or damaged', True
    NOT_AN_IMAGE = 'file that is not an image', True
    HUGE = 'image of more pixels than are read', True
    TINY = 'image too small to hold a person', True
    UNUSED_IMAGE = 'unusable image, but without a person to train on or to test', False
    SWAP = 'person whose left and right may be exchanged', False
    NAMES = 'joints named otherwise than in the configuration', False
    UNLISTED = 'person or box of an image that is not listed', False
    COUNT = 'person whose num_keypoints is not the number of labelled joints', False
    OUTSIDE = 'person with a labelled joint outside the image', False
    AT_ZERO = 'person with a labelled joint at 0, 0', False
    BOX_OUTSIDE = 'box that misses the image', False
    SIZE = 'image of another size than its record says', False

    # What fits badly together: labels and images, train and val, names and pairs.
    RATIOS = 'box or joints that look like ratios of the image (0 to 1), not pixels', False
    CORNERS = 'box that looks like x1, y1, x2, y2, not x, y, width, height', False
    FAR = 'person with labelled joints far outside the box', False
    UNCOUNTED = 'person left out because num_keypoints is 0, although joints are labelled', False
    STORED = 'image whose labels fit it as it is stored, not as EXIF turns it upright', False
    EXIF = 'image that EXIF turns or mirrors: its labels have to fit the upright picture', False
    HOLE = 'JPEG with damaged data, part of which looks wrong', False
    SHARED = 'image of val or test that is in train, too', False
    SIDES = 'left and right joint, by their names, that are no flip pair', False

    DETECTION = 'detected box of no size, or not finite: left out', False


Report = Callable[[Issue, str], None]

# Pixels, ids of joints, areas: nothing that is meant comes near it, and float32 holds it.
MAX_NUMBER = 1e9
REMEDY = 'correct or remove it'
PREPARE = 'prepare the data set (python -m lib.tools.prepare -h) or correct its description in config.py'


class _Repr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out numbers of more than some thousand digits.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f'a number of {x.bit_length()} bits'


_repr = _Repr()
_repr.maxstring = _repr.maxother = 100
shown: Callable[[Any], str] = _repr.repr  # a value as messages show it: escaped, and of bearable length


def refuse(kind: Issue, message: str) -> None:
    """The report of whoever cannot go on: raises InputError for a fatal finding."""
    if kind.fatal:
        raise InputError(message)


class Rows:
    """The records of a json list, read field by field; of those that are found wrong `good` becomes False.

    Each field of a record is told wrong once, so what follows from a fault is not told beside it.

    what: a record's name in a message; path: the file's; rows: dictionaries
    numbers: (n,) positions in the file, from 0; good: (n,) bool
    """

    def __init__(self, rows: Any, what: str, path: Path, report: Report) -> None:
        if not isinstance(rows, list):
            report(Issue.FILE, f'{path}: its {what} records should be a list, not {shown(rows)}: is it the right file?')
            rows = []
        self.what, self.path, self.report = what, path, report
        fits = np.array([isinstance(row, dict) for row in rows], bool)
        self.rows: list[dict] = [row if fit else {} for row, fit in zip(rows, fits)]
        self.numbers = np.arange(len(rows))
        self.good = np.ones(len(rows), bool)
        self._wrong: dict[str, np.ndarray] = {}
        self.require(fits, '', Issue.FIELD, lambda i: f'{shown(rows[i])} should be an object with named fields')

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, mask: np.ndarray) -> 'Rows':
        """The rows for which the mask (n,) is true, with what was found of them."""
        chosen = np.flatnonzero(mask)
        part = Rows([self.rows[i] for i in chosen], self.what, self.path, self.report)
        part.numbers, part.good = self.numbers[chosen], self.good[chosen]
        part._wrong = {field: wrong[chosen] for field, wrong in self._wrong.items()}
        return part

    def label(self, index: int) -> str:
        """How a message names a row."""
        row = self.rows[index]
        ids = [f' ({key} {shown(row[key])})' for key in ('id', 'image_id', 'image') if key in row]
        return f'{self.path}: {self.what} {self.numbers[index]}{"".join(ids[:1])}'

    def wrong(self, field: str) -> np.ndarray:
        """(n,) bool: the rows that were found wrong in a field, or are no objects."""
        nothing = np.zeros(len(self), bool)
        return self._wrong.get(field, nothing) | self._wrong.get('', nothing)

    def require(self, mask: Sequence[bool], field: str, kind: Issue, text: Callable[[int], str]) -> None:
        """Reports the rows where the mask (n,) is false with text(index), unless the field was found wrong before."""
        for i in np.flatnonzero(~np.asarray(mask, bool) & ~self.wrong(field)):
            self._tell(i, field, kind, text(i))

    def _tell(self, index: int, field: str, kind: Issue, text: str) -> None:
        self._wrong.setdefault(field, np.zeros(len(self), bool))[index] = True
        self.good[index] = False
        self.report(kind, f'{self.label(index)}: {text}: {REMEDY}')

    def column(self, field: str, default: Any = None) -> list:
        """A field of every row as it is."""
        return [row.get(field, default) for row in self.rows]

    def numeric(self, field: str, *shape: int, default: Any = None, length: Issue = Issue.FIELD) -> np.ndarray:
        """(n, *shape) float64: a field that holds numbers in lists of this shape. NaN in rows where it does not.

        length: what a list of another length is
        """
        values = self.column(field, default)
        array = _as_array(values, shape)
        if array is None:
            array = np.full((len(values), *shape), np.nan)
            for i, value in enumerate(values):
                if _fault(field, value, shape, length) is None:
                    array[i] = value
        fits = (np.abs(array) < MAX_NUMBER).all(axis=tuple(range(1, array.ndim)))
        for i in np.flatnonzero(~fits & ~self.wrong(field)):
            self._tell(i, field, *_fault(field, values[i], shape, length))
        return array

    def integer(self, field: str, default: Any = None, types: tuple[type, ...] = (int, float)) -> np.ndarray:
        """(n,) int64: a field that holds a whole number; 0 in rows where it does not.

        types: that a number may be of; 5.0 is a float
        """
        values = self.column(field, default)
        fits = [isinstance(value, types) and value % 1 == 0 and abs(value) < 2**63 for value in values]
        self.require(fits, field, Issue.FIELD, lambda i: _not_whole(field, values[i]))
        return np.array([value if fit else 0 for value, fit in zip(values, fits)], np.int64)

    def names(self, field: str, folder: Path | None = None) -> list[str]:
        """A field that holds the path of a file in a folder that it cannot leave; '' in rows where it does not.

        folder: of the images, where it is known: a name that leads to none there is refused if it shows why
        """
        values, images = self.column(field), ImageFolder(folder) if folder else None
        odd = [oddity(value, images) for value in values]
        fits = [text is None for text in odd]
        text = 'should be a path inside the images folder'
        self.require(fits, field, Issue.NAME, lambda i: f'{field} = {shown(values[i])} {text}{odd[i]}')
        return [value if fit else '' for value, fit in zip(values, fits)]

    def unique(self, field: str, ids: np.ndarray) -> None:
        """Reports rows whose id another one had before."""
        known = np.flatnonzero(~self.wrong(field))
        again = np.ones(len(ids), bool)
        again[known[np.unique(ids[known], return_index=True)[1]]] = False
        self.require(~again, field, Issue.DUPLICATE_ID, lambda i: f'{field} {ids[i]} is given twice')


def _not_whole(field: str, value: Any) -> str:
    point = ' without a decimal point' if isinstance(value, float) and value % 1 == 0 else ''
    return f'{field} = {shown(value)} should be a whole number{point}'


def _as_array(values: list, shape: tuple[int, ...]) -> np.ndarray | None:
    """Values as float64, None unless all of them are numbers in lists of this shape."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):  # lists of different lengths; numbers of hundreds of digits
        return None
    if array.shape != (len(values), *shape) or array.dtype.kind not in 'biuf':
        return None
    return array.astype(np.float64)


def _fault(name: str, value: Any, shape: tuple[int, ...], length: Issue) -> tuple[Issue, str] | None:
    """What is wrong with a value that should hold numbers in lists of this shape; None if nothing is."""
    if value is None:
        return Issue.FIELD, f'{name} is missing'
    if not shape and not isinstance(value, (int, float)):
        return Issue.FIELD, f'{name} = {shown(value)} should be a number'
    if not shape:
        return None if abs(value) < MAX_NUMBER else (Issue.NUMBER, f'{name} = {shown(value)} should be a finite number')
    if not isinstance(value, list):
        return Issue.FIELD, f'{name} = {shown(value)} should be a list of {shape[0]}'
    if len(value) != shape[0]:
        return length, f'{name} has {len(value)} entries, should have {shape[0]}'
    faults = (_fault(f'{name}[{i}]', entry, shape[1:], length) for i, entry in enumerate(value))
    return next(filter(None, faults), None)
