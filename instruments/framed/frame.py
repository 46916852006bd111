"""Frames: how a payload crosses a byte stream whole, or not at all.

A frame is: magic ``XB``, version u8, opcode u8, sequence u16, status u16, length u32, CRC-16/CCITT-FALSE of these
12 bytes, the payload, CRC-32 of all bytes before; little-endian. The header has a check of its own, so that a flipped
bit in the length cannot make a decoder wait for bytes that never come.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"XB"
VERSION = 1
MOST_BYTES = 1 << 26
"""Largest payload; a longer length is taken for damage."""

_HEADER = struct.Struct("<2sBBHHI")
_CHECKED = struct.Struct("<2sBBHHIH")
_TAIL = struct.Struct("<I")
HEADER_BYTES = _CHECKED.size
TAIL_BYTES = _TAIL.size


class Opcode(IntEnum):
    """What a frame asks for."""

    IDENTIFY = 0x01
    DESCRIBE = 0x02
    HELLO = 0x03
    STATUS = 0x04
    GOODBYE = 0x05
    EXECUTE = 0x10
    SAFE = 0x20
    OUTPUTS = 0x21
    SNAPSHOT = 0x30
    RESTORE = 0x31


class Status(IntEnum):
    """How a request went; 0 in a request."""

    OK = 0
    UNKNOWN_OPCODE = 1
    BAD_PAYLOAD = 2
    NO_SESSION = 3
    OWNED = 4
    OUT_OF_ORDER = 5
    SKIPPED = 6
    BUSY = 7
    FAULT = 8
    SAFE_STATE = 9
    UNSUPPORTED = 10
    LIMIT = 11


@dataclass(frozen=True, slots=True)
class Frame:
    """One request or answer.

    Args:
        opcode: what is asked; an answer repeats it.
        sequence: number of the request, 0 to 65535; an answer repeats it.
        payload: the content.
        status: how it went; 0 in a request.
    """

    opcode: int
    sequence: int
    payload: bytes = b""
    status: int = Status.OK

    def encoded(self) -> bytes:
        """The frame's bytes."""
        head = _HEADER.pack(MAGIC, VERSION, self.opcode, self.sequence, self.status, len(self.payload))
        head += binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "little")
        return b"".join((head, self.payload, _TAIL.pack(zlib.crc32(self.payload, zlib.crc32(head)))))


def _whole(data: bytes) -> Frame | None:
    """The frame that bytes are when they are one good frame and nothing else; the usual case, made short."""
    end = len(data) - TAIL_BYTES
    if end < HEADER_BYTES:
        return None
    magic, version, opcode, sequence, status, length, check = _CHECKED.unpack_from(data)
    if magic != MAGIC or version != VERSION or length != end - HEADER_BYTES or length > MOST_BYTES:
        return None
    head = zlib.crc32(data[:HEADER_BYTES])
    if check != binascii.crc_hqx(data[: HEADER_BYTES - 2], 0xFFFF):
        return None
    payload = data[HEADER_BYTES:end]
    if zlib.crc32(payload, head).to_bytes(TAIL_BYTES, "little") != data[end:]:
        return None
    return Frame(opcode, sequence, payload, status)


class Decoder:
    """Finds frames in a stream of bytes, split anywhere, with anything between them.

    Attributes:
        rejected: how often bytes were dropped to get back into step.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.rejected = 0

    @property
    def missing(self) -> int:
        """Bytes that the next frame still needs, as far as is known; at least 1."""
        if len(self._data) < HEADER_BYTES:
            return HEADER_BYTES - len(self._data)
        length = int.from_bytes(self._data[8:12], "little")
        return max(1, HEADER_BYTES + length + TAIL_BYTES - len(self._data))

    @property
    def waiting(self) -> bool:
        """Whether a frame has arrived in part."""
        return bool(self._data)

    @property
    def arriving(self) -> bool:
        """Whether a frame is arriving whose header is right; noise is hardly ever taken for one."""
        return len(self._data) >= HEADER_BYTES

    def forget(self) -> None:
        """Drops what has arrived in part."""
        self.rejected += bool(self._data)
        self._data.clear()

    def inner(self) -> list[Frame]:
        """Looks for whole frames inside the one that is arriving; when there are any, it was cut and is given up."""
        within = Decoder()
        frames = within.feed(bytes(self._data[1:]))
        if frames:
            self._data = within._data
            self.rejected += 1
        return frames

    def feed(self, data: bytes) -> list[Frame]:
        """Takes bytes and gives the frames they complete."""
        kept = self._data
        if kept:
            kept += data
        elif (whole := _whole(data)) is not None:
            return [whole]
        stream = kept or data  # what arrives whole is not copied
        frames: list[Frame] = []
        at = 0
        while at < len(stream):
            at, frame = self._next(stream, at)
            if frame is None:
                break
            frames.append(frame)
        if stream is kept:
            del kept[:at]
        else:
            kept += data[at:]
        return frames

    def _next(self, data: bytes | bytearray, at: int) -> tuple[int, Frame | None]:
        """The next frame from a place on, and where to go on; None when more bytes are needed."""
        skipped = False
        while True:
            found = data.find(MAGIC, at)
            if found < 0:
                found = len(data) - (data[-1:] == MAGIC[:1])
            skipped |= found > at
            at = max(at, found)
            if len(data) - at < HEADER_BYTES:
                break
            _, version, opcode, sequence, status, length, check = _CHECKED.unpack_from(data, at)
            good = check == binascii.crc_hqx(memoryview(data)[at : at + HEADER_BYTES - 2], 0xFFFF)
            if not good or version != VERSION or length > MOST_BYTES:
                at, skipped = at + 1, True
                continue
            end = at + HEADER_BYTES + length
            if len(data) < end + TAIL_BYTES:
                break
            with memoryview(data) as view:
                if zlib.crc32(view[at:end]) == _TAIL.unpack_from(data, end)[0]:
                    self.rejected += skipped
                    return end + TAIL_BYTES, Frame(opcode, sequence, bytes(view[at + HEADER_BYTES : end]), status)
            at, skipped = at + 1, True
        self.rejected += skipped
        return at, None
