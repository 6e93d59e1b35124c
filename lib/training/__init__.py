"""A training run of an experiment: what it computes (trainer.py), where it begins (begin.py), what it saves."""

from lib.training.trainer import Trainer as Trainer
from lib.training.trainer import build_schedule as build_schedule
from lib.training.trainer import keep_config as keep_config
