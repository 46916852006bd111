"""Frames: golden bytes, any split of the stream, damage of every kind."""

from __future__ import annotations

import binascii
import random
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from instruments.framed.frame import HEADER_BYTES, Decoder, Frame, Opcode

quick = settings(deadline=None, derandomize=True, max_examples=80)
frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=200), st.integers(0, 11))


def test_the_checks_are_the_standard_ones():
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1 and zlib.crc32(b"123456789") == 0xCBF43926


def test_golden_bytes():
    """A firmware engineer can hold these against a decoder of his own; docs/reference/wire-protocol.md shows them."""
    assert Frame(Opcode.IDENTIFY, 1).encoded().hex(" ") == ("58 42 01 01 01 00 00 00 00 00 00 00 92 52 5d a8 c3 6b")
    assert Frame(Opcode.EXECUTE, 0x1234, b"\x01\x02\x03", 8).encoded().hex(" ") == (
        "58 42 01 10 34 12 08 00 03 00 00 00 2b 25 01 02 03 fb 47 d2 3c"
    )


def by_hand(data: bytes) -> bytes:
    """The tail of a frame and of its header, bit by bit, as a microcontroller without tables makes them."""
    crc16, crc32 = 0xFFFF, 0xFFFFFFFF
    for number, byte in enumerate(data):
        if number < 12:
            crc16 ^= byte << 8
            for _ in range(8):
                crc16 = (crc16 << 1 ^ 0x1021 if crc16 & 0x8000 else crc16 << 1) & 0xFFFF
        crc32 ^= byte
        for _ in range(8):
            crc32 = crc32 >> 1 ^ 0xEDB88320 if crc32 & 1 else crc32 >> 1
    return crc16.to_bytes(2, "little") + (crc32 ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_the_checks_of_a_frame_can_be_made_by_hand():
    data = Frame(Opcode.SAFE, 7, b"abc").encoded()
    assert by_hand(data[:-4]) == data[12:14] + data[-4:]


@quick
@given(st.lists(frames, max_size=8), st.randoms(use_true_random=False))
def test_any_split_gives_the_same_frames(sent, chance: random.Random):
    stream, decoder, found = b"".join(f.encoded() for f in sent), Decoder(), []
    while stream:
        cut = chance.randint(1, 40)
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert found == sent and decoder.rejected == 0 and not decoder.waiting


@quick
@given(st.lists(frames, min_size=1, max_size=5), st.lists(st.binary(max_size=30), min_size=6, max_size=6))
def test_noise_between_frames_costs_no_frame_that_comes_after(sent, noise):
    """Noise may look like the head of a frame only with both checks right; it never invents one."""
    decoder, found = Decoder(), []
    for junk, frame in zip(noise, sent, strict=False):
        found += decoder.feed(junk.replace(b"X", b"x") + frame.encoded())
    assert found == sent


@quick
@given(frames, st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_loses_one_frame_and_no_other(frame, at, bit):
    damaged = bytearray(frame.encoded())
    damaged[at % len(damaged)] ^= 1 << bit
    decoder = Decoder()
    follow = [Frame(1, n, b"good") for n in range(3)]
    found = decoder.feed(bytes(damaged) + b"".join(f.encoded() for f in follow))
    assert found == follow


@quick
@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data):
    decoder = Decoder()
    decoder.feed(data)
    assert decoder.missing >= 1
    decoder.forget()
    assert decoder.feed(Frame(4, 9).encoded()) == [Frame(4, 9)]


def test_a_cut_frame_is_forgotten_and_the_next_is_found():
    decoder = Decoder()
    assert decoder.feed(Frame(16, 1, b"x" * 100).encoded()[:-7]) == []
    assert decoder.waiting
    decoder.forget()
    assert decoder.feed(Frame(16, 2, b"y").encoded()) == [Frame(16, 2, b"y")]
    assert decoder.rejected == 1


def test_missing_tells_what_to_read_next():
    decoder, data = Decoder(), Frame(16, 1, b"x" * 100).encoded()
    assert decoder.missing == HEADER_BYTES
    decoder.feed(data[:HEADER_BYTES])
    assert decoder.missing == 104
