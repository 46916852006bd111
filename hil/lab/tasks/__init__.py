"""Data sets to train on, one a file."""

from hil.lab.tasks.digits import Digits
from hil.lab.tasks.files import Files, IdxFiles, NpzFile
from hil.lab.tasks.iris import Iris
from hil.lab.tasks.mnist1d_like import Mnist1dLike
from hil.lab.tasks.nist7x7 import Nist7x7
from hil.lab.tasks.parity import Parity
from hil.lab.tasks.samples import Samples, TaskConfig
from hil.lab.tasks.two_yinyang import TwoYinYang
from hil.lab.tasks.wine import Wine
from hil.lab.tasks.xor import Xor
from hil.lab.tasks.yinyang import YinYang

__all__ = [
    "Digits", "Files", "IdxFiles", "Iris", "Mnist1dLike", "Nist7x7", "NpzFile", "Parity", "Samples", "TaskConfig",
    "TwoYinYang", "Wine", "Xor", "YinYang",
]  # fmt: skip
