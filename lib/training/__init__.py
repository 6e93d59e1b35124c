"""A training run: its losses (losses.py), its state (trainer.py), where it begins (begin.py), how it goes (run.py)."""

from lib.training.trainer import Trainer as Trainer
from lib.training.trainer import build_schedule as build_schedule
