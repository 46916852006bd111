"""Typed arguments, numbers, identities: what goes out is refused or harmless, what comes in a value or an error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Flag
from hil.errors import UsageError
from instruments.scpi.errors import ErrorEntry
from instruments.scpi.identity import ExpectedInstrument, InstrumentIdentity
from instruments.scpi.text import Block, Quoted, command, definite, measured, number, told
from instruments.smu.tsp import assignment, call, printed

QUICK = settings(deadline=None, derandomize=True, max_examples=150)
HOSTILE = [
    "1;*RST", "1\n*RST", "1\r", "#15hello", 'a"b', "a'b", "\u00b5A", "a b", "a,b", "", " VOLT", "VOLT?", "\x1b[2J",
    "x" * 64,
]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "arguments", "sent"),
    [
        ("*IDN?", (), b"*IDN?"),
        (":OUTP", (True,), b":OUTP ON"),
        (":OUTP", (False,), b":OUTP OFF"),
        (":SOUR:VOLT:ILIM", (1e-4,), b":SOUR:VOLT:ILIM 0.0001"),
        (":SOUR:VOLT:LEV", (-0.2,), b":SOUR:VOLT:LEV -0.2"),
        (":SENS:FUNC", (Quoted("CURR"),), b':SENS:FUNC "CURR"'),
        (":TRAC:DATA?", (1, 4, Quoted("hil"), "READ"), b':TRAC:DATA? 1,4,"hil",READ'),
        ("SOUR1:FUNC", ("VOLT",), b"SOUR1:FUNC VOLT"),
        (":DATA", (Block(b"\n;#"),), b":DATA #13\n;#"),
    ],
)
def test_commands_byte_for_byte(header, arguments, sent):
    assert command(header, *arguments) == sent


@pytest.mark.parametrize("text", HOSTILE)
def test_a_word_that_could_be_more_is_refused(text):
    with pytest.raises(UsageError, match="nothing was sent") as refused:
        command(":SOUR:FUNC", text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", [t for t in HOSTILE if t not in ("", " VOLT", "VOLT?", "a b", "a,b", "x" * 64)])
def test_a_quoted_name_that_could_end_is_refused(text):
    with pytest.raises(UsageError):
        command(":TRAC:CLE", Quoted(text))
    with pytest.raises(UsageError):
        call("channel.open", Quoted(text))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, b"1", 1j, [1]])
def test_what_is_no_argument_is_refused(value):
    with pytest.raises(UsageError):
        command(":SOUR:VOLT:LEV", value)


@pytest.mark.parametrize(
    "header", ["", ":SOUR VOLT", "SOUR;VOLT", "*IDN?\n", "SOUR::VOLT", ":", "OUTP??", "\u00b5", None]
)
def test_a_header_that_is_none_is_refused(header):
    with pytest.raises(UsageError):
        command(header)


@QUICK
@given(
    st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.booleans(), st.builds(Quoted, st.text(max_size=30)))
)
def test_no_argument_ever_makes_a_second_command(value):
    try:
        sent = command(":X", value)
    except UsageError:
        return
    assert sent.startswith(b":X ") and not set(b";#\n\r'") & set(sent)
    assert sent.count(b'"') in (0, 2)


@QUICK
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_arrive_as_they_were_sent(value):
    assert number(command(":X", value)[3:].decode()) == value


@QUICK
@given(st.text(max_size=40))
def test_any_text_is_a_finite_number_or_an_error(text):
    try:
        assert math.isfinite(number(text))
    except ValueError:
        pass


@pytest.mark.parametrize("text", ["nan", "inf", "-INF", "1e999", "", "0x10", "1_000", "\u0661", "1 2", "9" * 10_000])
def test_what_python_reads_and_no_instrument_writes_is_refused(text):
    with pytest.raises(ValueError, match="expected a"):
        number(text)


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        (9.91e37, Flag.NOT_MEASURED),
        (float("nan"), Flag.NOT_MEASURED),
        (9.9e37, Flag.NOT_MEASURED | Flag.SAT_HIGH),
        (-9.9e37, Flag.NOT_MEASURED | Flag.SAT_LOW),
        (9.8999999e37, Flag.NOT_MEASURED | Flag.SAT_HIGH),  # the code in single precision
        (math.inf, Flag.NOT_MEASURED | Flag.SAT_HIGH),
    ],
)
def test_codes_for_no_number_become_nan_and_flags(code, flags):
    value, found = measured(code)
    assert math.isnan(value) and found == flags


def test_a_number_stays_a_number():
    assert measured(-3e-6) == (-3e-6, Flag(0))


def test_definite_blocks():
    assert definite(b"") == b"#10"
    assert definite(b"x" * 12) == b"#212" + b"x" * 12


@QUICK
@given(st.binary(max_size=300))
def test_foreign_bytes_are_shown_escaped_and_cut(data):
    text = told(data)
    assert text.isascii() and text.isprintable() and len(text) < 400


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ('0,"No error"', 0, "No error"),
        ('-113,"Undefined header"', -113, "Undefined header"),
        ('+1133,"Binary; only READ"', 1133, "Binary; only READ"),
        ("-2.85000e+02\tTSP Syntax error\t2.00000e+01\t1.00000e+00", -285, "TSP Syntax error"),
        ("0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00", 0, "Queue Is Empty"),
    ],
)
def test_entries_of_error_queues(line, code, text):
    assert ErrorEntry.parse(line) == ErrorEntry(code, text)


@QUICK
@given(st.text(max_size=30))
def test_any_text_is_an_entry_or_an_error(line):
    try:
        assert str(ErrorEntry.parse(line)).isprintable()
    except ValueError:
        pass


def test_an_identity_has_four_fields():
    found = InstrumentIdentity.parse("KEITHLEY INSTRUMENTS,MODEL 2450, 04100001 ,1.7.3b, more")
    assert found == InstrumentIdentity("KEITHLEY INSTRUMENTS", "MODEL 2450", "04100001", "1.7.3b, more")


@pytest.mark.parametrize(
    "line", ["", "   ", "a,b,c", "a,,c,d", "x" * 10_000, "a,b,\x1b[2J,d", "a,b,c,\u00b5", "\x00,b,c,d"]
)
def test_an_identity_that_is_none_is_refused(line):
    with pytest.raises(ValueError, match="identity|nothing") as refused:
        InstrumentIdentity.parse(line)
    assert len(str(refused.value)) < 400 and str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"vendor": "ACME"}, "ACME"),
        ({"model": "245"}, "model 245"),
        ({"serial": "7"}, "serial number 7"),
        ({"firmware": "2"}, "firmware 2"),
    ],
)
def test_another_instrument_is_refused(changes, word):
    found = InstrumentIdentity("Keithley Instruments", "MODEL 2450", "04100001", "1.7.3b")
    usual = {"vendor": "KEITHLEY", "model": "2450", "serial": "04100001", "firmware": "1.7"}
    refusal = ExpectedInstrument(**usual | changes).refusal(found)
    assert word in refusal and bool(refusal) == bool(changes)


def test_tsp_statements_byte_for_byte():
    assert call("channel.exclusiveclose", Quoted("1A01,1B07")) == b'channel.exclusiveclose("1A01,1B07")'
    assert assignment("localnode.prompts", 0) == b"localnode.prompts = 0"
    assert printed(call("errorqueue.next")) == b"print(errorqueue.next())"


@pytest.mark.parametrize("name", ["os.execute('x')", "a;b", "a\nb", "", "A.b", "a b", "a..b"])
def test_a_tsp_name_that_could_be_more_is_refused(name):
    with pytest.raises(UsageError):
        call(name)
    with pytest.raises(UsageError):
        assignment("channel.connectrule", name)


def test_a_backslash_cannot_end_a_tsp_text():
    with pytest.raises(UsageError):
        call("channel.open", Quoted("1A01\\"))
