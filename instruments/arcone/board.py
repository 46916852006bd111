"""The driver of the ArC ONE board: operations as jobs, one cell or one bit line at a time.

The board is silent about most of what it is told. So a pulse is sent once and never again: where its answer is lost,
the cell is in doubt and the caller decides. Reads are tried again, a bounded number of times, after a reset. Nothing on
this wire has a checksum: a flipped bit in a resistance cannot be told from another resistance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from hil.contract import Bias, BoardSpec, Flag, Op, Outcome, Pulse, Read, ReadCells, SafeReport, Side, Wait
from hil.contract.cost import cost
from hil.errors import Aborted, BoardFault, BoardMissing, HilError, LinkLost, LinkTimeout, WireError
from instruments.arcone import tokens
from instruments.arcone.config import ArcOneConfig
from instruments.arcone.controller import MASKED_AT_ONCE, Controller, sleep
from instruments.arcone.refusals import CLASSIC_VOLTS, common_volts, refuse, refuse_spec
from instruments.links.link import POLL
from instruments.session import Session

LEAST_OHMS = 1.0
"""ohm; the board's own sign for "no value", three zeros, works because no cell is below it."""
LOCK_SECONDS = 5.0
"""s that ``make_safe`` waits for another thread's exchange to end before it goes ahead all the same."""
_FAULTS = (LinkTimeout, LinkLost, WireError)
T = TypeVar("T")


