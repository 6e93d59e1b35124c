"""A training run: losses (losses.py), state (trainer.py), start or resume (begin.py), and the run itself (run.py)."""

from lib.training.trainer import Trainer as Trainer
from lib.training.trainer import build_schedule as build_schedule
