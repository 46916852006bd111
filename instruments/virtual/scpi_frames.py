"""Cuts a stream of bytes into SCPI program messages, and those into commands; pure, and the same for any split.

A line feed ends a message, except inside a definite-length block; semicolons and commas divide, except inside quotes
and blocks.
"""

from __future__ import annotations

MOST = 1 << 20
"""Bytes of the longest message; a longer one is dropped whole."""

_LF, _HASH, _QUOTES = 0x0A, 0x23, (0x22, 0x27)
_DIGITS = range(0x30, 0x3A)
_SPACE = b" \t\r"


class Scanner:
    """Follows bytes one by one, and knows whether they stand in quotes or in a block."""

    def __init__(self) -> None:
        self.left = 0
        self._quote = 0
        self._after_hash = False
        self._digits = 0
        self._length = 0

    def sees(self, byte: int) -> bool:
        """Takes a byte outside blocks; whether it stands free, so that it can divide."""
        if self._digits:
            if byte in _DIGITS:
                self._length = 10 * self._length + byte - 0x30
                self._digits -= 1
                if not self._digits and self._length <= MOST:
                    self.left = self._length
                return False
            self._digits = 0
        if self._after_hash:
            self._after_hash = False
            if byte in _DIGITS and byte != 0x30:
                self._digits, self._length = byte - 0x30, 0
                return False
        if self._quote:
            self._quote = 0 if byte == self._quote else self._quote
            return False
        if byte in _QUOTES:
            self._quote = byte
        self._after_hash = byte == _HASH
        return True


class MessageReader:
    """Collects bytes until messages are whole."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets what has arrived in part."""
        self._scanner = Scanner()
        self._kept = bytearray()
        self._block_end = 0
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Takes bytes and gives the messages they complete, without their ends; None for one that was too long."""
        messages: list[bytes | None] = []
        at = 0
        while at < len(data):
            if self._scanner.left:
                part = data[at : at + self._scanner.left]
                self._scanner.left -= len(part)
                self._keep(part)
                self._block_end = len(self._kept)
                at += len(part)
                continue
            byte = data[at]
            if byte == _LF:
                if len(self._kept) > self._block_end:  # the last byte is none of a block's
                    self._kept = self._kept.removesuffix(b"\r")
                messages.append(None if self._too_long else bytes(self._kept))
                self.clear()
            else:
                self._scanner.sees(byte)
                self._keep(data[at : at + 1])
            at += 1
        return messages

    def _keep(self, part: bytes) -> None:
        if self._too_long or len(self._kept) + len(part) > MOST:
            self._too_long = True
            self._kept.clear()
        else:
            self._kept += part


def divided(text: bytes, mark: bytes) -> list[bytes]:
    """Cuts text at a one-byte mark, except inside quotes and blocks; spaces around the parts are dropped."""
    parts, start, at, block_end = list[bytes](), 0, 0, 0
    scanner = Scanner()
    while at < len(text):
        if scanner.left:
            at = block_end = at + scanner.left
            scanner.left = 0
            continue
        if scanner.sees(text[at]) and text[at] == mark[0]:
            parts.append(_trimmed(text, start, at, block_end))
            start = at + 1
        at += 1
    return [*parts, _trimmed(text, start, len(text), block_end)]


def _trimmed(text: bytes, start: int, end: int, block_end: int) -> bytes:
    """A part of a text without the space around it; what looks like space at the end of a block is none."""
    kept = max(start, min(block_end, end))
    return (text[start:kept] + text[kept:end].rstrip(_SPACE)).lstrip(_SPACE)
