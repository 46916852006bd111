"""A virtual ArC ONE, with any backend of one passive array inside."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hil.contract import Backend, Bias, Blocks, BoardSpec, Pulse, Read, ReadCells, Sense, Shape, Side
from hil.errors import HilError, UsageError
from instruments.virtual.arcone_tokens import Command, TokenParser
from instruments.virtual.inspection import inspect
from instruments.virtual.outputs import Outputs
from instruments.virtual.personality import Task, Work

COMMAND = 1e-3
"""s a command takes (public facts of the board)."""
CONVERSION = 0.2e-3
"""s one reading takes; a choice of this project."""
RESET = 1.0
"""s a reset takes (public facts: wait 1 to 2 s)."""
PACE = 0.5e-3
"""s between two packets, below which the real board drops the second."""
_SNEAK_PATHS = (Bias.THIRD, Bias.HALF, Bias.FLOAT)
_CLASSIC_VOLTS = 0.5


def inside_spec(spec: BoardSpec) -> BoardSpec:
    """The spec of the backend inside: the same board with free inputs, since the personality makes the binary ones."""
    return replace(spec, reading=replace(spec.reading, input_coding="amplitude", input_levels=None))


class ArcOne:
    """The board behind the tokens.

    Its parser belongs to the board, not to the client: who comes next meets what the last one left half-sent, and
    silence mends nothing. It has no watchdog and does not notice that a client is gone.

    Args:
        inside: what carries operations out: one passive array of up to 32 x 32 cells. The firmware version in its
            identity is answered (``"none"``: silence; empty: 1.0).
        strict_pace: a clock, s, to drop packets by that come sooner than 0.5 ms after the last; None drops nothing.
    """

    def __init__(self, inside: Backend, strict_pace: Callable[[], float] | None = None) -> None:
        geometry = inside.spec.geometry
        if geometry.selector != "passive" or geometry.kernels != 1 or max(geometry.rows, geometry.cols) > 32:
            raise UsageError("an ArC ONE has one passive array of up to 32 x 32 cells")
        self.inside, self.outputs = inside, Outputs()
        self.counters: dict[str, int] = {"jobs": 0, "pulses": 0, "resets": 0, "dropped": 0, "errors": 0}
        self._parser = TokenParser(geometry.rows, geometry.cols)
        self._up = 1 if geometry.up is Side.ROWS else -1
        self._clock, self._last_packet = strict_pace, float("-inf")
        self._armed: set[str] = set()
        self._restarted(worn=False)

    # -- the personality -------------------------------------------------------------------------------------------

    def converse(self, client: str) -> ArcOneConversation:
        """See ``Personality``."""
        return ArcOneConversation(self)

    def tick(self, now: float) -> float | None:
        """See ``Personality``; the board has no watchdog."""
        return None

    def misbehave(self, fault: str) -> bool:
        """See ``Personality``: ``busy`` swallows a job, ``reset`` resets it, ``firmware`` is another version once."""
        if fault == "reset":
            self._parser.forget()
            self._restarted()
        elif fault in ("busy", "firmware"):
            self._armed.add(fault)
        return fault in ("reset", "busy", "firmware")

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """See ``Personality``."""
        return inspect(self.inside, self.outputs, self.counters, what, arguments)

    # -- commands --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Task]:
        """Takes a packet of any client."""
        if self._clock is not None:
            now, before = self._clock(), self._last_packet
            self._last_packet = now
            if now - before < PACE:
                self.counters["dropped"] += 1
                return
        for command in self._parser.feed(data):
            yield Task(self._work(command))

    def _work(self, command: Command) -> Work:
        if self._disarmed("busy"):
            return b""
        self.counters["jobs"] += 1
        if command.job == "00":
            yield 0.0 if self._fresh else RESET
            self._restarted()
            return b""
        self._fresh = False
        yield COMMAND
        if not self._ready and command.job not in ("0", "999"):
            return b""
        try:
            return (yield from self._job(command))
        except HilError:  # what the backend refuses the board cannot say
            self.counters["errors"] += 1
            return b""
        finally:
            self.outputs.raise_to(0.0)

    def _job(self, command: Command) -> Work:
        numbers, whole = command.numbers, command.whole
        match command.job:
            case "0":
                self._ready = True
                self._mode, self._bias, self._volts = whole[3], _SNEAK_PATHS[whole[5]], numbers[6]
                return b"1\n"
            case "01":
                self._mode, self._volts = whole[0], numbers[1]
            case "011":
                self._bias = _SNEAK_PATHS[whole[1]]
            case "02":
                self._selected = (whole[0] - 1, whole[1] - 1)
            case "1" | "pair":
                yield CONVERSION
                return self._resistances(Blocks((0,), (whole[0] - 1,), (whole[1] - 1,), 1, 1))
            case "2" if whole[0] == 1:
                yield whole[1] * whole[2] * CONVERSION
                return self._resistances(Blocks((0,), (0,), (0,), whole[1], whole[2]))
            case "3":
                cell = (whole[0] - 1, whole[1] - 1)
                yield numbers[3]
                self._pulse(cell, numbers[2], numbers[3])
                yield CONVERSION
                return self._resistances(Blocks((0,), (cell[0],), (cell[1],), 1, 1))
            case "04" if self._selected is not None:
                yield numbers[1]
                self._pulse(self._selected, *numbers)
            case "50":
                yield CONVERSION
                return self._line(whole[6:], whole[4], numbers[2])
            case "999":
                return self._version()
            case _:
                pass
        return b""

    def _restarted(self, worn: bool = True) -> None:
        """Forgets all settings; lines go to 0 V."""
        self._ready, self._fresh = False, True
        self._mode, self._volts, self._bias = 0, 0.0, Bias.THIRD
        self._selected: tuple[int, int] | None = None
        if worn:
            self.counters["resets"] += 1
            self.inside.make_safe()
            self.outputs.make_safe()

    def _version(self) -> bytes:
        text = self.inside.spec.identity.firmware or "1.0"
        if text == "none":
            return b""
        first, _, second = text.partition(".")
        return struct.pack("<2H", int(first) + self._disarmed("firmware"), int(second or 0))

    def _resistances(self, blocks: Blocks) -> bytes:
        volts = _CLASSIC_VOLTS if self._mode == 0 else self._volts
        op = ReadCells(blocks, Sense(volts, unselected=self._known_bias()), Side.ROWS)
        self.outputs.drive(op)
        (got,) = self.inside.execute([op])
        assert got.value is not None
        wrong_way = (self._mode == 2 and volts < 0) or (self._mode == 3 and volts > 0)
        return _floats(torch.full_like(got.value, torch.nan) if wrong_way else volts / got.value)

    def _line(self, words: tuple[int, ...], bit: int, volts: float) -> bytes:
        spec = self.inside.spec
        vector = torch.zeros(1, 1, spec.geometry.rows)
        vector[0, 0, [word - 1 for word in words]] = volts
        blocks = Blocks((0,), (0,), (0,), spec.geometry.rows, spec.geometry.cols)
        op = Read(blocks, vector, Side.ROWS, Sense(unselected=self._known_bias()))
        self.outputs.drive(op)
        (got,) = self.inside.execute([op])
        assert got.value is not None
        return _floats(torch.stack([volts / got.value[0, 0, bit - 1].double(), torch.tensor(volts), torch.tensor(0.0)]))

    def _pulse(self, cell: tuple[int, int], volts: float, seconds: float) -> None:
        """Pulses a cell; a word line above its bit line raises the conductance where the array is built that way."""
        if volts == 0:
            return
        sign = self._up if volts > 0 else -self._up
        counts, shape = torch.full((1, 1, 1), sign, dtype=torch.int32), Shape(abs(volts), seconds)
        blocks = Blocks((0,), (cell[0],), (cell[1],), 1, 1)
        op = Pulse(blocks, counts, shape, shape, unselected=self._known_bias())
        self.outputs.drive(op)
        self.inside.execute([op])
        self.counters["pulses"] += 1

    def _known_bias(self) -> Bias | None:
        return self._bias if self._bias in self.inside.spec.writing.biases else None

    def _disarmed(self, fault: str) -> bool:
        """Whether a fault was armed; it happens once."""
        is_armed = fault in self._armed
        self._armed.discard(fault)
        return is_armed


class ArcOneConversation:
    """One client of the board.

    Args:
        board: the board.
    """

    def __init__(self, board: ArcOne) -> None:
        self._board = board

    def receive(self, data: bytes) -> Iterator[Task]:
        """See ``Conversation``."""
        yield from self._board.receive(data)

    def silent(self) -> None:
        """See ``Conversation``; the board does not forget."""

    def lost(self) -> None:
        """See ``Conversation``; the board does not notice."""


def _floats(values: Tensor) -> bytes:
    with np.errstate(over="ignore"):
        return values.double().numpy().astype("<f4").tobytes()
