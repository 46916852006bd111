"""Keithley 2450 and 707B byte for byte."""

from __future__ import annotations

import math
import struct

import pytest

from hil.contract import Flag
from hil.errors import BoardMissing, LinkTimeout, WireError
from instruments.links.script import Script
from instruments.scpi.client import ScpiClient
from instruments.scpi.errors import InstrumentErrors
from instruments.session import Session
from instruments.smu.keithley2450 import Keithley2450
from instruments.smu.roles import SourceMeter, SwitchMatrix
from instruments.smu.switch707b import Switch707B
from instruments.smu.tsp import TspClient

SMU_IDN = (b"*IDN?\n", b"KEITHLEY INSTRUMENTS,MODEL 2450,04100001,1.7.3b\n")
MATRIX_IDN = (b"*IDN?\n", b"Keithley Instruments Inc., Model 707B, 1300001, 01.20a\n")
NO_ERROR = (b":SYST:ERR:NEXT?\n", b'0,"No error;0;0 0"\n')
NO_TSP_ERROR = (b"print(errorqueue.next())\n", b"0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00\n")
CLOSED = b'print(channel.getclose("allslots"))\n'


def smu(link, **changes) -> Keithley2450:
    client = ScpiClient(Session(link), "smu", seconds=0.03, quiet=0.0, tries=1, error_query=":SYST:ERR:NEXT?")
    return Keithley2450(client, volts_range=2.0, **changes)


def matrix(link, **changes) -> Switch707B:
    return Switch707B(TspClient(Session(link), "matrix", seconds=0.03, quiet=0.0, tries=1), **changes)


def test_they_play_their_roles():
    with Script([]) as link:
        assert isinstance(smu(link), SourceMeter) and isinstance(matrix(link), SwitchMatrix)


def test_the_set_up_of_a_2450():
    sent = [
        b":OUTP OFF\n", b"*RST\n", b"*CLS\n", b":SOUR:FUNC VOLT\n", b":SOUR:VOLT:RANG 2.0\n", b":SOUR:VOLT:LEV 0.0\n",
        b":SOUR:VOLT:ILIM 1e-06\n", b":SOUR:VOLT:READ:BACK ON\n", b":OUTP:VOLT:SMOD NORM\n", b':SENS:FUNC "CURR"\n',
        b":SENS:CURR:RANG 1e-06\n", b":SENS:CURR:NPLC 0.1\n", b":SENS:CURR:AZER OFF\n", b":FORM REAL\n",
        b":FORM:BORD SWAP\n", b':TRAC:MAKE "hil",10000\n',
    ]  # fmt: skip
    pairs = [SMU_IDN, (b"*LANG?\n", b"SCPI\n"), *((text, None) for text in sent), NO_ERROR]
    with Script(pairs) as link:
        source = smu(link, plc=0.1)
        assert source.identify() == "KEITHLEY INSTRUMENTS, MODEL 2450, serial 04100001, firmware 1.7.3b"
        source.prepare()


def test_another_language_is_refused_before_anything_is_set():
    with Script([(b"*LANG?\n", b"TSP\n")]) as link, pytest.raises(BoardMissing, match="choose SCPI"):
        smu(link).prepare()


def test_another_serial_number_is_refused():
    with Script([SMU_IDN]) as link, pytest.raises(BoardMissing, match="serial number 7"):
        smu(link, serial="7").identify()


def test_the_compliance_is_set_and_read_back():
    pairs = [(b":SENS:CURR:RANG 0.0001\n", None), (b":SOUR:VOLT:ILIM 0.0001\n", None), NO_ERROR]
    with Script([*pairs, (b":SOUR:VOLT:ILIM?\n", b"1.000000E-04\n")]) as link:
        smu(link).limit(1e-4)
    with Script([*pairs, (b":SOUR:VOLT:ILIM?\n", b"1.05E-4\n")]) as link, pytest.raises(WireError, match="reads back"):
        smu(link).limit(1e-4)


def test_the_range_wanted_is_set():
    pairs = [(b":SENS:CURR:RANG 1e-05\n", None), (b":SOUR:VOLT:ILIM 0.0001\n", None), NO_ERROR]
    with Script([*pairs, (b":SOUR:VOLT:ILIM?\n", b"1E-4\n")]) as link:
        smu(link).limit(1e-4, full_scale=1e-5)


def test_a_refused_compliance_is_not_worked_with():
    pairs = [(b":SENS:CURR:RANG 5.0\n", None), (b":SOUR:VOLT:ILIM 5.0\n", None)]
    error = (b":SYST:ERR:NEXT?\n", b'-222,"Parameter data out of range"\n')
    with Script([*pairs, error, NO_ERROR]) as link, pytest.raises(InstrumentErrors, match="out of range"):
        smu(link).limit(5.0)


def test_the_output_is_read_back():
    with Script([(b":OUTP ON\n", None), (b":OUTP?\n", b"1\n"), (b":OUTP OFF\n", None), (b":OUTP?\n", b"0\n")]) as link:
        source = smu(link)
        source.output(True)
        source.output(False)
    with (
        Script([(b":OUTP OFF\n", None), (b":OUTP?\n", b"1\n")]) as link,
        pytest.raises(WireError, match="reads back as on"),
    ):
        smu(link).output(False)


