"""A link for regression tests: what must be sent, in order, and what is answered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType

from hil.errors import LinkLost
from instruments.links.showing import shown

Answer = bytes | Exception | None
"""What the board says: bytes, an exception that the next read raises, or None for silence."""


class ScriptMismatch(AssertionError):
    """A driver did not do what the script says; no error of the house, so that nothing handles it on the way."""


class Script:
    r"""A link that expects certain bytes and gives certain answers.

    The bytes are a stream: a message may come in several writes, and several messages in one. A pair with nothing to
    send is what the board says without being asked. ::

        with Script([(b"*IDN?\n", b"ACME,X1,7,1.0\n"), (b"OUTP OFF\n", None)]) as link:
            driver = Driver(Session(link))
            ...

    Args:
        pairs: what must be sent, and what is answered to it.
        url: name of the link, for messages.

    Attributes:
        closed: whether the link was closed.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, Answer]], url: str = "script:") -> None:
        self.url = url
        self.closed = False
        self._pairs = deque(pairs)
        self._done = 0
        self._heard = bytearray()
        self._answers: deque[bytes | Exception] = deque()
        self._problem: str | None = None
        self._advance()

    def write(self, data: bytes, until: float) -> None:
        """Compares the bytes with what must be sent.

        Raises:
            ScriptMismatch: they differ, or nothing more should be sent.
            LinkLost: the link was closed.
        """
        self._check()
        self._heard += data
        self._advance()
        expected = self._pairs[0][0] if self._pairs else b""
        if self._heard and not (self._pairs and expected.startswith(self._heard)):
            self._fail(_difference(self._done, expected, bytes(self._heard)) if self._pairs else self._too_much())

    def _advance(self) -> None:
        """Goes past all pairs that are complete."""
        while self._pairs and self._heard.startswith(self._pairs[0][0]):
            expected, answer = self._pairs.popleft()
            del self._heard[: len(expected)]
            self._done += 1
            if answer:
                self._answers.append(answer)

    def read(self, wanted: int, until: float) -> bytes:
        """Gives the next answer; in silence it waits until ``until``.

        Raises:
            Exception: the script says so.
            LinkLost: the link was closed.
        """
        self._check()
        if self._answers:
            answer = self._answers.popleft()
            if isinstance(answer, Exception):
                raise answer
            return answer
        time.sleep(max(0.0, until - time.monotonic()))
        return b""

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away the bytes that were answered and not read; gives their number."""
        self._check()
        count = 0
        while self._answers and isinstance(self._answers[0], bytes):
            count += len(self._answers[0])
            self._answers.popleft()
        return count

    def close(self) -> None:
        """Closes the link; what is left is told by ``finish``."""
        self.closed = True

    def finish(self) -> None:
        """Checks that all was sent and read.

        Raises:
            ScriptMismatch: something is left over, or a write differed before.
        """
        if self._problem is not None:
            raise ScriptMismatch(self._problem)
        if self._heard:
            self._fail(f"{_line('began to send', bytes(self._heard))}, and then no more")
        if self._pairs:
            sent, _ = self._pairs[0]
            self._fail(
                f"{len(self._pairs)} pairs were not used; pair {self._done} is the first:\n{_line('sends', sent)}"
            )
        if self._answers:
            first = self._answers[0]
            told = _line("first", first) if isinstance(first, bytes) else f"first: {first!r}"
            self._fail(f"{len(self._answers)} answers were not read;\n{told}")

    def __enter__(self) -> Script:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def _too_much(self) -> str:
        return f"the script has ended after {self._done} pairs, and more was sent:\n{_line('sent', bytes(self._heard))}"

    def _fail(self, problem: str) -> None:
        self._problem = f"{self.url} {problem}"
        raise ScriptMismatch(self._problem)

    def _check(self) -> None:
        if self.closed:
            raise LinkLost(self.url, "the link was closed")


def _difference(pair: int, expected: bytes, sent: bytes) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(expected, sent, strict=False)) if a != b), min(len(expected), len(sent))
    )
    begin = max(0, at - 30)
    return (
        f"pair {pair}: the bytes differ at position {at}\n"
        f"{_line('expected', expected[begin:])}\n{_line('sent', sent[begin:])}"
        + (f"\n  (both from position {begin})" if begin else "")
    )


def _line(name: str, data: bytes) -> str:
    return (
        f"  {name:>8}: {shown(data, 100)}   ({len(data)} bytes, hex {data[:24].hex(' ')}{'...' if data[24:] else ''})"
    )
