"""Serial links over a pseudo-terminal: no time-out of the port is touched, and an end is noticed."""

import os
import time

import pytest
from wire_ends import PtyBoard

from hil.errors import LinkLost, LinkTimeout
from instruments.links.opening import open_link
from instruments.session import Session

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")


def soon(seconds=2.0):
    return time.monotonic() + seconds


def test_bytes_come_back():
    with PtyBoard() as board:
        board.echo()
        session = Session(open_link(f"serial://{board.name}?baud=921600"))
        data = bytes(range(256)) * 40  # more than the 4095 bytes that the kernel holds
        for size in (1, 40, len(data)):
            session.write(data[:size], 2)
            assert session.exactly(size, 2) == data[:size]
        session.write(b"one\r\ntwo\r\n", 2)  # no echo, no translation of line ends
        assert [session.line(b"\r\n", 2) for _ in range(2)] == [b"one", b"two"]
        session.close()
        session.close()


@pytest.mark.parametrize("framing", ["parity=E", "bits=7", "bits=7&parity=O&stop=2"])
def test_a_virtual_port_is_opened_without_parity_again_and_again(framing):
    with PtyBoard() as board:
        for _ in range(3):  # with parity the kernel refuses the second time
            link = open_link(f"serial://{board.name}?{framing}")
            assert "8N1" in link.advice
            link.write(b"\xff", soon())
            assert os.read(board.board, 9) == b"\xff"
            link.close()
        link = open_link(f"serial://{board.name}")
        assert link.advice == ""
        link.close()


def test_silence_ends_with_the_deadline():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        started = time.monotonic()
        assert link.read(10, started + 0.02) == b""
        assert 0.02 <= time.monotonic() - started < 0.5
        link.close()


def test_what_is_there_comes_before_all_has_come():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        os.write(board.board, b"abc")
        assert link.read(100, soon()) == b"abc"
        link.close()


def test_a_board_that_does_not_listen_cannot_hold_a_write():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        started = time.monotonic()
        with pytest.raises(LinkTimeout, match="room for the last"):
            link.write(bytes(1_000_000), started + 0.1)
        assert time.monotonic() - started < 1
        link.close()


def test_an_unplugged_board_is_noticed_at_once():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        board.unplug()
        started = time.monotonic()
        with pytest.raises(LinkLost, match="unplugged"):
            link.read(1, soon(5))
        with pytest.raises(LinkLost):
            link.write(b"x", soon(5))
        assert time.monotonic() - started < 1
        link.close()


def test_a_closed_link_is_lost():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        link.close()
        with pytest.raises(LinkLost):
            link.write(b"x", soon())
        with pytest.raises(LinkLost):
            link.read(1, soon())


def test_a_second_opener_is_refused():
    with PtyBoard() as board:
        link = open_link(f"serial://{board.name}")
        with pytest.raises(LinkLost, match="another program has this port open"):
            open_link(f"serial://{board.name}")
        link.close()
        open_link(f"serial://{board.name}").close()


def test_bytes_left_from_a_killed_client_are_gone():
    with PtyBoard() as board:
        os.write(board.board, b"an old answer")
        link = open_link(f"serial://{board.name}")
        link.drain(0.05)
        os.write(board.board, b"new")
        assert link.read(3, soon()) == b"new"
        link.close()


def test_no_such_port():
    with pytest.raises(LinkLost, match="there is no such port"):
        open_link("serial:///dev/ttyNOSUCH")


def test_no_serial_port(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkLost, match="port"):
        open_link(f"serial://{tmp_path}/file")


def test_fifty_times():
    with PtyBoard() as board:
        board.echo()
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        for _ in range(50):
            session = Session(open_link(f"serial://{board.name}"))
            session.write(b"hello", 2)
            assert session.exactly(5, 2) == b"hello"
            session.close()
        if before:
            assert len(os.listdir("/proc/self/fd")) == before