def reading(values: list[float], tripped: bytes) -> list[tuple[bytes, bytes | None]]:
    n, data = len(values), struct.pack(f"<{len(values)}d", *values)
    return [
        (b":SENS:COUN %d\n" % n, None),
        (b':TRAC:CLE "hil"\n', None),
        (b':TRAC:TRIG "hil"\n', None),
        (b':TRAC:DATA? 1,%d,"hil",READ\n' % n, b"#0" + data + b"\n"),
        (b":SOUR:VOLT:ILIM:TRIP?\n", tripped),
    ]


def test_a_reading_is_the_mean_of_a_block():
    with Script(reading([1e-6, 3e-6, 5e-6], b"0\n")) as link:
        got = smu(link).read(3)
    assert got.amps == pytest.approx(3e-6, rel=1e-12) and got.flags == Flag(0)


def test_a_reading_at_the_limit_is_flagged():
    with Script(reading([1e-4], b"1\n")) as link:
        assert smu(link).read(1).flags == Flag.COMPLIANCE


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        (9.9e37, Flag.NOT_MEASURED | Flag.SAT_HIGH),
        (-9.9e37, Flag.NOT_MEASURED | Flag.SAT_LOW),
        (9.91e37, Flag.NOT_MEASURED),
    ],
)
def test_one_code_for_no_number_makes_the_mean_nan(code, flags):
    with Script(reading([1e-6, code], b"0\n")) as link:
        got = smu(link).read(2)
    assert math.isnan(got.amps) and got.flags == flags


def test_a_pulse_is_two_levels_and_a_wait():
    waited: list[float] = []
    with Script([(b":SOUR:VOLT:LEV 1.2\n", None), (b":SOUR:VOLT:LEV 0.0\n", None)]) as link:
        source = smu(link, clock=lambda: sum(waited), sleep=waited.append)
        assert source.pulse(1.2, 0.02) == 0.02
    assert waited == [0.02]


def test_a_pulse_that_is_interrupted_goes_back_to_0():
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with (
        Script([(b":SOUR:VOLT:LEV 1.2\n", None), (b":SOUR:VOLT:LEV 0.0\n", None)]) as link,
        pytest.raises(KeyboardInterrupt),
    ):
        smu(link, sleep=interrupted).pulse(1.2, 0.02)


def test_off_is_sent_without_a_question():
    with Script([(b":OUTP OFF\n", None)]) as link:
        smu(link).off()
    with Script([(b":OUTP?\n", None), (b"\n:OUTP OFF\n", None)]) as link:
        source = smu(link)
        with pytest.raises(LinkTimeout):
            source.is_off()
        source.off()


def test_the_set_up_of_a_707b():
    pairs = [
        MATRIX_IDN,
        (b"localnode.prompts = 0\n", None),
        (b"localnode.showerrors = 0\n", None),
        (b"errorqueue.clear()\n", None),
        (b'channel.exclusiveclose("")\n', None),
        (b"channel.connectrule = channel.BREAK_BEFORE_MAKE\n", None),
        (b'channel.setforbidden("1B01,1A07")\n', None),
        NO_TSP_ERROR,
        (CLOSED, b"nil\n"),
    ]
    with Script(pairs) as link:
        switch = matrix(link, forbidden=("1B01", "1A07"))
        assert switch.identify().startswith("Keithley Instruments Inc., Model 707B, serial 1300001")
        switch.prepare()


CONNECT = [(b'channel.exclusiveclose("1A01,1B07")\n', None), NO_TSP_ERROR]


@pytest.mark.parametrize("answer", [b"1A01;1B07\n", b"1B07, 1A01\n"])
def test_channels_are_closed_alone_and_read_back(answer):
    with Script([*CONNECT, (CLOSED, answer)]) as link:
        matrix(link).connect(["1A01", "1B07"])


@pytest.mark.parametrize("answer", [b"nil\n", b"1A01\n", b"1A01;1B07;1B08\n", b"garbage\n", b"1A1\n"])
def test_other_closed_channels_are_an_error(answer):
    with Script([*CONNECT, (CLOSED, answer)]) as link, pytest.raises(WireError, match="expected"):
        matrix(link).connect(["1A01", "1B07"])


def test_refused_channels_are_an_error():
    error = (b"print(errorqueue.next())\n", b"1.11500e+03\tForbidden channel\t2.00000e+01\t1.00000e+00\n")
    with Script([CONNECT[0], error, NO_TSP_ERROR]) as link, pytest.raises(InstrumentErrors, match="1115 'Forbidden"):
        matrix(link).connect(["1A01", "1B07"])


@pytest.mark.parametrize("name", ["1A1", "7A01", "1J01", "1A00", '1A01");reset("', "1a01", ""])
def test_a_name_that_is_no_channel_is_never_sent(name):
    with Script([]) as link, pytest.raises(ValueError, match="not a channel"):
        matrix(link).connect([name])


def test_opening_all_is_sent_without_a_question():
    with Script([(b'channel.exclusiveclose("")\n', None)]) as link:
        matrix(link).off()
