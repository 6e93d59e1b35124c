"""The commands: python -m lib.tools.NAME."""

import lib.clone  # noqa: F401
