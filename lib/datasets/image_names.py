"""Names of image files in annotations: whether they stay in their folder, where their files lie, and what is odd about
a name that leads to none.
"""

import os
import re
from pathlib import Path
from typing import Any

MAX_NAME_LENGTH = 1000
# What no file system or terminal should be given.
CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
# Names that leave the folder, on Windows or elsewhere, and what to do about them where the file is not in the folder.
OUTSIDE = (
    (re.compile(r'\A(?:[A-Za-z][A-Za-z0-9+.-]+://|data:)'), 'is a URL', 'download the image and name its file'),
    (re.compile(r'\A(?:/|\\|[A-Za-z]:[/\\])'), 'is absolute', 'write what follows that folder'),
    (re.compile(r'(?:\A|[/\\])\.\.(?:[/\\]|\Z)'), 'leads out of it', 'move the image there'),
)
# Of COCO 2014. Names that do not tell their folder are looked for in both.
FOLDERS = ('train2014', 'val2014')


def is_safe(name: Any) -> bool:
    """Whether this is a file name that stays in its folder and that a file system takes."""
    return _is_name(name) and not any(pattern.search(name) for pattern, _, _ in OUTSIDE)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and not CONTROL.search(name)


def times(root: Path) -> list[int]:
    """When files last came into the folders that `ImageFolder.find` looks in, or left them: what it finds is the same
    until then.
    """
    folders = [root, *(root / folder for folder in FOLDERS)]
    return [folder.stat().st_mtime_ns for folder in folders if folder.is_dir()]


def image_path(file_name: str) -> str:
    """An annotated file name -> its path in `images`: COCO 2014's names tell the folder, others are paths."""
    match = re.match(r'COCO_(\w+?)_\d+\.', file_name)
    return f'{match[1]}/{file_name}' if match else file_name


class ImageFolder:
    """A folder of images. Each directory in it is listed once, when it is first needed: that takes far less time than
    to ask for every file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = [folder for folder in FOLDERS if (root / folder).is_dir()]
        self.entries: dict[str, frozenset[str]] = {}

    def holds(self, name: str) -> bool:
        """Whether there is a file or folder of this name, a path below the root."""
        parent, _, base = name.replace(os.sep, '/').rpartition('/')
        if parent not in self.entries:
            try:
                self.entries[parent] = frozenset(os.listdir(self.root / parent))
            except OSError:
                self.entries[parent] = frozenset()
        return base in self.entries[parent]

    def find(self, name: str) -> list[str]:
        """The paths below the root that a name can mean: itself, if there is such a file, else those in FOLDERS."""
        if self.holds(name):
            return [name]
        return [path for path in (f'{folder}/{name}' for folder in self.folders) if self.holds(path)]


def oddity(name: Any, folder: ImageFolder | None) -> str | None:
    """What is odd about a name and what to write instead, as the end of a sentence; None if nothing shows.

    folder: of the images; None: not known here, so that only what leaves any folder is odd
    """
    if not _is_name(name):
        return ''
    what, remedy = next(((what, remedy) for pattern, what, remedy in OUTSIDE if pattern.search(name)), (None, ''))
    if what is None and (folder is None or not _is_suspicious(name, folder)):
        return None
    parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
    ends = ['/'.join(parts[i:]) for i in range(len(parts))]
    there = next((end for end in ends if is_safe(end) and folder.find(end)), None) if folder else None
    if what is None and folder:
        has_own_name = len(parts) > 1 and parts[0] == folder.root.name
        likely = there or ends[has_own_name]
        if '\\' in name:
            what = 'uses backslashes, as paths on Windows do'
        elif has_own_name:
            what = "begins with the images folder's own name"
        elif there:
            what = f'begins with {name.removesuffix(there)!r}, which is not in it'
        else:
            return None
        remedy = f'write {likely!r}'
    return f', but {what} ({f"write {there!r}" if there else remedy})'


def _is_suspicious(name: str, folder: ImageFolder) -> bool:
    """Whether a name that stays in the folder has backslashes or begins with a folder, and leads to no file."""
    first, slash, _ = name.partition('/')
    begins_elsewhere = slash and first not in ('', '.') and not folder.holds(first)
    return bool('\\' in name or begins_elsewhere) and not folder.find(name)
