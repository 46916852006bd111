"""The guard: nothing reaches a board except through it.

The whole list is checked before anything is sent. What is above a limit is refused, never clipped. Limits are compared
in the dtype of the request, so that 0.3 in float32 is not above a limit of 0.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from hil.contract import Backend, BoardSpec, Op, Outcome, Restorable, SafeReport, restorable
from hil.contract.cost import cost, link_seconds
from hil.errors import BoardFault, HilError, Unsupported
from hil.lab.checks import Checked, Checks
from hil.lab.ledger import Ledger
from hil.lab.stop import StopToken
from hil.lab.watch import Watch
from hil.lab.wear import Wear


class Audit(Protocol):
    """Keeps what is about to be sent and what came of it."""

    def intent(self, checked: Sequence[Checked]) -> int:
        """Stores a list before it is sent and gives its number."""
        ...

    def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Notes what came of a list."""
        ...


class Guard:
    """A backend that checks everything before the board sees it.

    Args:
        board: a driver or a simulator.
        wear: the pulse counters of the chip; None for a fresh chip.
        stop: the run's stop token.
        audit: where lists are kept; None for no record.

    Attributes:
        ledger: what was used so far.
        wear: the pulse counters of the chip.
    """

    def __init__(
        self, board: Backend, wear: Wear | None = None, stop: StopToken | None = None, audit: Audit | None = None
    ) -> None:
        self.board = board
        self.wear = wear or Wear(board.spec)
        self.stop = stop or StopToken()
        self.audit = audit
        self.ledger = Ledger()
        self._spec = board.spec
        self._checks = Checks(board.spec, self.wear)
        self._watch = Watch(board.spec)
        self._linked = board.spec.timing.round_trip > 0 or board.spec.timing.bytes_per_second is not None

    @property
    def spec(self) -> BoardSpec:
        """The spec of the board inside."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """Checks a list and sends it.

        Raises:
            LimitExceeded: something in the list is above a limit; nothing was sent.
            InvalidOperation: something in the list is not well formed; nothing was sent.
            LimitBreached: a reading passed a current limit; the list was carried out.
            Aborted: the operator ended the run; nothing was sent, or a driver ended the list in the middle.
            BoardFault: the board failed in the middle.
        """
        self.stop.check()
        checked = self._checks.list(ops)
        number = self._announced(checked)
        sent = [c.op for c in checked]
        try:
            outcomes = self.board.execute(sent)
        except BoardFault as fault:
            self._book_fault(number, sent, fault)
            self.stop.check()  # a driver ends a list with a fault when the operator aborts
            raise
        if len(outcomes) != len(sent):
            text = f"it gave {len(outcomes)} outcomes for {len(sent)} operations"
            raise BoardFault(self._spec.identity.name, text, index=len(sent))
        self._book(number, sent, outcomes)
        self._watch.look(sent, outcomes)
        return outcomes

    def _announced(self, checked: Sequence[Checked]) -> int | None:
        """Stores wear and intent before anything is sent; when that fails nothing is sent, and nothing is charged."""
        try:
            self.wear.keep_ahead()
            return None if self.audit is None else self.audit.intent(checked)
        except BaseException:
            self.wear.roll_back()
            raise

    def _book(self, number: int | None, sent: Sequence[Op], outcomes: Sequence[Outcome]) -> None:
        self.ledger.add(sent, outcomes, self._link(sent), self._spec)
        if self.audit is not None and number is not None:
            self.audit.outcome(number, outcomes)

    def _book_fault(self, number: int | None, sent: Sequence[Op], fault: BoardFault) -> None:
        """Books what was done before a fault; the wear of the whole list stays charged, since more may have been."""
        done = fault.done[: len(sent)]
        try:
            self._book(number, sent[: len(done)], done)
        except HilError as error:  # the fault is what the operator must see
            fault.add_note(f"and what was done could not be stored: {error}")

    def now(self) -> float:
        """See ``Backend``."""
        return self.board.now()

    def make_safe(self) -> SafeReport:
        """See ``Backend``."""
        return self.board.make_safe()

    def close(self) -> None:
        """See ``Backend``; the chip's exact wear is stored, whatever the board says."""
        try:
            self.board.close()
        finally:
            self.wear.close()

    @property
    def restorable(self) -> bool:
        """Whether the board's whole state can be saved and put back."""
        return restorable(self.board)

    def snapshot(self) -> dict[str, Tensor]:
        """The board's state together with the wear of its chip."""
        return {**self._inside().snapshot(), **self.wear.snapshot()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back, board and wear or neither."""
        inside, before = self._inside(), self.wear.snapshot()
        self.wear.restore(saved)
        try:
            inside.restore(saved)
        except BaseException:
            self.wear.restore(before)
            raise

    def _inside(self) -> Restorable:
        if not restorable(self.board):
            raise Unsupported("snapshot and restore", self._spec.identity.name, "a chip cannot be copied")
        return self.board

    def _link(self, sent: Sequence[Op]) -> float:
        """Time on the link, s; nothing for a board in this process."""
        if not self._linked:
            return 0.0
        total = sum((cost(op, self._spec) for op in sent[1:]), cost(sent[0], self._spec)) if sent else None
        return 0.0 if total is None else link_seconds(total, 1, self._spec)
