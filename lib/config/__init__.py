"""Configurations: the paper's defaults (defaults.py), and how an experiment changes them (resolve.py)."""

from lib.config.defaults import OUTPUT_STRIDE as OUTPUT_STRIDE
from lib.config.defaults import coco_defaults as coco_defaults
from lib.config.defaults import mpii_defaults as mpii_defaults
from lib.config.experiment import run_config as run_config
from lib.config.places import REPOSITORY as REPOSITORY
from lib.config.places import git_revision as git_revision
from lib.config.places import home as home
from lib.config.places import writing as writing
from lib.config.resolve import add_override_option as add_override_option
from lib.config.resolve import finalize as finalize
from lib.config.resolve import override as override
from lib.config.resolve import to_plain as to_plain
