"""A writer and a reader of little-endian bytes; the reader never reads past the end."""

from __future__ import annotations

import struct
from typing import Any


class PayloadError(ValueError):
    """A payload does not hold what it should; the text says what was expected."""


class Writer:
    """Collects parts of a payload."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def pack(self, layout: struct.Struct, *values: Any) -> None:
        """Adds numbers in a fixed layout."""
        self._parts.append(layout.pack(*values))

    def raw(self, data: bytes) -> None:
        """Adds bytes as they are."""
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

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Numbers in a fixed layout.

        Raises:
            PayloadError: the payload ends before.
        """
        at = self._at
        self._at = at + layout.size
        if self._at > len(self._data):
            raise PayloadError(f"ends after {len(self._data)} bytes, {self._at - len(self._data)} too early")
        return layout.unpack_from(self._data, at)

    def raw(self, count: int) -> memoryview:
        """The next bytes, not copied.

        Raises:
            PayloadError: the payload ends before.
        """
        at = self._at
        if count > len(self._data) - at:
            raise PayloadError(f"ends after {len(self._data)} bytes, {at + count - len(self._data)} too early")
        self._at = at + count
        return memoryview(self._data)[at : self._at]

    def text(self) -> str:
        """A text with its length first; bytes that are no UTF-8 are replaced."""
        return bytes(self.raw(int.from_bytes(self.raw(2), "little"))).decode(errors="replace")

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Makes sure that nothing is left.

        Raises:
            PayloadError: there is.
        """
        if self.left:
            raise PayloadError(f"holds {self.left} bytes too many")
