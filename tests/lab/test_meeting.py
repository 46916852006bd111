"""Meeting whoever is at the other end: nothing but identity queries goes out, and nothing that comes back does harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import BoardInUse, ConfigError, LinkLost
from hil.lab import meeting
from hil.lab.emulate import framed_core
from hil.lab.meeting import meet, places
from hil.lab.opening import read_board
from instruments.links.memory import MemoryLink
from instruments.virtual.arcone import ArcOne, inside_spec
from sim_backend.board import SimBoard

BOARDS = Path(__file__).parents[2] / "config" / "boards"
URL = "tcp://127.0.0.1:1"
KEITHLEY = b"KEITHLEY INSTRUMENTS,MODEL 2450,04100001,1.7.3b"
JOB, LF, CRLF, CR = b"999\n", b"*IDN?\n", b"*IDN?\r\n", b"*IDN?\r"


class Device:
    """The other end: what it answers to each message; it may hang up instead.

    Attributes:
        sent: all that it heard.
        opened: how often it was opened.
    """

    def __init__(self, answers: Mapping[bytes, bytes] | None = None, usual: bytes = b"", hangs_up_at: int = 0) -> None:
        self.url, self.sent, self.opened = URL, [], 0
        self._answers, self._usual, self._hangs_up_at = answers or {}, usual, hangs_up_at
        self._arrived = b""
        self._is_there = False

    def open(self, url: Any) -> Device:
        self.opened += 1
        self._is_there, self._arrived = True, b""
        return self

    def write(self, data: bytes, until: float) -> None:
        self.sent.append(bytes(data))
        if len(self.sent) == self._hangs_up_at:
            self._is_there = False
        self._arrived += self._answers.get(bytes(data), self._usual)

    def read(self, wanted: int, until: float) -> bytes:
        self._check()
        data, self._arrived = self._arrived, b""
        if not data:
            time.sleep(max(0.0, until - time.monotonic()))
        return data

    def drain(self, quiet: float = 0.0) -> int:
        self._check()
        count, self._arrived = len(self._arrived), b""
        return count

    def close(self) -> None:
        self._is_there = False

    def _check(self) -> None:
        if not self._is_there:
            raise LinkLost(URL, "the board closed the connection")

    @property
    def texts(self) -> list[bytes]:
        """What it heard, but for frames."""
        return [data for data in self.sent if not data.startswith(b"XB")]


@pytest.fixture
def there(mocker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Any], Any]:
    """``there(device)`` puts a device at the other end of every address; waits are short."""
    monkeypatch.setenv("HIL_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(meeting, "PATIENCE", 0.02)

    def put(device: Any) -> Any:
        opens = device.open if isinstance(device, Device) else lambda url: MemoryLink(device.converse("test"), URL)
        mocker.patch("instruments.links.opening.open_link", opens)
        return device

    return put


def test_each_kind_is_known(there: Callable[[Any], Any]) -> None:
    there(framed_core(read_board(BOARDS / "daffodil_framed.yaml"), 0))
    found = meet(URL)
    assert (found.speaks, found.identity["serial"]) == ("the framed wire protocol", "daffodil-sim-2")
    value: Any = read_board(BOARDS / "arcone.yaml").value
    board = there(ArcOne(SimBoard(inside_spec(value.spec), value.simulator, 0)))
    found = meet(URL)
    assert (found.speaks, found.identity["firmware"]) == ("the jobs of an ArC ONE", "1.0")
    assert board.counters["jobs"] == 1 and board.counters["resets"] == 0 and not board.outputs.history
    device = there(Device({LF: KEITHLEY + b"\n"}))
    found = meet(URL)
    assert (found.speaks, found.identity["model"]) == ("SCPI", "MODEL 2450")
    assert device.sent == [JOB, LF]
    lines = found.lines()
    assert lines[0] == f"{URL}: speaks SCPI" and "  serial    04100001" in lines
    assert "*IDN? LF: sent 2a 49 44 4e 3f 0a; came 4b 45 49 54 48 4c 45 59" in lines[-1]


@pytest.mark.parametrize(("query", "end"), [(CRLF, b"\r\n"), (CR, b"\r"), (LF, b"\r\n")])
def test_every_usual_end_of_line(there: Callable[[Any], Any], query: bytes, end: bytes) -> None:
    there(Device({query: KEITHLEY + end}))
    found = meet(URL)
    assert found.speaks == "SCPI" and found.identity["firmware"] == "1.7.3b"


def test_nobody_answers(there: Callable[[Any], Any]) -> None:
    device = there(Device())
    found = meet(URL)
    assert (found.speaks, found.identity, found.advice) == ("", {}, "")
    assert device.texts == [JOB, LF, CRLF, CR] and len(device.sent) == 6  # the frame is asked twice
    assert [line.partition(":")[0] for line in found.tried] == [
        "ArC ONE firmware", "*IDN? LF", "frame IDENTIFY", "*IDN? CR LF", "*IDN? CR",
    ]  # fmt: skip
    assert all(line.endswith("nothing came") for line in found.tried)
    assert json.loads(json.dumps(found.as_dict()))["tried"] == list(found.tried)


def test_a_serial_line_gets_advice_and_a_visa_instrument_no_job(there: Callable[[Any], Any], mocker: Any) -> None:
    mocker.patch("instruments.ownership.device_lock", return_value=None)
    there(Device())
    assert "parity" in meet("serial:///dev/ttyACM0").advice
    device = there(Device())
    meet("visa://USB0::0x05E6::0x2450::04100001::INSTR")
    assert JOB not in device.sent
    device = there(Device())
    meet("visa://ASRL/dev/ttyUSB0::INSTR")
    assert device.sent[0] == JOB


HOSTILE = {
    "escape codes": b"\x1b[2J\x1b]0;owned\x07,a,b,c\n",
    "10 kB": b"x" * 10_000 + b"\n",
    "no end": b"KEITHLEY INSTRUMENTS,MODEL 2450",
    "empty": b"\n",
    "two fields": b"a,b\n",
    "bytes above ASCII": b"Keithl\xe9y,2450,\xff\xfe,1\n",
    "zeros": b"\0" * 64 + b"\n",
    "an echo of a shell": b"bash: *IDN?: command not found\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers(there: Callable[[Any], Any], name: str) -> None:
    device = there(Device(usual=HOSTILE[name]))
    found = meet(URL)
    assert (found.speaks, found.identity) == ("", {})
    assert all(line.isprintable() and line.isascii() and len(line) < 600 for line in found.lines())
    assert f"came {HOSTILE[name][:4].hex(' ')}" in found.tried[1]
    assert set(device.texts) <= {JOB, LF, CRLF, CR}


def test_an_echo_is_no_arcone(there: Callable[[Any], Any]) -> None:
    device = Device()
    device._answers = {data: data for data in (JOB, LF, CRLF, CR)}
    there(device)
    found = meet(URL)
    assert found.speaks == "" and "no firmware version; came 39 39 39 0a" in found.tried[0]


def test_a_device_that_hangs_up_is_asked_again(there: Callable[[Any], Any]) -> None:
    device = there(Device({CRLF: KEITHLEY + b"\r\n"}, hangs_up_at=3))
    found = meet(URL)
    assert found.speaks == "SCPI" and device.opened == 2
    assert "frame IDENTIFY" in found.tried[2] and "closed the connection" in found.tried[2]


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.binary(max_size=300))
def test_any_answer_is_shown_without_harm(answer: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meeting, "PATIENCE", 0.002)
        patch.setattr("instruments.links.opening.open_link", Device(usual=answer).open)
        found = meet(URL)
    assert all(line.isprintable() for line in found.lines())


def test_addresses(there: Callable[[Any], Any], mocker: Any) -> None:
    there(Device())
    with pytest.raises(ConfigError, match="no such kind of link"):
        meet("carrier://pigeon")
    mocker.patch(
        "instruments.ownership.device_lock", side_effect=BoardInUse("/dev/ttyACM0", 7, "lab", "ann", "r", "today")
    )
    with pytest.raises(BoardInUse):
        meet("serial:///dev/ttyACM0")


def test_places(mocker: Any) -> None:
    ports = [
        SimpleNamespace(device="/dev/ttyACM0", description="mbed \x1b[2J"),
        SimpleNamespace(device="COM3", description="n/a"),
    ]
    mocker.patch("serial.tools.list_ports.comports", return_value=ports)
    names = ("ASRL/dev/ttyACM0::INSTR", "USB0::1::2::3::INSTR")
    mocker.patch("instruments.links.visa_resources.listed", return_value=names)
    assert [(place.url, place.about) for place in places()] == [
        ("serial:///dev/ttyACM0", r"mbed \x1b[2J"),
        ("serial://COM3", "serial port"),
        ("visa://USB0::1::2::3::INSTR", "VISA resource"),
    ]
