"""The driver of crossbar boards that speak SCPI: who it talks to, what it shows, and that nothing happens twice."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from framed_boards import LossyLink, pulses, read
from scpi_boards import over, scpi

from hil.contract import SafeReport, Wait
from hil.errors import BoardFault, BoardMissing, LinkTimeout, UsageError, WireError
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.links.script import Script
from instruments.scpi.board import ScpiBoard, command_safe, met
from instruments.scpi.errors import InstrumentErrors
from instruments.scpi.text import Quoted
from instruments.scpi.wire import idn_field, read_outputs, written_outputs
from instruments.session import Session
from instruments.virtual.scpi_board import ScpiBoardCore

QUICK = Patience(timeout=0.05, tries=2)
OFF = SafeReport(dict.fromkeys(("rows", "cols", "gates"), "off"), confirmed=True)


@pytest.fixture
def core(noisy_board):
    return ScpiBoardCore(noisy_board(), {})


@pytest.fixture
def line(core):
    return MemoryLink(core.converse("test"))


# -- who is there ------------------------------------------------------------------------------------------------------

HOSTILE = {
    "another vendor": b"ACME,tiny gated,tiny-1,1\n",
    "another model": b"tests,tiny,tiny-1,\n",
    "another serial number": b"tests,tiny gated,tiny-2,\n",
    "letters of another size": b"tests,TINY gated,tiny-1,\n",
    "nothing": b"\n",
    "10 kB": b"A" * 10_000 + b"\n",
    "escape codes": b"\x1b[2Jtests,tiny gated,tiny-1,\n",
    "a name that goes on": b"tests,tiny gated,tiny-1\x07;*RST,\n",
    "no plain text": "tësts,tiny gated,tiny-1,\n".encode(),
    "two fields": b"tests,tiny gated\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stranger_hears_the_identity_query_and_nothing_else(name, spec_of, caplog):
    answer = HOSTILE[name]
    link = Script([(b"*IDN?\n", answer)] * 3)  # what could be noise is asked again; other bytes would be a mismatch
    with caplog.at_level(logging.WARNING, "hil.instruments"), pytest.raises(BoardMissing) as refused:
        over(link, spec_of())
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500
    (logged,) = caplog.messages
    assert logged.isprintable()


def test_a_silent_line_is_given_up(spec_of):
    with Script([(b"*IDN?\n", None)] * 3) as link, pytest.raises(LinkTimeout):
        met(Session(link), spec_of(), 0.02)


def test_identities_are_compared_as_the_query_carries_them():
    assert idn_field("Märklin, Göppingen") == r"M\xc3\xa4rklin  G\xc3\xb6ppingen"
    assert idn_field("Daffodil (simulated)") == "Daffodil (simulated)"


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["a;*RST", "a\n*RST", "a#14", "ä", '"', "a\x00", "a\r"])
def test_what_could_begin_another_command_is_refused_before_anything_is_sent(core, line, bad):
    client = met(Session(line), core.backend.spec, 0.1)
    before = len(line.sent)
    for refused in (
        lambda: client.write(":OUTP:STAT", Quoted(bad)),
        lambda: client.write(":OUTP:STAT", bad),
        lambda: client.write(bad),
        lambda: client.query(":OUTP:STAT?" + bad),
        lambda: client.write_only(":CROS:SAFE", Quoted(bad)),
        lambda: client.set_up("all", ("*CLS",), (":OUTP:STAT", Quoted(bad))),
    ):
        with pytest.raises(UsageError):
            refused()
    assert len(line.sent) == before and core.counters["safe"] == 0


def test_the_name_of_an_owner_is_only_a_name(core, line):
    owner = 'x";:CROS:SAFE\n*RST #15\x1b[2J'
    board = over(line, core.backend.spec, owner=owner)
    assert core.counters["safe"] == 0 and board.execute([Wait(0.5)])
    with pytest.raises(BoardMissing) as refused:
        over(MemoryLink(core.converse("other")), core.backend.spec)
    assert r"\x1b[2J" in str(refused.value) and str(refused.value).isprintable()
    assert board.execute([Wait(0.5)]) and core.counters["safe"] == 0


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_board_that_takes_no_frames_is_named_with_what_it_says(spec_of):
    good, unknown = b'0,"No error"\n', b'-113,"Undefined header"\n'

    class Instrument:
        """Knows the common commands, and puts the rest into its error queue."""

        url, arrived, errors = "sim:", b"", 0

        def write(self, data, until):
            for text in data.split(b"\n"):
                if text.startswith(b"*IDN?"):
                    self.arrived += b"tests,tiny gated,tiny-1,\n"
                elif text.startswith(b":SYST:ERR?"):
                    self.arrived += unknown if self.errors else good
                    self.errors = max(0, self.errors - 1)
                elif text.startswith(b":CROS"):
                    self.errors += 1

        def read(self, wanted, until):
            data, self.arrived = self.arrived, b""
            return data

        def drain(self, quiet=0.0):
            return len(self.read(1, 0))

        def close(self):
            pass

    with pytest.raises(BoardMissing, match=r"no welcome.*error queue: -113 'Undefined header'; -113"):
        over(Instrument(), spec_of(), patience=QUICK)


def test_an_instrument_that_is_not_well_from_the_start_is_shown(spec_of):
    begin = [
        (b"*IDN?\n", b"tests,tiny gated,tiny-1,\n"),
        (b"*CLS\n", None),
        (b":SYST:ERR?\n", b'-310,"System error; \x1b[31mfan"\n'),
        (b":SYST:ERR?\n", b'0,"No error"\n'),
    ]
    with Script(begin) as link, pytest.raises(InstrumentErrors, match=r"-310 'System error; \\x1b\[31mfan'"):
        over(link, spec_of())


def test_the_error_queue_is_shown_with_a_fault(core, line):
    board = over(line, core.backend.spec)
    core.misbehave("error")
    with pytest.raises(BoardFault, match=r"amplifier reports an error; its error queue: -240 'Hardware error'"):
        board.execute([Wait(0.5)])
    assert board.execute([Wait(0.5)])[0].seconds == 0.5  # and it was emptied


def test_a_list_that_is_above_the_boards_own_limit_is_shown_once(core, line):
    board = over(line, core.backend.spec)
    with pytest.raises(BoardFault, match=r"LIMIT.*error queue: -222 'Data out of range; 9 V is above") as refused:
        board.execute([Wait(0.5), pulses(board), _at(pulses(board), 9.0)])
    assert str(refused.value).count("-222") == 1
    assert core.counters["executed"] == 0


def test_what_cannot_be_restored_is_shown(core, line):
    board = over(line, core.backend.spec)
    with pytest.raises(WireError, match="error queue: -161 'Invalid block data"):
        board.restore({"nothing": torch.zeros(1)})


def _at(op, volts):
    return replace(op, up=replace(op.up, volts=volts))


# -- safe --------------------------------------------------------------------------------------------------------------


def test_the_safe_command_is_sent_in_plain_text_before_anything_is_asked(core, line):
    board = over(line, core.backend.spec)
    board.execute([read(board)])
    before = len(line.sent)
    assert board.make_safe() == OFF
    assert line.sent[before] == b":CROS:SAFE\n"
    assert core.outputs.facts() == {"on": False, "volts": 0.0}


def test_somebody_else_can_make_the_board_safe_and_the_owner_is_told(core, line):
    board = over(line, core.backend.spec)
    board.execute([read(board)])
    assert core.outputs.on
    assert command_safe(met(Session(MemoryLink(core.converse("panic"))), core.backend.spec, 0.1)) == OFF
    with pytest.raises(BoardFault, match=r"another client \(panic\) made the board safe"):
        board.execute([read(board)])


def test_outputs_as_text():
    report = SafeReport({"rows": "off", "cols": "on", "gates": "unreadable"}, confirmed=False)
    assert written_outputs(report) == "rows,OFF,cols,ON,gates,UNR"
    assert read_outputs(written_outputs(report)) == report
    assert read_outputs("rows,OFF,cols,maybe").outputs["cols"] == "unreadable"
    assert read_outputs("rows,OFF").confirmed and not read_outputs("rows,ON").confirmed
    for bad in ("", "rows", "rows,OFF,", "rows,OFF,cols"):
        with pytest.raises(ValueError, match="outputs"):
            read_outputs(bad)


def test_outputs_that_make_no_sense_confirm_nothing(spec_of):
    talk = [(b"*IDN?\n", b"tests,tiny gated,tiny-1,\n"), (b":CROS:SAFE\n", None), (b":OUTP:STAT?\n", b"all well\n")]
    with Script(talk) as link:
        client = met(Session(link), spec_of(), 0.1)
        with pytest.raises(WireError, match="outputs"):
            command_safe(client)


# -- exactly once ------------------------------------------------------------------------------------------------------


def test_every_pulse_is_applied_exactly_once_over_a_line_that_loses_and_damages(noisy_board):
    core = ScpiBoardCore(noisy_board(), {})
    link = LossyLink(core.converse("test"), seed=5, rate=0.0)
    board = over(link, core.backend.spec, patience=Patience(timeout=0.015, tries=12))
    twin = scpi(noisy_board())
    link.rate = 0.15
    for number in range(80):
        ops = [pulses(board, 1 + number % 2), read(board)]
        for got, wanted in zip(board.execute(ops), twin.execute(ops), strict=True):
            assert (got.value is None) == (wanted.value is None)
            assert got.value is None or torch.equal(got.value, wanted.value)
    assert min(link.faults.values()) > 0 and core.counters["repeated"] > 0
    assert int(core.backend.snapshot()["chip.pulses"].sum()) == 120 * 6
    link.rate = 0.0
    assert board.make_safe() == OFF
    board.close()
    assert core.outputs.history[-1] == ("outputs", "off")


def test_a_line_that_broke_is_made_again_and_the_board_is_met_first(core):
    links = []

    def connect():
        links.append(MemoryLink(core.converse(f"client {len(links)}")))
        return met(Session(links[-1]), core.backend.spec, 0.2)

    board = ScpiBoard(connect(), core.backend.spec, watchdog=0.0, reopen=connect, patience=QUICK)
    links[0].close()
    assert not core.outputs.on
    board.execute([pulses(board)])
    assert links[1].sent[0] == b"*IDN?\n"
    assert int(core.backend.snapshot()["chip.pulses"].sum()) == 6
    board.close()
    assert core.outputs.report() == OFF
