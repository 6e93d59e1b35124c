"""What can be wrong with a data set, and how it is reported.

Functions that read a file take a `Report`. Reading for training or testing stops at the first fatal issue (`refuse`);
lib.tools.check_data counts all of them.
"""

import reprlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from cvpack.errors import InputError
from lib.datasets.image_names import ImageFolder, name_problem


class Issue(Enum):
    """A kind of problem. Training and testing stop at a fatal one; the others are worth a look."""

    def __init__(self, description: str, fatal: bool) -> None:
        self.description, self.fatal = description, fatal

    FILE = 'file of annotations or boxes that is missing, damaged or in another format', True
    FIELD = 'field that is missing or of the wrong type', True
    NUMBER = 'number that is NaN, infinite or absurdly large', True
    JOINTS = 'wrong number or order of joints', True
    BOX = 'box of zero or negative size', True
    NAME = 'file name that leaves the images folder, cannot lead to a file in it, or is not a name', True
    DUPLICATE_ID = 'id that is given twice', True
    CATEGORY = 'labelled person of another category than 1, or no category 1', True
    NOBODY = 'file without anybody to train on or to test', True
    MISSING = 'image that is listed but absent', True
    EMPTY = 'image file of zero bytes', True
    DAMAGED = 'image that is truncated or damaged', True
    NOT_AN_IMAGE = 'file that is not an image', True
    HUGE = 'image with more pixels than can be read', True
    TINY = 'image too small to hold a person', True
    UNUSED_IMAGE = 'unusable image, but without a person to train on or to test', False
    SWAP = 'person whose left and right may be exchanged', False
    NAMES = 'joints with other names than in the configuration', False
    UNLISTED = 'person or box of an image that is not listed', False
    COUNT = 'person whose num_keypoints is not the number of labelled joints', False
    OUTSIDE = 'person with a labelled joint outside the image', False
    AT_ZERO = 'person with a labelled joint at 0, 0', False
    BOX_OUTSIDE = 'box that misses the image', False
    SIZE = 'image whose size differs from its record', False

    # Mismatches: of labels and images, train and val, names and pairs.
    RATIOS = 'box or joints that look like ratios of the image (0 to 1), not pixels', False
    CORNERS = 'box that looks like x1, y1, x2, y2, not x, y, width, height', False
    FAR = 'person with labelled joints far outside the box', False
    UNCOUNTED = 'person left out because num_keypoints is 0, although joints are labelled', False
    STORED = 'image whose labels fit it as stored, not as turned upright by EXIF', False
    EXIF = 'image that EXIF turns or flips: its labels have to fit the upright image', False
    HOLE = 'JPEG with damaged data, which looks wrong in places', False
    SHARED = 'image of val or test that is also in train', False
    SIDES = 'joints named left and right that are not a flip pair', False

    DETECTION = 'detected box without a size, or not finite: left out', False


Report = Callable[[Issue, str], None]

# Far above any coordinate, size or area; float32 can hold it.
MAX_NUMBER = 1e9
REMEDY = 'correct or remove it'
PREPARE = 'prepare the data set (python -m lib.tools.prepare -h) or correct its description in config.py'


class _Repr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print integers of more than a few thousand digits.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f'a number of {x.bit_length()} bits'


_repr = _Repr()
_repr.maxstring = _repr.maxother = 100
shown: Callable[[Any], str] = _repr.repr  # a value for a message: escaped, and shortened


def refuse(issue: Issue, message: str) -> None:
    """The Report of training and testing: raises InputError for a fatal issue."""
    if issue.fatal:
        raise InputError(message)


