"""A framed virtual board that answers zeros at once, in a process of its own: what is left is the cost of the wire.

Run it with ``python benchmarks/null_board.py [--pty] [--rate B/S] [--round-trip S]``; it prints its addresses as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from hil.contract import BoardSpec, Op, Outcome, Read, ReadCells, SafeReport
from hil.lab.opening import read_board
from instruments.virtual.framed import FramedBoardCore
from instruments.virtual.shell import ShellSettings, serve

BOARD = Path(__file__).resolve().parent.parent / "config/boards/daffodil.yaml"


@cache
def zeros(shape: tuple[int, ...]) -> Tensor:
    """No current at all, A; made once, so that the board takes no time for it."""
    return torch.zeros(shape)


class NullBoard:
    """A board whose currents are all zero and whose work takes no time.

    Args:
        spec: what it says it is.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``; only readings have values."""
        return [Outcome(self._value(op), None, None, 0.0, 0.0, 0) for op in ops]

    def _value(self, op: Op) -> Tensor | None:
        match op:
            case Read():
                return zeros((len(op.blocks), op.volts.shape[1], op.blocks.lines(op.drive.other)))
            case ReadCells():
                return zeros(op.blocks.shape)
            case _:
                return None

    def now(self) -> float:
        """See ``Backend``; no time passes."""
        return 0.0

    def make_safe(self) -> SafeReport:
        """See ``Backend``."""
        return SafeReport({}, confirmed=True)

    def close(self) -> None:
        """See ``Backend``."""


def main() -> None:
    """Serves the board until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pty", action="store_true", help="offer a serial line beside the network")
    parser.add_argument("--rate", type=float, help="pace of all lines, B/s")
    parser.add_argument("--round-trip", type=float, default=0.0, help="how late every answer is, s")
    given = parser.parse_args()
    torch.set_num_threads(1)
    core = FramedBoardCore(NullBoard(read_board(BOARD).value.spec), {})
    settings = ShellSettings(pty=given.pty, rate=given.rate, round_trip=given.round_trip)
    serve(core, settings, lambda addresses: print(json.dumps(addresses), flush=True))


if __name__ == "__main__":
    main()
