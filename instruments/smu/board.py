"""A crossbar behind a source-measure unit and a switch matrix: cell by cell, one path at a time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hil.contract import BoardSpec, Cells, Flag, Op, Outcome, Pulse, ReadCells, SafeReport, Shape, Side, Wait
from hil.errors import Aborted, BoardFault, BoardMissing, HilError, UsageError
from hil.units import engineering
from instruments.scpi.text import measured, told
from instruments.smu.channels import SmuMatrixConfig
from instruments.smu.cold_path import ColdPath
from instruments.smu.refusals import compliance, refuse, refuse_spec
from instruments.smu.roles import SourceMeter, SwitchMatrix


@dataclass(eq=False)
class PulseTooLong(HilError):
    """A pulse lasted longer than was asked for; the cell got more than it should.

    Args:
        asked: s.
        lasted: s.
    """

    asked: float
    lasted: float
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        asked, lasted = engineering(self.asked, "s"), engineering(self.lasted, "s")
        return f"a pulse of {asked} lasted {lasted}; use longer pulses, or a host with less to do"


_POLL = 0.05
"""s; how often a wait looks whether the operator wants an end."""


class SmuMatrixBoard:
    """Plays ``Backend`` with one source; ``hil.lowering`` makes what it lacks out of cell reads and pulses.

    Both instruments are identified before anything else is sent to either.

    Args:
        spec: what the board is.
        config: how it is wired.
        source: the source-measure unit, which the board owns from now on.
        matrix: the switch matrix, likewise.
        wants_abort: looked at between cells, and while waiting.
        sleep: waits for s.
        now: lab time, s since 1970, UTC.

    Raises:
        UsageError: spec, wiring and instruments do not fit; nothing was sent.
        BoardMissing: an instrument is another one than expected.
        HilError: an instrument does not answer, or refuses its set-up.
    """

    def __init__(
        self,
        spec: BoardSpec,
        config: SmuMatrixConfig,
        source: SourceMeter,
        matrix: SwitchMatrix,
        *,
        wants_abort: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._spec, self._config = spec, config
        self._source, self._matrix = source, matrix
        self._wants_abort, self._sleep, self._now = wants_abort, sleep, now
        self._path = ColdPath(source, matrix, config.settle, sleep)
        self._closed: SafeReport | None = None
        try:
            self.identities = self._begin()
        except BaseException:
            self._release()
            raise

    def _begin(self) -> tuple[str, str]:
        refuse_spec(self._spec, self._config)
        for part, role in ((self._source, SourceMeter), (self._matrix, SwitchMatrix)):
            if not isinstance(part, role):
                raise UsageError(f"{type(part).__name__} cannot play {role.__name__}: it lacks some of its methods")
        identities = self._source.identify(), self._matrix.identify()
        try:
            self._source.prepare()
            self._matrix.prepare()
        except BaseException:
            self._path.make_safe()
            raise
        return identities

    @property
    def spec(self) -> BoardSpec:
        """What the board is and what it may do."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``; the source is at 0 V and off between operations.

        Raises:
            Unsupported: the board cannot do some of it; nothing was sent.
            InvalidOperation: some of it is not well formed; nothing was sent.
            LimitExceeded: a pulse is shorter than the source can make it; nothing was sent.
            Aborted: the operator ended the run; the board was made safe.
            BoardFault: an instrument failed in the middle; the board was made safe, and no pulse was sent twice.
        """
        if self._closed is not None:
            raise BoardMissing(self._spec.identity.name, "it was closed; open it again")
        refuse(ops, self._spec, self._shortest)
        outcomes: list[Outcome] = []
        for index, op in enumerate(ops):
            doubt = torch.zeros(self._spec.cells, dtype=torch.bool)
            try:
                outcomes.append(self._one(op, doubt))
            except Aborted:
                self._path.make_safe()
                raise
            except Exception as error:  # a foreign driver may raise anything
                self._path.make_safe()
                text = str(error) if isinstance(error, HilError) else f"{type(error).__name__} {told(str(error), 200)}"
                cells = doubt if bool(doubt.any()) else None
                raise BoardFault(self._spec.identity.name, text, outcomes, index, cells) from error
            except BaseException:  # Ctrl-C in the middle of a pulse
                self._path.make_safe()
                raise
        return outcomes

    def now(self) -> float:
        """See ``Backend``: s since 1970, UTC."""
        return self._now()

    def make_safe(self) -> SafeReport:
        """See ``Backend``: commands to both instruments first, then both are read back."""
        return self._closed or self._path.make_safe()

    def close(self) -> None:
        """See ``Backend``."""
        if self._closed is None:
            self._closed = self._path.make_safe()
            self._release()

    @property
    def _shortest(self) -> float:
        """The shortest pulse, s: what source, wiring and the width's grid allow."""
        floor = max(self._source.shortest_pulse, self._config.shortest_pulse)
        return max(floor, self._spec.writing.seconds_step or 0.0)

    def _release(self) -> None:
        for part in (self._matrix, self._source):
            with contextlib.suppress(Exception):  # a line that is gone cannot be closed any better
                part.close()

    # -- operations ------------------------------------------------------------------------------------------------

    def _one(self, op: Op, doubt: Tensor) -> Outcome:
        began = self.now()
        value = flags = applied = None
        events = 0
        match op:
            case ReadCells():
                value, flags = self._read(op)
                events = int((flags & int(Flag.NOT_MEASURED) == 0).sum()) * op.sense.averages
            case Pulse():
                applied = self._pulse(op, doubt)
                events = int(applied.sum())
            case Wait():
                self._wait(op.seconds)
                return Outcome(None, None, None, began, op.seconds, 0)
        flags = flags if flags is not None and bool(flags.any()) else None
        return Outcome(value, flags, applied, began, max(self.now() - began, 0.0), events)

    def _read(self, op: ReadCells) -> tuple[Tensor, Tensor]:
        """Currents [T, R, C] A, positive into the side that is not driven, and their flags."""
        assert op.sense.volts is not None
        shape = op.blocks.shape
        mask = torch.ones(shape, dtype=torch.bool) if op.mask is None else op.mask.expand(shape)
        value = torch.full(shape, math.nan, dtype=torch.float32)
        flags = torch.full(shape, int(Flag.NOT_MEASURED), dtype=torch.uint8)
        sign = 1.0 if op.drive is Side.ROWS else -1.0  # the high terminal is at the rows
        amps = compliance("ReadCells", op.sense.amps, self._spec)
        for t, r, c in self._cells(mask):
            self._path.to(self._channels(op, t, r, c), amps, op.sense.full_scale)
            self._source.level(sign * op.sense.volts)
            self._sleep(self._config.level_settle)
            reading = self._source.read(op.sense.averages)
            self._path.rest()
            current, code = measured(reading.amps)  # a foreign driver may give an instrument's code for "no number"
            value[t, r, c], flags[t, r, c] = sign * current, int(reading.flags | code)
        return value, flags

    def _pulse(self, op: Pulse, doubt: Tensor) -> Tensor:
        """Pulses that each cell got, int32 [T, R, C]; ``doubt`` marks cells from before their first pulse on."""
        shape = op.blocks.shape
        counts = op.counts.to(torch.int32).expand(shape)
        up, down = _volts(op.up, shape), _volts(op.down, shape)
        for t, r, c in self._cells(counts != 0):
            doubt[op.blocks.kernel[t], op.blocks.row[t] + r, op.blocks.col[t] + c] = True
            pulses, limit = int(counts[t, r, c]), 0.0
            for cycle in range(op.cycles):
                raising = (pulses > 0) != (op.alternate and cycle % 2 == 1)
                part, volts = (op.up, up) if raising else (op.down, down)
                amps = compliance("Pulse", part.amps, self._spec)
                if amps != limit:  # a new limit is set, and read back, with the output off
                    self._path.to(self._channels(op, t, r, c), amps)
                    limit = amps
                self._train(abs(pulses), self._signed(float(volts[t, r, c]), raising), part.seconds)
            self._path.rest()
            self._source.settled()
        return (counts.abs() * op.cycles).to(torch.int32)

    def _train(self, pulses: int, volts: float, seconds: float) -> None:
        """Gives one cell pulses; one that lasted too long is a fault, since it did more than was asked."""
        longest = seconds * (1 + self._config.width_tolerance)
        for _ in range(pulses):
            width = self._source.pulse(volts, seconds)
            if not width <= longest:
                raise PulseTooLong(seconds, width)

    def _signed(self, volts: float, raising: bool) -> float:
        """The volts of the rows against the columns, for a pulse in a direction."""
        return volts if raising == (self._spec.geometry.up is Side.ROWS) else -volts

    def _channels(self, op: ReadCells | Pulse, t: int, r: int, c: int) -> tuple[str, str]:
        blocks = op.blocks
        return self._config.path(blocks.kernel[t], blocks.row[t] + r, blocks.col[t] + c)

    def _cells(self, wanted: Tensor) -> Iterator[tuple[int, int, int]]:
        """Cells one by one, while nobody wants an end."""
        for cell in wanted.nonzero().tolist():
            self._go_on()
            yield cell[0], cell[1], cell[2]

    def _wait(self, seconds: float) -> None:
        left = seconds
        while left > 0:
            self._go_on()
            part = min(left, _POLL)
            self._sleep(part)
            left -= part

    def _go_on(self) -> None:
        if self._wants_abort():
            raise Aborted("the operator ended it between two cells")


def _volts(shape: Shape, cells: tuple[int, int, int]) -> Tensor:
    """Amplitude of each cell, float64 [T, R, C] V."""
    volts: Cells = shape.volts
    return torch.as_tensor(volts, dtype=torch.float64).expand(cells)
