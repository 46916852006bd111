"""Crossbar-HIL: trains neural networks on memristor crossbar chips with the chip in the loop.

The Python surface is three verbs: ``open_board``, ``deploy`` and ``run``. They are resolved on first use, so that
importing ``hil`` stays cheap.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hil.deployment import deploy as deploy
    from hil.lab.build import open_board as open_board
    from hil.lab.runs import run as run

__version__ = "0.1.0"
__all__ = ["deploy", "open_board", "run"]

_VERBS = {"open_board": "hil.lab.build", "run": "hil.lab.runs", "deploy": "hil.deployment"}


def _check_rooms() -> None:
    """Makes sure that the sibling rooms are ours: their names are common, and another package may own one of them."""
    home = Path(__file__).resolve().parent.parent
    for room in ("instruments", "sim_backend", "protocols"):
        found = find_spec(room)
        origin = Path(found.origin).resolve() if found is not None and found.origin else None
        if origin is None or origin.parent.parent != home:
            raise ImportError(
                f"the package {room!r} comes from {origin or 'nowhere'}, but Crossbar-HIL is in {home}; "
                "install crossbar-hil in a virtual environment of its own and run `hil doctor`"
            )


_check_rooms()


def __getattr__(name: str) -> object:
    if name not in _VERBS:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_VERBS[name]), name)
