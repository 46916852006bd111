"""VISA links through PyVISA-py, over real sockets and a pseudo-terminal."""

import ctypes
import os
import socket
import threading
import time

import pytest
from wire_ends import PtyBoard, echo, tcp_board

from hil.errors import LinkLost, LinkTimeout
from instruments.links.opening import open_link
from instruments.links.visa import _fetched
from instruments.links.visa_resources import resources
from instruments.session import Session


def soon(seconds=2.0):
    return time.monotonic() + seconds


def url_of(port):
    return f"visa://TCPIP::127.0.0.1::{port}::SOCKET"


def test_bytes_come_back_whatever_they_are():
    with tcp_board(echo) as port:
        session = Session(open_link(url_of(port)))
        data = b"\n\r\0#10\n" * 30_000  # end marks inside, more than one segment and more than one look ahead
        for size in (1, 40, 4097, len(data)):
            session.write(data[:size], 5)
            assert session.exactly(size, 5) == data[:size]
        session.close()
        session.close()


def test_a_second_small_segment_is_not_delayed():
    def answer_the_whole(client):
        while True:
            got = 0
            while got < 4100:
                got += len(client.recv(4100 - got)) or 1 << 20
            if got > 4100:
                return
            client.sendall(bytes(4100))

    with tcp_board(answer_the_whole) as port:
        session = Session(open_link(url_of(port)))
        times = []
        for _ in range(20):
            started = time.perf_counter()
            session.write(bytes(4100), 2)
            session.exactly(4100, 2)
            times.append(time.perf_counter() - started)
        assert sorted(times)[10] < 0.02  # with Nagle's delay 40 ms
        session.close()


def test_a_part_of_an_answer_is_not_lost_with_the_time_out():
    def halting(client):
        client.sendall(b"first ")
        client.recv(100)
        client.sendall(b"second")
        client.recv(100)

    with tcp_board(halting) as port:
        session = Session(open_link(url_of(port)))
        with pytest.raises(LinkTimeout) as caught:
            session.exactly(12, 0.1)
        assert caught.value.got == 6
        session.write(b"go on", 1)
        assert session.exactly(12, 2) == b"first second"
        session.close()


def test_a_peer_that_closes_is_noticed_at_once():
    with tcp_board(lambda client: client.sendall(b"bye")) as port:
        link = open_link(url_of(port))
        assert link.read(3, soon()) == b"bye"
        started = time.monotonic()
        with pytest.raises(LinkLost, match="closed the connection"):
            link.read(1, soon(5))
        assert time.monotonic() - started < 1
        link.close()
        with pytest.raises(LinkLost):
            link.read(1, soon())


def test_a_board_that_does_not_listen_cannot_hold_a_write():
    tried = threading.Event()

    def deaf(client):
        client.recv(1)
        tried.wait(5.0)

    with tcp_board(deaf) as port:
        link = open_link(url_of(port))
        started = time.monotonic()
        for seconds in (0.2, 0.25, 0.3):  # filling the buffers of the system may outlast the first
            with pytest.raises(LinkTimeout, match="room for the last"):
                link.write(bytes(50_000_000), started + seconds)
        assert time.monotonic() - started < 0.6
        tried.set()
        link.close()


def test_silence_ends_with_the_deadline():
    with tcp_board(echo) as port:
        link = open_link(url_of(port))
        started = time.monotonic()
        assert link.read(10, started + 0.02) == b""
        assert 0.02 <= time.monotonic() - started < 0.5
        link.close()


def test_one_manager_that_no_link_closes():
    with tcp_board(echo) as port, PtyBoard() as board:
        first = open_link(url_of(port))
        second = open_link(f"visa://ASRL{board.name}::INSTR")
        second.close()
        assert resources("@py") is resources("@py")
        first.write(b"still here", soon())
        assert first.read(10, soon()) == b"still here"
        first.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("visa://USB0::0x05E6::0x2450::04::INSTR?backend=/no/such/library.so@ivi", "VISA cannot open it"),
        ("visa://TCPIP::127.0.0.1::5025::SOCKET?backend=@nosuch", "VISA cannot open it"),
        ("visa://ASRL/dev/ttyNOSUCH::INSTR", "VISA cannot open it"),
    ],
)
def test_what_cannot_be_opened_is_a_lost_link(url, problem):
    with pytest.raises(LinkLost, match=problem):
        open_link(url)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkLost, match="nothing listens there"):
        open_link(url_of(port))


@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
@pytest.mark.parametrize("framing", ["", "?baud=921600&parity=E"])
def test_serial_port_behind_visa(framing):
    with PtyBoard() as board:
        board.echo()
        for _ in range(2):
            link = open_link(f"visa://ASRL{board.name}::INSTR{framing}")
            assert f"serial://{board.name}?baud=" in link.advice
            session = Session(link)
            session.write(b"one\ntwo\xff\0", 2)
            assert session.exactly(9, 2) == b"one\ntwo\xff\0"
            with pytest.raises(LinkTimeout):
                session.exactly(1, 0.05)
            session.close()


@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
def test_an_unplugged_port_behind_visa_is_noticed_at_once():
    with PtyBoard() as board:
        link = open_link(f"visa://ASRL{board.name}::INSTR")
        board.unplug()
        started = time.monotonic()
        with pytest.raises(LinkLost):
            link.read(1, soon(5))
        with pytest.raises(LinkLost):
            link.write(b"x", soon(5))
        assert time.monotonic() - started < 1
        link.close()


class FakeLibrary:
    """A C library whose read times out after three bytes."""

    def viRead(self, handle, buffer, most, count):
        from pyvisa.errors import VisaIOError

        buffer[:3] = b"abc"
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint32))[0] = 3
        raise VisaIOError(-1073807339)


def test_a_c_library_loses_nothing_with_its_time_out():
    assert _fetched(FakeLibrary(), 7, 10) == (b"abc", -1073807339)


def test_fifty_times():
    with tcp_board(echo) as port:
        for _ in range(50):
            session = Session(open_link(url_of(port)))
            session.write(b"hello", 2)
            assert session.exactly(5, 2) == b"hello"
            session.close()
