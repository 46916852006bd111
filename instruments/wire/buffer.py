"""A writer and a reader of little-endian bytes; the reader never reads past the end."""

from __future__ import annotations

import struct
from typing import Any


class PayloadError(ValueError):
    """A payload does not hold what it should; the text says what was expected."""


class Writer:
    """Collects parts of a payload."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []

    def pack(self, layout: struct.Struct, *values: Any) -> None:
        """Adds numbers in a fixed layout."""
        self._parts.append(layout.pack(*values))

    def raw(self, data: bytes | memoryview) -> None:
        """Adds bytes as they are; a view is copied when all parts are put together."""
        self._parts.append(data)

    def text(self, text: str) -> None:
        """Adds a text of at most 65,535 UTF-8 bytes, its length first."""
        data = text.encode()[:0xFFFF]
        self._parts.append(len(data).to_bytes(2, "little") + data)

    def done(self) -> bytes:
        """All parts together."""
        return b"".join(self._parts)


class Reader:
    """Takes a payload apart.

    Args:
        data: the payload.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._size = len(data)
        self._at = 0

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Numbers in a fixed layout.

        Raises:
            PayloadError: the payload ends before.
        """
        at, self._at = self._at, self._at + layout.size
        if self._at > self._size:
            raise self._too_early()
        return layout.unpack_from(self._data, at)

    def byte(self) -> int:
        """The next byte as a number.

        Raises:
            PayloadError: the payload ends before.
        """
        at = self._at
        if at >= self._size:
            self._at += 1
            raise self._too_early()
        self._at = at + 1
        return self._data[at]

    def raw(self, count: int) -> memoryview:
        """The next bytes, not copied.

        Raises:
            PayloadError: the payload ends before.
        """
        at, self._at = self._at, self._at + count
        if self._at > self._size:
            raise self._too_early()
        return self._data[at : self._at]

    def text(self) -> str:
        """A text with its length first; bytes that are no UTF-8 are replaced."""
        return bytes(self.raw(int.from_bytes(self.raw(2), "little"))).decode(errors="replace")

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return self._size - self._at

    def end(self) -> None:
        """Makes sure that nothing is left.

        Raises:
            PayloadError: there is.
        """
        if self.left:
            raise PayloadError(f"holds {self.left} bytes too many")

    def _too_early(self) -> PayloadError:
        missing, self._at = self._at - self._size, self._size
        return PayloadError(f"ends after {self._size} bytes, {missing} too early")
