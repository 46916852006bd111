"""TCP links over real sockets: deadlines hold, and an end is noticed."""

import socket
import threading
import time

import pytest
from wire_ends import echo, tcp_board

from hil.errors import LinkLost, LinkTimeout
from instruments.links.opening import open_link
from instruments.links.tcp import TcpLink
from instruments.links.url import TcpAddress
from instruments.session import Session


def soon(seconds=2.0):
    return time.monotonic() + seconds


def test_bytes_come_back():
    with tcp_board(echo) as port:
        session = Session(open_link(f"tcp://127.0.0.1:{port}"))
        data = bytes(range(256)) * 4096
        for size in (1, 40, 4097, len(data)):
            session.write(data[:size], 2)
            assert session.exactly(size, 2) == data[:size]
        assert session.counters.sent == session.counters.got == 1 + 40 + 4097 + len(data)
        session.close()
        session.close()


def test_small_messages_leave_at_once():
    with tcp_board(echo) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        assert link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert link._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        link.close()


def test_silence_ends_with_the_deadline():
    with tcp_board(echo) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        started = time.monotonic()
        assert link.read(10, started + 0.05) == b""
        assert 0.05 <= time.monotonic() - started < 0.5
        link.close()


def test_all_that_was_said_is_read_before_the_end_is_noticed():
    def speak_and_go(client):
        client.sendall(b"goodbye")

    with tcp_board(speak_and_go) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        assert link.read(7, soon()) == b"goodbye"
        started = time.monotonic()
        with pytest.raises(LinkLost, match="closed the connection"):
            link.read(1, soon(5))
        assert time.monotonic() - started < 1
        link.close()
        with pytest.raises(LinkLost):
            link.read(1, soon())
        with pytest.raises(LinkLost):
            link.write(b"x", soon())


def test_a_board_that_does_not_listen_cannot_hold_a_write():
    tried = threading.Event()

    def deaf(client):
        client.recv(1)
        tried.wait(5.0)

    with tcp_board(deaf) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(LinkTimeout, match=r"room for the last \d+ of 50000000 bytes"):
            link.write(bytes(50_000_000), started + 0.1)
        assert time.monotonic() - started < 0.35
        tried.set()
        link.close()


def test_drain_throws_away_what_came():
    with tcp_board(echo) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        link.write(bytes(5000), soon())
        assert link.drain(0.1) == 5000
        assert link.drain() == 0
        link.close()


def test_drain_gives_up_on_a_board_that_never_falls_silent(monkeypatch):
    monkeypatch.setattr("instruments.links.draining.LONGEST", 0.1)

    def babble(client):
        while True:
            client.sendall(bytes(1000))

    with tcp_board(babble) as port:
        link = open_link(f"tcp://127.0.0.1:{port}")
        started = time.monotonic()
        assert link.drain(0.05) > 0
        assert time.monotonic() - started < 1
        link.close()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkLost, match="nothing listens there"):
        open_link(f"tcp://127.0.0.1:{port}")


def test_a_host_that_does_not_answer(mocker):
    mocker.patch("socket.create_connection", side_effect=TimeoutError)
    with pytest.raises(LinkLost, match=r"no answer to the connection within 0\.5 s"):
        TcpLink(TcpAddress("tcp://10.255.255.1:9", "10.255.255.1", 9), patience=0.5)


def test_fifty_times():
    with tcp_board(echo) as port:
        for _ in range(50):
            session = Session(open_link(f"tcp://127.0.0.1:{port}"))
            session.write(b"hello", 2)
            assert session.exactly(5, 2) == b"hello"
            session.close()
