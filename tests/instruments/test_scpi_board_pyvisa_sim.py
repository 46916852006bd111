"""The SCPI drivers against instruments that PyVISA-sim plays: other people's idea of an instrument."""

from __future__ import annotations

import pytest

from hil.contract import SafeReport
from hil.errors import BoardMissing, LinkTimeout
from instruments.links import visa
from instruments.links.opening import open_link
from instruments.scpi.board import command_safe, met
from instruments.scpi.client import ScpiClient
from instruments.scpi.errors import InstrumentErrors
from instruments.session import Session

pytest.importorskip("pyvisa_sim")

INSTRUMENTS = """
spec: "1.1"
devices:
  board:
    eom:
      TCPIP SOCKET: {q: "\\n", r: "\\n"}
      USB INSTR: {q: "\\n", r: "\\n"}
      ASRL INSTR: {q: "\\n", r: "\\n"}
    dialogues:
      - {q: "*IDN?", r: "tests,tiny gated,tiny-1,"}
      - {q: "*CLS"}
      - {q: ":CROS:SAFE"}
      - {q: ":OUTP:STAT?", r: "rows,OFF,cols,OFF,gates,OFF"}
    properties:
      level:
        default: 0.5
        getter: {q: ":SOUR:VOLT?", r: "{:+.6E}"}
        setter: {q: ":SOUR:VOLT {}"}
        specs: {min: -2, max: 2, type: float}
    error:
      error_queue:
        - {q: ":SYST:ERR?", default: '0,"No error"', command_error: '-113,"Undefined header"'}
resources:
  USB0::0x1111::0x2222::0x2468::0::INSTR: {device: board}
  TCPIP0::localhost::10001::SOCKET: {device: board}
  ASRL1::INSTR: {device: board}
"""
RESOURCES = ("USB0::0x1111::0x2222::0x2468::0::INSTR", "TCPIP0::localhost::10001::SOCKET", "ASRL1::INSTR")


@pytest.fixture(params=RESOURCES)
def session(request, tmp_path, monkeypatch):
    monkeypatch.setattr(visa, "MESSAGE", 0.05)  # silence is waited for, and there is no USB to be slow
    path = tmp_path / "instruments.yaml"
    path.write_text(INSTRUMENTS)
    session = Session(open_link(f"visa://{request.param}?backend={path}@sim"))
    yield session
    session.close()


def test_the_board_is_met_and_made_safe(session, spec_of):
    client = met(session, spec_of(), 0.5)
    assert command_safe(client) == SafeReport(dict.fromkeys(("rows", "cols", "gates"), "off"), confirmed=True)
    client.set_up("emptying its error queue", ("*CLS",))


def test_another_board_is_refused(session, spec_of):
    with pytest.raises(BoardMissing, match="model 'tiny gated', expected 'tiny passive'"):
        met(session, spec_of(selector="passive"), 0.5)


def test_numbers_and_the_error_queue(session, spec_of):
    client = met(session, spec_of(), 0.5)
    client.write(":SOUR:VOLT", -1.25)
    assert client.query_number(":SOUR:VOLT?") == -1.25
    with pytest.raises(InstrumentErrors, match="-113 'Undefined header'"):
        client.set_up("nonsense", (":NONS:SENS", 3))
    assert client.errors() == []


def test_a_question_that_has_no_answer_ends(session):
    client = ScpiClient(session, seconds=0.05, quiet=0.01)
    with pytest.raises(LinkTimeout):
        client.query("*CLS", again=False)