class Rows:
    """The records of a json list, read field by field.

    Each field of a record is reported once, so the consequences of a fault are not.

    what:    what messages call a record
    rows:    dictionaries
    numbers: (n,) positions in the file, from 0
    good:    (n,) bool, False for records with a reported fault
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
        """The rows for which the mask (n,) is true, with the faults found so far."""
        chosen = np.flatnonzero(mask)
        subset = Rows([self.rows[i] for i in chosen], self.what, self.path, self.report)
        subset.numbers, subset.good = self.numbers[chosen], self.good[chosen]
        subset._wrong = {field: wrong[chosen] for field, wrong in self._wrong.items()}
        return subset

    def label(self, index: SupportsIndex) -> str:
        """A row's name in a message: the file, its number, its id."""
        row = self.rows[index]
        ids = [f' ({key} {shown(row[key])})' for key in ('id', 'image_id', 'image') if key in row]
        return f'{self.path}: {self.what} {self.numbers[index]}{"".join(ids[:1])}'

    def wrong(self, field: str) -> np.ndarray:
        """(n,) bool: the rows with a reported fault in a field, or that are not objects."""
        nothing = np.zeros(len(self), bool)
        return self._wrong.get(field, nothing) | self._wrong.get('', nothing)

    def require(self, mask: ArrayLike, field: str, issue: Issue, text: Callable[[int], str]) -> None:
        """Reports the rows where the mask (n,) is false with text(index), unless the field was reported before."""
        for i in np.flatnonzero(~np.asarray(mask, bool) & ~self.wrong(field)).tolist():
            self._add(i, field, issue, text(i))

    def _add(self, index: int, field: str, issue: Issue, text: str) -> None:
        self._wrong.setdefault(field, np.zeros(len(self), bool))[index] = True
        self.good[index] = False
        self.report(issue, f'{self.label(index)}: {text}: {REMEDY}')

    def column(self, field: str, default: Any = None) -> list:
        """A field of every row, unchecked."""
        return [row.get(field, default) for row in self.rows]

    def numeric(self, field: str, *shape: int, default: Any = None, length: Issue = Issue.FIELD) -> np.ndarray:
        """(n, *shape) float64: a field with numbers in lists of this shape; NaN in rows where it has something else.

        length: the issue of a list of another length
        """
        values = self.column(field, default)
        array = _as_array(values, shape)
        if array is None:
            array = np.full((len(values), *shape), np.nan)
            for i, value in enumerate(values):
                if _fault(field, value, shape, length) is None:
                    array[i] = value
        fits = (np.abs(array) < MAX_NUMBER).all(axis=tuple(range(1, array.ndim)))
        for i in np.flatnonzero(~fits & ~self.wrong(field)).tolist():
            if fault := _fault(field, values[i], shape, length):
                self._add(i, field, *fault)
        return array

    def integer(
        self, field: str, default: Any = None, types: tuple[type[int] | type[float], ...] = (int, float)
    ) -> np.ndarray:
        """(n,) int64: a field with an integer; 0 in rows where it has something else.

        types: allowed types; 5.0 is a float
        """
        values = self.column(field, default)
        fits = [isinstance(value, types) and value % 1 == 0 and abs(value) < 2**63 for value in values]
        self.require(fits, field, Issue.FIELD, lambda i: _not_integer(field, values[i]))
        return np.array([value if fit else 0 for value, fit in zip(values, fits)], np.int64)

    def names(self, field: str, folder: Path | None = None) -> list[str]:
        """A field with the path of a file inside a folder; '' in rows where it has something else.

        folder: of the images, if it is known: a name that leads to no file is reported if the reason is apparent
        """
        values, images = self.column(field), ImageFolder(folder) if folder else None
        problems = [name_problem(value, images) for value in values]
        fits = [problem is None for problem in problems]
        text = 'should be a path inside the images folder'
        self.require(fits, field, Issue.NAME, lambda i: f'{field} = {shown(values[i])} {text}{problems[i]}')
        return [value if fit else '' for value, fit in zip(values, fits)]

    def unique(self, field: str, ids: np.ndarray) -> None:
        """Reports rows whose id an earlier one has."""
        known = np.flatnonzero(~self.wrong(field))
        again = np.ones(len(ids), bool)
        again[known[np.unique(ids[known], return_index=True)[1]]] = False
        self.require(~again, field, Issue.DUPLICATE_ID, lambda i: f'{field} {ids[i]} is given twice')


def _not_integer(field: str, value: Any) -> str:
    point = ' without a decimal point' if isinstance(value, float) and value % 1 == 0 else ''
    return f'{field} = {shown(value)} should be an integer{point}'


def _as_array(values: list, shape: tuple[int, ...]) -> np.ndarray | None:
    """Values as float64; None unless all of them are numbers in lists of this shape."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):  # lists of different lengths; integers of hundreds of digits
        return None
    if array.shape != (len(values), *shape) or array.dtype.kind not in 'biuf':
        return None
    return array.astype(np.float64)


def _fault(name: str, value: Any, shape: tuple[int, ...], length: Issue) -> tuple[Issue, str] | None:
    """What is wrong with a value that should be numbers in lists of this shape; None if nothing is."""
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