class ArcOneBoard:
    """An ArC ONE behind a link.

    Opening asks for the firmware version and sends nothing else before that is right; then the board is reset and
    initialised. The board has no serial number to read: the one in its file is the technician's word.

    Args:
        session: the link, with the gap of the config between messages; owned by the board, also when opening fails.
        spec: what the board is.
        config: settings of the driver.
        wants_abort: looked at between jobs; True raises ``Aborted`` with no job half-sent.

    Raises:
        UsageError: the spec is none of an ArC ONE.
        BoardMissing: it does not answer, or is another board.
    """

    def __init__(
        self,
        session: Session,
        spec: BoardSpec,
        config: ArcOneConfig | None = None,
        wants_abort: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session, self._spec, self._config = session, spec, config or ArcOneConfig()
        self._wants_abort = wants_abort
        self._doubt = torch.zeros(spec.cells, dtype=torch.bool)
        self._closed: SafeReport | None = None
        try:
            refuse_spec(spec)
            volts = CLASSIC_VOLTS if self._config.read_mode == "classic" else spec.limits.read_cell_volts
            _, rows, cols = spec.cells
            self._own_bias = spec.writing.biases[0]
            self._controller = Controller(session, self._config, (rows, cols), volts=volts, bias=self._own_bias)
            self._open()
        except BaseException:
            session.close()
            raise

    def _open(self) -> None:
        name = self._spec.identity.name
        try:
            self._controller.identify(self._spec.identity.firmware, name)
            self._controller.restart(sleep)
        except _FAULTS as error:
            raise BoardMissing(name, str(error)) from error

    @property
    def spec(self) -> BoardSpec:
        """What the board is and what it may do."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``.

        Raises:
            Unsupported: the board cannot do one of them; nothing was sent.
            InvalidOperation, LimitExceeded: one of them cannot be sent; nothing was.
            BoardFault: the board or its link failed; pulses without an answer leave their cells in doubt.
            Aborted: ``wants_abort`` said so, between two jobs.
        """
        if self._closed is not None:
            raise BoardMissing(self._spec.identity.name, "it was closed; open it again")
        for op in ops:
            refuse(op, self._spec, self._config)
        done: list[Outcome] = []
        with self._session.exchange():
            for index, op in enumerate(ops):
                try:
                    done.append(self._one(op))
                except _FAULTS as error:
                    self._session.dirty = True
                    doubt, self._doubt = self._doubt, torch.zeros_like(self._doubt)
                    raise BoardFault(self._spec.identity.name, str(error), done, index, doubt) from error
                except HilError:
                    raise
                except BaseException:  # an interrupt may have left a job half-sent
                    self._session.dirty = True
                    raise
        return done

    def now(self) -> float:
        """Lab seconds since 1970, UTC."""
        return time.time()

    def make_safe(self) -> SafeReport:
        """See ``Backend``: a reset, then initialisation, both sent before anything is asked.

        The outputs of this board cannot be read back. They count as off, and as confirmed, when the board answers the
        initialisation after the reset and is still the board it was: it works on one job after the other and drives
        its lines only while it works on one, so a board that answers has no pulse and no read under way.
        """
        if self._closed is not None:
            return self._closed
        held = self._session.lock.acquire(timeout=LOCK_SECONDS)
        try:
            self._controller.restart(sleep)
            self._controller.verify()
            state = "off"
        except _FAULTS:
            self._session.dirty = True
            state = "unreadable"
        finally:
            if held:
                self._session.lock.release()
        return SafeReport({"rows": state, "cols": state}, confirmed=state == "off")

    def close(self) -> None:
        """See ``Backend``."""
        if self._closed is None:
            try:
                self._closed = self.make_safe()
            finally:
                self._session.close()

    # -- operations ------------------------------------------------------------------------------------------------

    def _one(self, op: Op) -> Outcome:
        began, started = self.now(), time.monotonic()
        value, flags, applied = None, None, None
        match op:
            case ReadCells():
                value, flags = _flagged(self._cells(op))
            case Read():
                value, flags = _flagged(self._vectors(op))
            case Pulse():
                applied = self._pulse(op)
            case Wait():
                self._pause(op.seconds)
            case _:
                raise AssertionError(f"{type(op).__name__} was not refused")
        return Outcome(value, flags, applied, began, time.monotonic() - started, cost(op, self._spec).events)

    def _cells(self, op: ReadCells) -> Tensor:
        """Currents of cells, [T, R, C] A; NaN where there is none."""
        volts, blocks = op.sense.volts, op.blocks
        assert volts is not None
        amps = torch.full(blocks.shape, torch.nan, dtype=torch.float64)
        mask = torch.ones(blocks.shape, dtype=torch.bool) if op.mask is None else op.mask.expand(blocks.shape)
        for t in range(len(blocks)):
            wanted = mask[t].nonzero().tolist()
            row, col = blocks.row[t] + 1, blocks.col[t] + 1
            from_the_first = row == col == 1 and len(wanted) == blocks.n_rows * blocks.n_cols
            at_once = len(wanted) if from_the_first else MASKED_AT_ONCE
            for first in range(0, len(wanted), at_once):
                part = wanted[first : first + at_once]
                cells = [(row + r, col + c) for r, c in part]
                size = (blocks.n_rows, blocks.n_cols) if from_the_first else None
                means = self._resistances(cells, size, volts, op.sense.averages, op.sense.unselected)
                for (r, c), mean in zip(part, means, strict=True):
                    amps[t, r, c] = mean
        return amps.float()  # the wire brings no more

    def _resistances(
        self, cells: list[tuple[int, int]], size: tuple[int, int] | None, volts: float, averages: int, bias: Bias | None
    ) -> list[float]:
        """Mean currents of cells, A, by the job that suits them: a whole array of a size, one cell, or a list."""

        def go() -> Sequence[float]:
            self._controller.set_volts(volts)
            if len(cells) == 1:
                return self._controller.ask(tokens.read_one(*cells[0]))
            return self._controller.ask_masked(cells) if size is None else self._controller.ask(tokens.read_all(*size))

        rounds = [self._tried(go, bias) for _ in range(averages)]
        return [sum(_amps(volts, ohms) for ohms in each) / averages for each in zip(*rounds, strict=True)]

    def _vectors(self, op: Read) -> Tensor:
        """Currents of bit lines for binary vectors, [T, batch, sensed] A; a vector that drives nothing gives 0 A."""
        blocks, feed = op.blocks, op.feed or range(len(op.blocks))
        common = common_volts(op.volts, self._spec.identity.name)
        amps = torch.zeros(len(blocks), op.volts.shape[1], blocks.n_cols, dtype=torch.float64)
        for t, b in torch.cartesian_prod(torch.arange(len(blocks)), torch.arange(op.volts.shape[1])).tolist():
            words = [blocks.row[t] + 1 + r for r in op.volts[feed[t], b].nonzero().flatten().tolist()]
            for c in range(blocks.n_cols if words else 0):
                job = tokens.read_line(words, blocks.col[t] + c + 1, float(common[feed[t], b]))
                amps[t, b, c] = self._line(job, float(common[feed[t], b]), op.sense.averages, op.sense.unselected)
        return amps.to(op.volts.dtype)

    def _line(self, job: tokens.Job, volts: float, averages: int, bias: Bias | None) -> float:
        """The mean current of a bit line, A."""

        def go() -> Sequence[float]:
            self._controller.set_sign(volts)
            return self._controller.ask(job)

        answers = [self._tried(go, bias) for _ in range(averages)]
        return sum(_amps(second, first) for first, second, _ in answers) / averages

    def _pulse(self, op: Pulse) -> Tensor:
        blocks = op.blocks
        counts = op.counts.to(torch.int32).expand(blocks.shape)
        up, down = (torch.as_tensor(s.volts, dtype=torch.float64).expand(blocks.shape) for s in (op.up, op.down))
        way = 1 if self._spec.geometry.up is Side.ROWS else -1  # volts of the word line above the bit line
        cells = counts.nonzero().tolist()
        for cycle in range(op.cycles):
            turn = -1 if op.alternate and cycle % 2 else 1
            for t, r, c in cells:
                count = turn * int(counts[t, r, c])
                shape, volts = (op.up, up) if count > 0 else (op.down, down)
                signed = way * float(volts[t, r, c]) * (1 if count > 0 else -1)
                place = (blocks.row[t] + r, blocks.col[t] + c)
                self._pulse_cell(place, abs(count), signed, shape.seconds, op.unselected)
        return counts.abs() * op.cycles

    def _pulse_cell(self, place: tuple[int, int], count: int, volts: float, seconds: float, bias: Bias | None) -> None:
        """Pulses one cell; from the first pulse sent until an answer comes it is in doubt."""
        controller, (word, bit) = self._controller, (place[0] + 1, place[1] + 1)
        self._may_go_on()
        controller.in_step(self._pause)
        controller.set_bias(bias or self._own_bias)
        unanswered = count - 1 if self._config.answered_pulses else count
        if unanswered:
            controller.send(tokens.select(word, bit))
        self._doubt[0, place[0], place[1]] = True
        for _ in range(unanswered):
            controller.send(job := tokens.pulse_selected(volts, seconds))
            self._pause(job.seconds)
        if self._config.answered_pulses:
            controller.ask(tokens.pulse_then_read(word, bit, volts, seconds))
            self._doubt.zero_()  # jobs are done in their order: all before this answer have been

    # -- going on --------------------------------------------------------------------------------------------------

    def _tried(self, go: Callable[[], T], bias: Bias | None) -> T:
        """A read, tried again after a reset where its answer is lost."""
        for left in range(self._config.retries, -1, -1):
            self._may_go_on()
            try:
                self._controller.in_step(self._pause)
                self._controller.set_bias(bias or self._own_bias)
                answer = go()
                if more := self._session.drain():  # a byte too many shifts all numbers: none of them is to be trusted
                    raise WireError(self._session.url, f"{more} bytes more than the answer came")
            except (LinkTimeout, WireError):
                self._session.dirty = True
                if not left:
                    raise
                self._session.counters.retries += 1
                continue
            self._doubt.zero_()
            return answer
        raise AssertionError("a read is tried at least once")

    def _may_go_on(self) -> None:
        if self._wants_abort():
            raise Aborted("asked for while the board was at work")

    def _pause(self, seconds: float) -> None:
        """Waits, and looks whether an abort is wanted."""
        until = time.monotonic() + seconds
        while True:
            self._may_go_on()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL))


def _amps(volts: float, ohms: float) -> float:
    """The current at a voltage, A; NaN for a resistance that is none."""
    return volts / ohms if math.isfinite(volts) and math.isfinite(ohms) and ohms >= LEAST_OHMS else math.nan


def _flagged(amps: Tensor) -> tuple[Tensor, Tensor | None]:
    """Values with flags: what is NaN was not measured; None when nothing is flagged."""
    lost = amps.isnan()
    return amps, lost.to(torch.uint8) * int(Flag.NOT_MEASURED) if bool(lost.any()) else None
