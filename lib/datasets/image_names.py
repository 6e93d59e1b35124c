"""Names of image files in annotations: whether they stay in their folder, where the files are, and what is wrong with
a name that leads to no file.
"""

import os
import re
from pathlib import Path
from typing import Any

MAX_NAME_LENGTH = 1000
# Not fit for file systems and terminals.
CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
# Names that leave the folder, on any system, and what to do if the file is not in the folder.
OUTSIDE = (
    (re.compile(r'\A(?:[A-Za-z][A-Za-z0-9+.-]+://|data:)'), 'is a URL', 'download the image and name its file'),
    (re.compile(r'\A(?:/|\\|[A-Za-z]:[/\\])'), 'is absolute', 'write what follows that folder'),
    (re.compile(r'(?:\A|[/\\])\.\.(?:[/\\]|\Z)'), 'leads out of it', 'move the image there'),
)
# COCO 2014's. Names that do not say their folder are looked up in both.
FOLDERS = ('train2014', 'val2014')


def is_safe(name: Any) -> bool:
    """Whether this is a valid file name that stays in its folder."""
    return _is_name(name) and not any(pattern.search(name) for pattern, _, _ in OUTSIDE)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and not CONTROL.search(name)


def image_path(file_name: str) -> str:
    """A file name in annotations -> its path in `images`: COCO 2014's names contain the folder, others are paths."""
    match = re.match(r'COCO_(\w+?)_\d+\.', file_name)
    return f'{match[1]}/{file_name}' if match else file_name


class ImageFolder:
    """A folder of images. Each directory in it is listed once, on first use: far faster than checking every file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = [folder for folder in FOLDERS if (root / folder).is_dir()]
        self.entries: dict[str, frozenset[str]] = {}

    def holds(self, name: str) -> bool:
        """Whether there is a file or folder of this name, a path relative to the root."""
        parent, _, base = name.replace(os.sep, '/').rpartition('/')
        if parent not in self.entries:
            try:
                self.entries[parent] = frozenset(os.listdir(self.root / parent))
            except OSError:
                self.entries[parent] = frozenset()
        return base in self.entries[parent]

    def find(self, name: str) -> list[str]:
        """The paths, relative to the root, that a name can mean: itself if that exists, else those in FOLDERS."""
        if self.holds(name):
            return [name]
        return [path for path in (f'{folder}/{name}' for folder in self.folders) if self.holds(path)]


def name_problem(name: Any, folder: ImageFolder | None) -> str | None:
    """What is wrong with a name and what to write instead, as the end of a sentence; None if nothing is apparent.

    folder: of the images; None: not known, so that only names that leave any folder are wrong
    """
    if not _is_name(name):
        return ''
    what, remedy = next(((what, remedy) for pattern, what, remedy in OUTSIDE if pattern.search(name)), (None, ''))
    if what is None and (folder is None or not _is_suspicious(name, folder)):
        return None
    parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
    ends = ['/'.join(parts[i:]) for i in range(len(parts))] or [name]
    found = next((end for end in ends if is_safe(end) and folder.find(end)), None) if folder else None
    if what is None and folder:
        has_own_name = len(parts) > 1 and parts[0] == folder.root.name
        likely = found or ends[has_own_name]
        if '\\' in name:
            what = 'uses backslashes, as paths on Windows do'
        elif has_own_name:
            what = "begins with the images folder's own name"
        elif found:
            what = f'begins with {name.removesuffix(found)!r}, which is not in it'
        else:
            return None
        remedy = f'write {likely!r}'
    return f', but {what} ({f"write {found!r}" if found else remedy})'


def _is_suspicious(name: str, folder: ImageFolder) -> bool:
    """Whether a name has backslashes or begins with a folder that does not exist, and leads to no file."""
    first, slash, _ = name.partition('/')
    begins_elsewhere = bool(slash) and first not in ('', '.') and not folder.holds(first)
    return ('\\' in name or begins_elsewhere) and not folder.find(name)
