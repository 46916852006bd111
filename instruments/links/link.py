"""What every link offers: bytes, deadlines, a drain and an end.

Times are those of ``time.monotonic``. No call waits without a bound.
"""

from __future__ import annotations

from typing import Protocol

POLL = 0.05
"""s; the longest wait inside one system call, so that whoever waits can look at the stop token."""


class Link(Protocol):
    """A pipe of bytes to one board.

    Attributes:
        url: how the link was opened, for messages.
    """

    url: str

    def write(self, data: bytes, until: float) -> None:
        """Sends all bytes.

        Raises:
            LinkTimeout: not all could be sent until then.
            LinkLost: the other end is gone.
        """
        ...

    def read(self, wanted: int, until: float) -> bytes:
        """Gives bytes as soon as there are some; an empty result means that ``until`` has passed.

        Args:
            wanted: the bytes the caller can use next; a link may give more when more have arrived, and fewer when
                it has no more. It never waits for more than these.
            until: when to give up.

        Raises:
            LinkLost: the other end is gone.
        """
        ...

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived, until the line was silent for ``quiet`` seconds; gives the number of bytes.

        A line that never falls silent is given up a second later.

        Raises:
            LinkLost: the other end is gone.
        """
        ...

    def close(self) -> None:
        """Lets go of the line; again, it does nothing."""
        ...
