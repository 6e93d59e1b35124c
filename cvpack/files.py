"""Reading what a user's files hold."""

import json
from pathlib import Path
from typing import Any

from cvpack.errors import InputError


def read_json(path: Path, remedy: str = 'get it again') -> Any:
    """The content of a json file. Raises InputError, which ends in `remedy`, where it is absent or damaged."""
    if not path.is_file():
        raise InputError(f'{path} does not exist: {remedy}')
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f'{path} is not valid json ({error}): {remedy}') from None
