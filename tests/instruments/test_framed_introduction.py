"""Meeting a board: whoever answers wrongly hears nothing but the identity query, and is shown on one escaped line."""

from __future__ import annotations

import json
import socket

import pytest
from wire_ends import tcp_board

from hil.errors import HilError, LinkTimeout, WireError
from instruments.framed.frame import HEADER_BYTES, TAIL_BYTES, Decoder, Frame, Opcode, Status
from instruments.framed.introduction import describe, identify
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.links.tcp import TcpLink
from instruments.links.url import TcpAddress
from instruments.session import Session
from instruments.virtual.framed import FramedBoardCore

GOOD = {"vendor": "tests", "model": "tiny", "serial": "t-1", "firmware": "2", "name": "tiny", "wire": 1}
QUICK = Patience(timeout=0.03, tries=3)


class Stranger:
    """A link to something that answers each message as it likes."""

    url = "tcp://stranger"

    def __init__(self, answer) -> None:
        self.sent, self._answer, self._arrived = [], answer, b""

    def write(self, data, until):
        self.sent.append(bytes(data))
        self._arrived += self._answer(data)

    def read(self, wanted, until):
        data, self._arrived = self._arrived, b""
        return data

    def drain(self, quiet=0.0):
        return len(self.read(1, 0))

    def close(self):
        pass


def framed(payload: bytes, status: int = Status.OK):
    """Answers each frame with a payload."""
    return lambda data: Frame(data[3], int.from_bytes(data[4:6], "little"), payload, status).encoded()


def plain(**changes) -> bytes:
    return json.dumps(GOOD | changes).encode()


HOSTILE = {
    "another vendor's text": lambda data: b"ACME,Model 5,123,1.0\r\n",
    "an echo of nonsense": lambda data: b"\x1b[2J" * 50,
    "10 kB of text": lambda data: b"A" * 10_000,
    "an echo": bytes,
    "nothing": lambda data: b"",
    "another question's answer": lambda data: Frame(
        Opcode.SAFE, int.from_bytes(data[4:6], "little"), plain()
    ).encoded(),
    "an empty payload": framed(b""),
    "10 kB in a frame": framed(b"[" * 10_000),
    "no mapping": framed(b"[1, 2]"),
    "no UTF-8": framed(b"\xff\xfe\xfd{"),
    "an empty mapping": framed(b"{}"),
    "a huge number": framed(b'{"wire": 1' + b"0" * 6000 + b"}"),
    "a number for a name": framed(plain(vendor=5)),
    "a list for a name": framed(plain(model=["\x1b[31m"])),
    "a 10 kB name": framed(plain(name="n" * 10_000)),
    "escape codes": framed(plain(vendor="\x1b[2J\x07evil")),
    "two lines": framed(plain(firmware="1\nALERT all is well")),
    "text that turns round": framed(plain(model="\u202egnorw")),
    "no serial number": framed(plain(serial="")),
    "another version": framed(plain(wire="\x1b[1m2")),
    "a refusal": framed(b"\x05\0\x1b[2Jx", Status.BUSY),
    "an unknown status": framed(b"\xff\xff\xff", 999),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stranger_hears_the_identity_query_and_nothing_else(name):
    link = Stranger(HOSTILE[name])
    with pytest.raises((WireError, LinkTimeout)) as refused:
        identify(Session(link), QUICK)
    text = str(refused.value)
    assert text.isprintable() and len(text) < 500
    assert 1 <= len(link.sent) <= 3
    for data in link.sent:
        assert data[3] == Opcode.IDENTIFY and len(data) == HEADER_BYTES + TAIL_BYTES


def test_a_board_that_takes_long_hears_no_heartbeat_before_it_is_known():
    link = Stranger(lambda data: b"")
    with pytest.raises(LinkTimeout):
        identify(Session(link), Patience(timeout=0.55, tries=1))
    assert len(link.sent) == 1


def test_a_stranger_on_a_real_line():
    heard = bytearray()

    def serve(client: socket.socket) -> None:
        while data := client.recv(4096):
            heard.extend(data)
            client.sendall(b"\x1b]0;pwned\x07KEITHLEY INSTRUMENTS,MODEL 2450,1,1\n")

    with tcp_board(serve) as port:
        session = Session(TcpLink(TcpAddress(f"tcp://127.0.0.1:{port}", "127.0.0.1", port)))
        with pytest.raises(HilError) as refused:
            identify(session, QUICK)
        session.close()
    assert str(refused.value).isprintable()
    assert {frame.opcode for frame in Decoder().feed(bytes(heard))} == {Opcode.IDENTIFY}


def test_a_good_board_is_known(quiet_board, spec_of):
    core = FramedBoardCore(quiet_board(), {"limits": {"line_volts": "1 V"}})
    session = Session(MemoryLink(core.converse("test")))
    assert identify(session) == spec_of().identity
    assert describe(session) == {"limits": {"line_volts": "1 V"}}
    core.misbehave("firmware")
    assert identify(session).firmware == "0.0-mismatch"


def test_good_identities_pass():
    link = Stranger(framed(plain(vendor="Märklin & Söhne", more={"ignored": [1]})))
    assert identify(Session(link), QUICK).vendor == "Märklin & Söhne"
