"""The instrument's side of SCPI: headers, chains, errors, and any bytes in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments.scpi.text import definite
from instruments.virtual.scpi_frames import MOST, MessageReader, divided
from instruments.virtual.scpi_text import Call, ScpiConversation, ScpiServer, header_pattern

QUICK = settings(deadline=None, derandomize=True, max_examples=150)


class Instrument:
    """Remembers a level for each channel."""

    def __init__(self, queue: int = 4) -> None:
        self.levels: dict[int, float] = {}
        self.blocks: list[bytes] = []
        self.resets = 0
        commands = {
            "SOURce#:VOLTage[:LEVel]": self._set,
            "SOURce#:VOLTage[:LEVel]?": lambda call: f"{self.levels.get(call.suffixes[0], 0.0):g}",
            "SOURce#:VOLTage:RANGe?": lambda call: "20",
            "SOURce#:FUNCtion": lambda call: call.word("VOLTage", "CURRent") and None,
            "DATA": lambda call: self.blocks.append(call.block()),
            "WAIT?": self._wait,
        }
        self.server = ScpiServer(commands, "ACME,X1,7,1.0", self._reset, queue=queue)

    def _set(self, call: Call) -> None:
        call.count(1)
        self.levels[call.suffixes[0]] = call.number(0, -2, 2)

    def _wait(self, call: Call):
        yield 0.5
        return "waited"

    def _reset(self) -> None:
        self.resets += 1


def tell(instrument: Instrument, data: bytes) -> bytes:
    answers, seconds = b"", 0.0
    for task in ScpiConversation(instrument.server).receive(data):
        while True:
            try:
                seconds += next(task.work)
            except StopIteration as end:
                answers += end.value
                break
    return answers


@pytest.mark.parametrize(
    "line",
    [
        b":SOUR:VOLT 1.5;:SOUR:VOLT?",
        b":SOURCE:VOLTAGE:LEVEL 1.5;:SOURCE:VOLTAGE:LEVEL?",
        b"sour1:volt:lev 1.5; sour1:volt?",
        b":SOUR:VOLT 15e-1;VOLT?",
        b":SOUR:VOLT 1.5;:SOUR:VOLT?\r",
        b";;:SOUR:VOLT 1.5;;:SOUR:VOLT?;",
    ],
)
def test_short_long_relative_and_chained_headers(line):
    assert tell(Instrument(), line + b"\n") == b"1.5\n"


def test_a_suffix_chooses_the_channel():
    instrument = Instrument()
    assert tell(instrument, b":SOUR2:VOLT 1;:SOUR:VOLT?;:SOUR2:VOLT?;:SOUR2:VOLT:RANG?\n") == b"0;1;20\n"
    assert instrument.levels == {2: 1.0}


def test_common_commands_do_not_change_the_path():
    assert tell(Instrument(), b":SOUR:VOLT:LEV 1;*OPC?;RANG?\n") == b"1;20\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b":SOU:VOLT 1", -113), (b":SOURC:VOLT 1", -113), (b"*ABC?", -113), (b":SOUR:VOLT", -109),
        (b":SOUR:VOLT 1,2", -108), (b":SOUR:VOLT 3", -222), (b":SOUR:VOLT abc", -104), (b":SOUR:VOLT nan", -104),
        (b":SOUR:FUNC RES", -224),
        (b":DATA #12abc", -104), (b":DATA abc", -104), (b"\xff\xfe", -101),
    ],
)  # fmt: skip
def test_errors_go_into_the_queue_and_nothing_is_answered(line, code):
    instrument = Instrument()
    assert tell(instrument, line + b"\n") == b""
    assert tell(instrument, b"SYST:ERR:COUN?;:SYST:ERR?;:SYST:ERR?\n").startswith(b"1;%d," % code)
    assert instrument.levels == {}


def test_the_rest_of_a_chain_goes_on_after_an_error():
    assert tell(Instrument(), b":NONE;:SOUR:VOLT 1;:SOUR:VOLT?\n") == b"1\n"


def test_a_full_queue_says_so_and_is_emptied_by_cls():
    instrument = Instrument(queue=2)
    tell(instrument, b"X;X;X;X\n")
    assert tell(instrument, b"SYST:ERR?\nSYST:ERR?\nSYST:ERR?\n").split(b"\n")[:3] == [
        b'-113,"Undefined header"', b'-350,"Queue overflow"', b'0,"No error"',
    ]  # fmt: skip
    tell(instrument, b"X;*CLS\n")
    assert tell(instrument, b"SYST:ERR:COUN?;*ESR?\n") == b"0;0\n"


def test_the_event_register_is_cleared_by_reading():
    instrument = Instrument()
    tell(instrument, b"X;:SOUR:VOLT 99;*OPC\n")
    assert tell(instrument, b"*ESR?;*ESR?\n") == b"49;0\n"


def test_device_time_is_asked_for():
    (task,) = ScpiConversation(Instrument().server).receive(b"WAIT?\n")
    assert next(task.work) == 0.5


def test_blocks_may_hold_any_bytes():
    instrument, data = Instrument(), bytes(range(256)) * 3
    assert tell(instrument, b":DATA " + definite(data) + b";*OPC?\n") == b"1\n"
    assert instrument.blocks == [data]


def test_quotes_hide_marks():
    assert divided(b"A \"x;y\";B 'p;q'", b";") == [b'A "x;y"', b"B 'p;q'"]
    assert divided(b'1,"a,b", 2', b",") == [b"1", b'"a,b"', b"2"]


def test_an_optional_node_and_a_suffix():
    pattern = header_pattern("SOURce#:VOLTage[:LEVel]?")
    assert pattern.fullmatch(":SOUR3:VOLTAGE?") and pattern.fullmatch(":SOURCE:VOLT:LEV?")
    assert not pattern.fullmatch(":SOUR:VOLT") and not pattern.fullmatch(":SOUR:VOLT:LEVE?")


STREAM = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [b"\n", b"#", b"#13", b"#9999999999", b'"', b"'", b";", b":SOUR:VOLT ", b"*IDN?", b"1", b"\r\n"]
        ),
        st.binary(max_size=12).map(definite),
    ),
    max_size=12,
).map(b"".join)


@QUICK
@given(STREAM, st.data())
def test_any_split_gives_the_same_messages(stream, data):
    cut = data.draw(st.integers(0, len(stream)))
    whole, parts, single = MessageReader(), MessageReader(), MessageReader()
    expected = whole.feed(stream)
    assert parts.feed(stream[:cut]) + parts.feed(stream[cut:]) == expected
    assert [m for byte in stream for m in single.feed(bytes([byte]))] == expected


@QUICK
@given(STREAM)
def test_any_bytes_are_survived(stream):
    instrument = Instrument()
    tell(instrument, stream)
    assert tell(instrument, b"*CLS\n*IDN?\n").endswith(b"ACME,X1,7,1.0\n")


def test_a_message_that_is_too_long_is_dropped_whole():
    reader = MessageReader()
    assert reader.feed(b"a" * (MOST + 1)) == []
    assert reader.feed(b"b\n*IDN?\n") == [None, b"*IDN?"]
    instrument = Instrument()
    tell(instrument, b"a" * (MOST + 1) + b"\n")
    assert tell(instrument, b"SYST:ERR?\n") == b'-363,"Input buffer overrun"\n'


def test_silence_forgets_a_part():
    reader = MessageReader()
    reader.feed(b"#6100000*R")
    reader.clear()
    assert reader.feed(b"*IDN?\n") == [b"*IDN?"]
