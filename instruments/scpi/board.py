"""The driver of crossbar boards that speak SCPI, over USBTMC, a network or a serial line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress

from torch import Tensor

from hil.contract import BoardSpec, Op, Outcome, SafeReport
from hil.errors import BoardFault, BoardMissing, HilError, LinkTimeout, WireError
from instruments.framed.driver import FramedBoard
from instruments.framed.requests import Patience
from instruments.links.link import Link
from instruments.scpi.client import ScpiClient
from instruments.scpi.wire import OUTPUTS, SAFE, ExpectedBoard, FrameLink, read_outputs
from instruments.session import Session

QUIET = 0.05
"""s of silence between the last frame and a line of text."""


def met(session: Session, spec: BoardSpec, seconds: float = 1.0) -> ScpiClient:
    """Asks who is there, and nothing else; gives a client of the board.

    Args:
        session: the line; it stays the caller's when this fails.
        spec: of the board that is meant.
        seconds: s, the longest wait for an answer that needs no device time.

    Raises:
        BoardMissing: it is another board, or says nothing sensible.
        LinkTimeout: nobody answers.
    """
    client = ScpiClient(session, spec.identity.name, seconds=seconds, quiet=QUIET)
    client.identify(ExpectedBoard.of(spec))
    return client


def command_safe(client: ScpiClient) -> SafeReport:
    """Makes a board safe without owning it, and reads its outputs back.

    Raises:
        LinkTimeout: it does not answer.
        WireError: the answer makes no sense.
    """
    client.write_only(SAFE)
    try:
        return read_outputs(client.query(OUTPUTS))
    except ValueError as error:
        raise client.lines.wrong(str(error)) from None


class ScpiBoard(FramedBoard):
    """A board that takes frames inside SCPI blocks; its error queue is shown with whatever goes wrong.

    Args:
        client: of the board, which was met; the driver owns it.
        spec: what the board is.
        owner: who we are, for other programs.
        watchdog: s of silence after which the board makes itself safe; 0 for never.
        patience: how long to wait and how often to try.
        wants_abort: looked at every 50 ms while waiting.
        reopen: opens the line again when it broke, and meets the board; None to give up.
        release: called once, after the board was let go.
        bytes_per_second: of the link; None where that is no bound.

    Raises:
        BoardMissing: somebody else owns the board, or it does not take frames.
        InstrumentErrors: the board is taken, and complains.
    """

    def __init__(
        self,
        client: ScpiClient,
        spec: BoardSpec,
        *,
        owner: str = "",
        watchdog: float = 5.0,
        patience: Patience | None = None,
        wants_abort: Callable[[], bool] = lambda: False,
        reopen: Callable[[], ScpiClient] | None = None,
        release: Callable[[], None] = lambda: None,
        bytes_per_second: float | None = None,
    ) -> None:
        self._client = client
        client.set_up("emptying its error queue", ("*CLS",))
        try:
            super().__init__(
                Session(FrameLink(client.lines.session)), spec, owner=owner, watchdog=watchdog, patience=patience,
                wants_abort=wants_abort, reopen=None if reopen is None else lambda: self._met_again(reopen),
                release=release, bytes_per_second=bytes_per_second,
            )  # fmt: skip
        except (LinkTimeout, WireError) as error:
            raise BoardMissing(spec.identity.name, f"{error}{self._complaints()}") from error

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``."""
        with self._explained():
            return super().execute(ops)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        with self._explained():
            super().restore(saved)

    def make_safe(self) -> SafeReport:
        """See ``Backend``: the safe command in plain text first, with no question before it."""
        with suppress(HilError):  # what comes of it is read back
            self._client.write_only(SAFE)
        return super().make_safe()

    def _met_again(self, reopen: Callable[[], ScpiClient]) -> Link:
        self._client = reopen()
        return FrameLink(self._client.lines.session)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Adds the error queue to what goes wrong."""
        try:
            yield
        except BoardFault as fault:
            text = fault.text + self._complaints()
            raise BoardFault(fault.board, text, fault.done, fault.index, fault.doubt) from fault
        except WireError as error:
            raise WireError(error.url, error.problem + self._complaints()) from error

    def _complaints(self) -> str:
        """The error queue in words; an empty text when it is empty or cannot be read."""
        lines = self._client.lines
        with suppress(HilError), lines.session.exchange():
            lines.session.drain(QUIET)  # the end of the last frame's block
            entries = self._client.errors()
            return f"; its error queue: {'; '.join(map(str, entries))}" if entries else ""
        return ""
