"""Data sets to train on, one a file."""

from hil.lab.tasks.digits import Digits
from hil.lab.tasks.samples import Samples, TaskConfig
from hil.lab.tasks.xor import Xor

__all__ = ["Digits", "Samples", "TaskConfig", "Xor"]
