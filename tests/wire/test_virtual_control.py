"""The control port of a virtual board: what it refuses, and what its client says."""

from __future__ import annotations

import json
import socket

import pytest
from virtual_boards import Board, board

from hil.errors import LinkLost, LinkTimeout
from instruments.virtual.control_client import Control
from instruments.virtual.shell import ShellSettings
from instruments.virtual.tcp_side import split


@pytest.fixture(scope="module")
def running():
    with board(ShellSettings(tcp=None, control="127.0.0.1:0")) as started:
        yield started


@pytest.mark.parametrize(
    "line",
    [
        b"", b"nonsense", b"[]", b"1", b"{}", b'{"do": "dance"}', b'{"do": ["inspect"]}', b'{"do": "inspect"}',
        b'{"do": "inspect", "what": "secrets"}', b'{"do": "fault"}', b'{"do": "fault", "kind": "no"}',
        b'{"do": "fault", "kind": "late", "count": 1e9}', b'{"do": "freeze", "seconds": "long"}',
        b'{"do": "freeze", "seconds": NaN}', b'{"do": "faults", "rates": 3}', b'{"do": "faults", "script": [1]}',
        b'{"do": "faults", "more": 3}', b'{"do": "faults", "seed": [1]}', b"[" * 5000, b"\xff\xfe{",
    ],
)  # fmt: skip
def test_a_wrong_request_is_answered_with_an_error(running, line):
    with socket.create_connection(split(running.addresses["control"]), timeout=5.0) as client:
        client.sendall(line + b'\n{"do": "counters"}\n')
        with client.makefile("rb") as answers:
            first, second = json.loads(answers.readline()), json.loads(answers.readline())
    assert list(first) == ["error"]
    assert list(second) == ["value"]


def test_the_client_shows_what_was_wrong(running: Board):
    with running.control() as control, pytest.raises(ValueError, match="there is no 'secrets'"):
        control.inspect("secrets")


def test_requests_split_anywhere_are_answered_in_order(running):
    whole = b'{"do": "inspect", "what": "notes"}\n{"do": "dance"}\n'
    with socket.create_connection(split(running.addresses["control"]), timeout=5.0) as client:
        for n in range(len(whole)):
            client.sendall(whole[n : n + 1])
        with client.makefile("rb") as answers:
            assert json.loads(answers.readline()) == {"value": []}
            assert "dance" in json.loads(answers.readline())["error"]


def test_a_request_without_end_is_cut_off_and_the_port_lives_on(running):
    with socket.create_connection(split(running.addresses["control"]), timeout=5.0) as client:
        with pytest.raises(OSError):  # reset or broken pipe, as the system likes
            for _ in range(200):
                client.sendall(b"x" * 65536)
    with running.control() as control:
        assert control.counters()["errors"] == 0


def test_a_control_port_that_never_answers_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with Control(f"tcp://127.0.0.1:{server.getsockname()[1]}", seconds=0.05) as control:
            with pytest.raises(LinkTimeout, match="no answer to counters"):
                control.counters()


def test_nobody_listens_at_a_control_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot be reached"):
        Control(f"tcp://127.0.0.1:{port}")
