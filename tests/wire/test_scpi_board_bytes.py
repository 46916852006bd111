"""A crossbar board that speaks SCPI, byte by byte: what both sides send, split anywhere, and what overtakes what."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scpi_boards import over

from hil.contract import Wait
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import Hello, Ticket, Welcome
from instruments.links.memory import MemoryLink
from instruments.links.script import Script
from instruments.scpi.wire import wrapped
from instruments.virtual.scpi_board import ScpiBoardCore
from instruments.wire.buffer import Writer
from instruments.wire.operations import write_ops

IDN = (b"*IDN?\n", b"tests,tiny gated,tiny-1,\n")
NO_ERROR = (b":SYST:ERR?\n", b'0,"No error"\n')


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


DRIVER = [
    IDN,
    (b"*CLS\n", None),
    NO_ERROR,
    (  # HELLO in session 1, without a watchdog, as "me"
        b":CROS:FRAM? #238"
        + raw("5842 01 03 0100 0000 14000000 a345  0100000000000000 0000000000000000 0200 6d65  476a2e4a")
        + b"\n",
        b"#237"
        + raw("5842 01 03 0100 0000 13000000 8e14  00000000 0100 00fc0f00 03 0000000000000000  dce8d90a")
        + b"\n",
    ),
    *(  # STATUS, three times, for the round trip
        (
            b":CROS:FRAM? #218" + raw(f"5842 01 04 {n:02x}00 0000 00000000 {head}  {tail}") + b"\n",
            b"#231" + raw(f"5842 01 04 {n:02x}00 0000 0d000000 {back}  04 00000000 0000000000000000  {end}") + b"\n",
        )
        for n, head, tail, back, end in (
            (2, "2bed", "f0047a9f", "add4", "6998aea4"),
            (3, "f8aa", "212d1532", "7e93", "7c51caca"),
            (4, "e06d", "12f9d257", "6654", "c9289f90"),
        )
    ),
    (  # EXECUTE with token 1: a list of one operation, Wait(0.25)
        b":CROS:FRAM? #242"
        + raw("5842 01 10 0500 0000 18000000 467b  0100000000000000 01000000 01  0100 06 000000000000d03f  4a352c0c")
        + b"\n",
        b"#260"
        + raw("5842 01 10 0500 0000 2a000000 c7ba  000000000000d03f  0100 00 00 0000000000000000 000000000000d03f")
        + raw("00000000 0000000000000000 00 00  11e8d026")
        + b"\n",
    ),
    (b":CROS:SAFE\n", None),
    *(  # SAFE and OUTPUTS, and GOODBYE
        (
            b":CROS:FRAM? #218" + raw(f"5842 01 {opcode} 0000 00000000 {head}  {tail}") + b"\n",
            b"#242"
            + raw(f"5842 01 {opcode} 0000 18000000 {back}  01 03 0400 726f7773 00 0400 636f6c73 00")
            + raw(f"0500 6761746573 00  {end}")
            + b"\n",
        )
        for opcode, head, tail, back, end in (
            ("20 0600", "55d9", "12f8dc30", "3147", "693fa26c"),
            ("21 0700", "a575", "92424cd5", "c1eb", "599b94fe"),
            ("05 0800", "7497", "409225c4", "1009", "1ee80904"),
        )
    ),
]  # fmt: skip

CONVERSATION = [
    IDN,
    (b"*RST\n", b""),
    (b"*CLS\n", b""),
    (b"*OPC?\n", b"1\n"),
    (b"*ESR?\n", b"0\n"),
    (b"*TST?\n", b"0\n"),
    NO_ERROR,
    (b":SYSTem:ERRor:NEXT?\n", b'0,"No error"\n'),
    (b":SYST:VERS?\r\n", b"1999.0\n"),
    (b":CROSsbar:DESCribe?\n", b'#216{"spec":{"a":1}}\n'),
    (b":CROS:TIME?\n", b"0.0\n"),
    (b":OUTPut:STATe?\n", b"rows,OFF,cols,OFF,gates,OFF\n"),
    (b":cros:safe;:outp?;:syst:err?\n", b'rows,OFF,cols,OFF,gates,OFF;0,"No error"\n'),
    (b":CROS:FRAM?\n", b""),
    (b":CROS:FRAM? #14abcd\n", b""),
    (b":NONS 1\n", b""),
    (b":SYST:ERR?\n", b'-109,"Missing parameter"\n'),
    (b":SYST:ERR?\n", b'-161,"Invalid block data"\n'),
    (b":SYST:ERR?\n", b'-113,"Undefined header"\n'),
    NO_ERROR,
    (b"*ESR?\n", b"32\n"),
]


@pytest.fixture
def core(quiet_board):
    return ScpiBoardCore(quiet_board(), {"spec": {"a": 1}})


@pytest.fixture
def fixed_numbers(monkeypatch):
    monkeypatch.setattr(secrets, "randbits", lambda bits: 1)
    monkeypatch.setattr(secrets, "randbelow", lambda most: 0)


def said(core, data: bytes, name: str = "test") -> bytes:
    link = MemoryLink(core.converse(name))
    link.write(data, 0)
    return link.read(1, 0)


def begun(core) -> MemoryLink:
    """A client that has taken the board in session 5."""
    link = MemoryLink(core.converse("owner"))
    asked(link, Frame(Opcode.HELLO, 1, Hello(5, 0.0, "owner").encoded()))
    return link


def asked(link: MemoryLink, frame: Frame) -> Frame:
    link.write(wrapped(frame.encoded()), 0)
    (found,) = Decoder().feed(link.read(1, 0))
    return found


def waiting(token: int, *seconds: float) -> Frame:
    """A list of waits."""
    out = Writer()
    write_ops(out, [Wait(each) for each in seconds], None)
    return Frame(Opcode.EXECUTE, 100 + token, Ticket(5, token).encoded() + out.done())


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_what_the_driver_sends(spec_of, fixed_numbers):
    with Script(DRIVER) as link:
        board = over(link, spec_of(), owner="me")
        (outcome,) = board.execute([Wait(0.25)])
        assert outcome.seconds == 0.25 and board.now() == 0.25
        board.close()


def test_the_virtual_board_answers_the_same_bytes(core, fixed_numbers):
    link = MemoryLink(core.converse("test"))
    for sent, answered in DRIVER:
        link.write(sent, 0)
        assert link.read(1, 0) == (answered or b"")


def test_what_people_can_type(core):
    link = MemoryLink(core.converse("test"))
    for sent, answered in CONVERSATION:
        link.write(sent, 0)
        assert link.read(1, 0) == answered


def test_a_block_ends_where_it_says_whatever_its_last_byte_is(core):
    last = set()
    link = begun(core)
    for number in range(3000):
        frame = Frame(Opcode.STATUS, number)
        last.add(frame.encoded()[-1])
        assert asked(link, frame).sequence == number
    assert {0x0A, 0x0D, 0x20, 0x09, 0x3B, 0x2C, 0x22} <= last


@settings(deadline=None, derandomize=True, max_examples=30)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_split_anywhere_the_answers_are_the_same(quiet_board, sizes):
    stream = b"".join(sent for sent, _ in DRIVER)
    link = MemoryLink(ScpiBoardCore(quiet_board(), {}).converse("test"))
    at, turn = 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        link.write(stream[at : at + size], 0)
        at, turn = at + size, turn + 1
    assert link.read(1, 0) == b"".join(answered or b"" for _, answered in DRIVER)


PIECES = st.sampled_from(
    [b":CROS:FRAM? ", b"#218", b"#0", b"#3", b"\n", b";", b",", b'"', b"*IDN?", b":CROS:SAFE", b"\r", b" ", b":OUTP?"]
)
GOOD = wrapped(Frame(Opcode.STATUS, 1).encoded())


@settings(deadline=None, derandomize=True, max_examples=150)
@example(noise=b":CROS:FRAM? #9999999999")
@example(noise=GOOD[:-5])
@given(noise=st.lists(PIECES | st.binary(max_size=12), max_size=12).map(b"".join))
def test_no_bytes_break_it_and_after_a_silence_it_is_in_step(quiet_board, noise):
    conversation = ScpiBoardCore(quiet_board(), {}).converse("test")
    link = MemoryLink(conversation)
    link.write(noise, 0)
    conversation.silent()
    link.read(1, 0)
    assert asked(link, Frame(Opcode.STATUS, 7)).sequence == 7


def test_a_flipped_bit_never_reaches_the_board(core):
    link = begun(core)
    message = wrapped(waiting(1, 0.5).encoded())
    for bit in range(8 * message.index(b"#"), 8 * (len(message) - 1)):
        damaged = bytearray(message)
        damaged[bit // 8] ^= 1 << bit % 8
        link.write(bytes(damaged), 0)
        link.drain(0.1)
    assert core.counters["executed"] == 0 and core.backend.now() == 0.0
    assert asked(link, waiting(1, 0.5)).status == Status.OK


# -- order -------------------------------------------------------------------------------------------------------------


def tasks(conversation, *messages: bytes):
    return list(conversation.receive(b"".join(messages)))


def ended(task) -> bytes:
    work = task.work
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def framed(answer: bytes) -> Frame:
    return Decoder().feed(answer)[0]


@pytest.fixture
def owner(core):
    conversation = core.converse("owner")
    (hello,) = tasks(conversation, wrapped(Frame(Opcode.HELLO, 1, Hello(5, 0.0, "owner").encoded()).encoded()))
    ended(hello)
    return conversation


def test_only_state_changes_and_what_asks_for_them_wait_their_turn(owner):
    texts = (b"*IDN?\n", b":CROS:SAFE\n", b":OUTP?\n", wrapped(Frame(Opcode.SAFE, 1).encoded()), b"*OPC?\n", b"*wai\n")
    lists = (wrapped(waiting(1, 1.0).encoded()), wrapped(Frame(Opcode.SNAPSHOT, 1).encoded()))
    assert [task.urgent for task in tasks(owner, *texts, *lists)] == [True] * 4 + [False] * 4


def test_safe_in_plain_text_ends_the_list_at_work_and_what_waits_behind_it(core, owner):
    first, second, safe = tasks(
        owner, wrapped(waiting(1, 3600.0, 1.0).encoded()), wrapped(waiting(2, 1.0).encoded()), b":CROS:SAFE\n"
    )
    assert next(first.work) > 0
    assert ended(safe) == b""
    assert framed(ended(first)).status == Status.FAULT
    assert framed(ended(second)).status == Status.SKIPPED
    assert core.counters["safe"] == 1 and core.outputs.facts() == {"on": False, "volts": 0.0}


def test_a_later_question_does_not_wake_a_list_that_was_skipped(owner):
    """Two lists in one message: a safe command comes in while the first is at work, and then another question."""
    both = wrapped(waiting(1, 3600.0).encoded())[:-1] + b";" + wrapped(waiting(2, 1.0).encoded())
    (lists,) = tasks(owner, both)
    next(lists.work)
    (safe,) = tasks(owner, b":CROS:SAFE\n")
    ended(safe)
    (question,) = tasks(owner, wrapped(Frame(Opcode.STATUS, 9).encoded()))
    ended(question)
    assert [frame.status for frame in Decoder().feed(ended(lists))] == [Status.FAULT, Status.SKIPPED]


def test_a_repeated_list_is_answered_from_memory(core):
    link = begun(core)
    first = asked(link, waiting(1, 0.5))
    again = asked(link, waiting(1, 0.5))
    assert first == again and core.counters["repeated"] == 1 and core.backend.now() == 0.5


def test_a_second_client_may_look_and_make_safe_and_no_more(core):
    link = begun(core)
    other = MemoryLink(core.converse("other"))
    refused = asked(other, Frame(Opcode.HELLO, 2, Hello(6, 0.0, "other").encoded()))
    assert refused.status == Status.OWNED
    other.write(b":SYST:ERR?\n", 0)
    assert other.read(1, 0) == b'-203,"Command protected; the board is in use by owner"\n'
    assert said(core, b":OUTP?\n") == b"rows,OFF,cols,OFF,gates,OFF\n"
    assert asked(link, waiting(1, 0.5)).status == Status.OK
    assert said(core, b":CROS:SAFE\n", "third") == b""
    assert asked(link, waiting(2, 0.5)).status == Status.SAFE_STATE


def test_no_frame_is_larger_than_a_message_may_be(core):
    link = MemoryLink(core.converse("test"))
    welcome = Welcome.decoded(asked(link, Frame(Opcode.HELLO, 1, Hello(5, 0.0, "me").encoded())).payload)
    assert welcome.window == 1
    full = Frame(Opcode.STATUS, 3, bytes(welcome.most_bytes))
    assert asked(link, full).sequence == 3
    link.write(wrapped(Frame(Opcode.STATUS, 4, bytes(welcome.most_bytes + 2000)).encoded()), 0)
    link.drain(0.1)
    link.write(b":SYST:ERR?\n", 0)
    assert link.read(1, 0).startswith(b"-363,")
    assert asked(link, Frame(Opcode.STATUS, 5)).sequence == 5
