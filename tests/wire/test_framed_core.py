"""The core of the framed virtual board: bytes of every kind, preemption, and the watchdog; without a driver."""

from __future__ import annotations

import random
import struct

import pytest
import torch
from framed_boards import driver, pulses, read
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Wait
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import Hello, StatusReport, Ticket, Welcome, decoded_safe
from instruments.links.memory import MemoryLink
from instruments.virtual.framed import WATCHDOG_TICKS, WINDOW, FramedBoardCore
from instruments.wire.buffer import Writer
from instruments.wire.operations import write_ops

quick = settings(deadline=None, derandomize=True, max_examples=25)
OPCODES = (*Opcode, 0, 99)


class Client:
    """Frames to and from a core, byte for byte."""

    def __init__(self, core: FramedBoardCore, name: str = "client") -> None:
        self.conversation = core.converse(name)
        self._decoder, self._number = Decoder(), 0

    def begin(self, opcode: int, payload: bytes = b""):
        """Sends a frame; gives the work on it."""
        self._number += 1
        (task,) = self.conversation.receive(Frame(opcode, self._number, payload).encoded())
        return task

    def ask(self, opcode: int, payload: bytes = b"") -> Frame:
        return self.end(self.begin(opcode, payload).work)

    def end(self, work) -> Frame:
        while True:
            try:
                next(work)
            except StopIteration as end:
                (frame,) = self._decoder.feed(end.value)
                return frame

    def hello(self, session: int = 5, watchdog: float = 0.0) -> Frame:
        return self.ask(Opcode.HELLO, Hello(session, watchdog, "me").encoded())

    def status(self) -> StatusReport:
        return StatusReport.decoded(self.ask(Opcode.STATUS).payload)


def listed(token: int, *ops, session: int = 5, first: bool = True) -> bytes:
    out = Writer()
    write_ops(out, ops, None)
    return Ticket(session, token, first).encoded() + out.done()


@pytest.fixture
def core(quiet_board):
    return FramedBoardCore(quiet_board(), {"a": 1})


def answers(core: FramedBoardCore, pieces) -> bytes:
    link = MemoryLink(core.converse("client"))
    for piece in pieces:
        link.write(piece, 0)
    return link.read(1, 0)


# -- bytes of every kind -----------------------------------------------------------------------------------------------


def session(board) -> bytes:
    """A whole session as bytes."""
    frames = [
        (Opcode.IDENTIFY, b""), (Opcode.HELLO, Hello(5, 0.0, "me").encoded()), (Opcode.STATUS, b""),
        (Opcode.EXECUTE, listed(1, pulses(board), read(board))), (Opcode.EXECUTE, listed(1, pulses(board))),
        (Opcode.EXECUTE, listed(2, pulses(board, -2, 1))), (Opcode.OUTPUTS, b""), (Opcode.SAFE, b""),
        (99, b"?"), (Opcode.EXECUTE, listed(3, pulses(board))), (Opcode.GOODBYE, b""),
    ]  # fmt: skip
    return b"".join(Frame(opcode, n, payload).encoded() for n, (opcode, payload) in enumerate(frames))


@quick
@given(st.randoms(use_true_random=False), st.integers(1, 300))
def test_any_split_of_the_bytes_gives_the_same_answers(quiet_board, chance: random.Random, most):
    boards = [FramedBoardCore(quiet_board(), {}) for _ in range(2)]
    stream, pieces = session(boards[0].backend), []
    rest = stream
    while rest:
        cut = chance.randint(1, most)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert answers(boards[0], [stream]) == answers(boards[1], pieces)
    assert boards[0].backend.chip.state["pulses"].sum() == 6 + 12 + 6
    for name, value in boards[0].backend.snapshot().items():
        assert torch.equal(value, boards[1].backend.snapshot()[name])


@settings(quick, max_examples=60)
@given(st.lists(st.binary(max_size=60) | st.tuples(st.sampled_from(OPCODES), st.binary(max_size=60)), max_size=6))
def test_no_bytes_break_the_board(quiet_board, parts):
    core = FramedBoardCore(quiet_board(), {})
    stream = [part if isinstance(part, bytes) else Frame(part[0], 7, part[1]).encoded() for part in parts]
    link = MemoryLink(core.converse("client"))
    for piece in stream:
        link.write(piece, 0)
    link.drain(0.1)
    still_works(core)


@settings(quick, max_examples=60)
@given(st.integers(0, 10), st.randoms(use_true_random=False))
def test_no_single_changed_payload_breaks_the_board(quiet_board, number, chance: random.Random):
    """Both checks of the frame are right, so only the reading of the payload stands between it and the chip."""
    core = FramedBoardCore(quiet_board(), {})
    link = MemoryLink(core.converse("client"))
    for n, frame in enumerate(Decoder().feed(session(core.backend))):
        payload = bytearray(frame.payload)
        if n == number and payload:
            for _ in range(chance.randint(1, 3)):
                payload[chance.randrange(len(payload))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        link.write(Frame(frame.opcode, frame.sequence, bytes(payload)).encoded(), 0)
    assert len(Decoder().feed(link.read(1, 0))) == 11
    still_works(core)


@quick
@given(st.randoms(use_true_random=False))
def test_no_single_changed_byte_breaks_the_board(quiet_board, chance: random.Random):
    core = FramedBoardCore(quiet_board(), {})
    stream = bytearray(session(core.backend))
    stream[chance.randrange(len(stream))] ^= 1 << chance.randrange(8)
    link = MemoryLink(core.converse("client"))
    link.write(bytes(stream), 0)
    assert len(Decoder().feed(link.read(1, 0))) >= 10 and core.counters["executed"] <= 3
    link.drain(0.1)
    still_works(core)


def still_works(core: FramedBoardCore) -> None:
    core.misbehave("reset")
    board = driver(core, "another")
    assert len(board.execute([read(board), pulses(board)])) == 2
    assert board.make_safe().confirmed
    board.close()


# -- requests ----------------------------------------------------------------------------------------------------------


def test_golden_session(core):
    """docs/reference/wire-protocol.md shows these bytes."""
    client = Client(core)
    assert Hello(5, 2.0, "me").encoded().hex() == "0500000000000000000000000000004002006d65"
    welcome = client.hello()
    assert welcome.payload.hex() == "00000000100000000004030000000000000000"
    assert Welcome.decoded(welcome.payload) == Welcome(0, WINDOW, 1 << 26, True, True, False, False, 0.0)
    assert Welcome.decoded(client.hello().payload).resumed
    assert Ticket(5, 1, True).encoded().hex() == "05000000000000000100000001"
    done = client.ask(Opcode.EXECUTE, listed(1, Wait(1.5)))
    assert done.payload.hex() == (
        "000000000000f83f010000000000000000000000000000000000f83f0000000000000000000000000000"
    )
    assert client.ask(Opcode.STATUS).payload.hex() == "0401000000000000000000f83f"
    assert client.ask(Opcode.OUTPUTS).payload.hex() == ("01030400726f7773000400636f6c73000500676174657300")


@pytest.mark.parametrize("watchdog", [float("nan"), -1.0, float("inf"), 1e9])
def test_a_watchdog_that_never_bites_is_refused(core, watchdog):
    frame = Client(core).hello(watchdog=watchdog)
    assert frame.status == Status.BAD_PAYLOAD and b"watchdog" in frame.payload


def test_tokens_are_taken_in_order_and_once(core):
    client, ops = Client(core), pulses(core.backend)
    client.hello()
    assert client.ask(Opcode.EXECUTE, listed(2, ops)).status == Status.OUT_OF_ORDER
    first = client.ask(Opcode.EXECUTE, listed(1, ops))
    again = client.ask(Opcode.EXECUTE, listed(1, ops))
    assert first.status == Status.OK and first.payload == again.payload
    for token in range(2, WINDOW + 2):
        assert client.ask(Opcode.EXECUTE, listed(token, ops)).status == Status.OK
    assert client.ask(Opcode.EXECUTE, listed(2, ops)).status == Status.OK
    assert client.ask(Opcode.EXECUTE, listed(1, ops)).status == Status.OUT_OF_ORDER  # no longer kept
    assert core.backend.chip.state["pulses"].sum() == 6 * (WINDOW + 1) and client.status().last == WINDOW + 1


def test_a_new_session_knows_nothing_of_the_old(core):
    client, ops = Client(core), pulses(core.backend)
    client.hello(5)
    client.ask(Opcode.EXECUTE, listed(1, ops))
    assert not Welcome.decoded(client.hello(6).payload).resumed
    assert client.ask(Opcode.EXECUTE, listed(2, ops)).status == Status.NO_SESSION
    assert client.ask(Opcode.EXECUTE, listed(1, ops, session=6)).status == Status.OK
    assert core.backend.chip.state["pulses"].sum() == 12


def test_the_rest_of_a_list_is_skipped_after_a_fault(core):
    client, ops = Client(core), pulses(core.backend)
    client.hello()
    core.misbehave("error")
    assert client.ask(Opcode.EXECUTE, listed(1, ops)).status == Status.FAULT
    assert client.ask(Opcode.EXECUTE, listed(2, ops, first=False)).status == Status.SKIPPED
    assert client.ask(Opcode.EXECUTE, listed(3, ops, first=False)).status == Status.SKIPPED
    assert core.backend.chip.state["pulses"].sum() == 0
    assert client.ask(Opcode.EXECUTE, listed(4, ops)).status == Status.OK


# -- safety ------------------------------------------------------------------------------------------------------------


def test_a_safe_command_takes_effect_in_the_middle(core):
    client, ops = Client(core), pulses(core.backend)
    client.hello()
    task = client.begin(Opcode.EXECUTE, listed(1, ops, Wait(10.0), ops))
    waiting = client.begin(Opcode.EXECUTE, listed(2, ops, first=False))
    for _ in range(5):
        assert next(task.work) > 0
    assert client.status().busy and not task.urgent
    urgent = client.begin(Opcode.SAFE)
    assert urgent.urgent
    report = decoded_safe(client.end(urgent.work).payload)
    assert report.confirmed and not core.outputs.on and core.outputs.volts == 0.0
    frame = client.end(task.work)
    assert frame.status == Status.FAULT and b"made safe in the middle" in frame.payload
    assert struct.unpack_from("<H", frame.payload, 8) == (1,)  # the first was done, the wait was not
    assert client.end(waiting.work).status == Status.SKIPPED
    assert core.backend.chip.state["pulses"].sum() == 6
    assert list(core.outputs.history)[-2:] == [("volts", 0.0), ("outputs", "off")] and not client.status().busy


def test_a_new_session_ends_the_list_of_a_host_that_is_gone(core):
    """On a serial line the board cannot see that another program has come."""
    client = Client(core)
    client.hello(5)
    task = client.begin(Opcode.EXECUTE, listed(1, pulses(core.backend), Wait(1000.0), pulses(core.backend)))
    next(task.work)
    client.hello(6)
    assert client.end(task.work).status == Status.FAULT and not core.outputs.on
    assert client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend), session=6)).status == Status.OK
    assert core.backend.chip.state["pulses"].sum() == 12


def ticks(core: FramedBoardCore, count: int, at: float = 0.0) -> float:
    for _ in range(count):
        at = core.tick(at)
    return at


def test_the_watchdog_bites_within_its_time_and_not_long_before(core):
    client = Client(core)
    client.hello(watchdog=5.0)
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    at = ticks(core, WATCHDOG_TICKS + 1)  # the first sees that something was heard
    assert not core.outputs.on and 4.0 <= at <= 5.0 and core.counters["watchdog"] == 1
    assert ticks(core, 20) and core.counters["watchdog"] == 1
    frame = client.ask(Opcode.EXECUTE, listed(2, pulses(core.backend)))
    assert frame.status == Status.SAFE_STATE and b"its host was silent" in frame.payload
    assert client.status().is_safe and core.backend.chip.state["pulses"].sum() == 6
    client.ask(Opcode.SAFE)
    assert client.ask(Opcode.EXECUTE, listed(2, pulses(core.backend))).status == Status.SAFE_STATE
    assert Client(core, "next").hello(7).status == Status.OK


def test_a_host_that_is_heard_keeps_the_board(core):
    client, at = Client(core), 0.0
    client.hello(watchdog=5.0)
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    for _ in range(20):
        at = ticks(core, WATCHDOG_TICKS - 1, at)
        client.status()
    assert core.outputs.on and core.counters["watchdog"] == 0


def test_a_long_frame_that_arrives_slowly_is_a_sign_of_life_and_noise_is_none(core):
    client, at = Client(core), 0.0
    client.hello(watchdog=5.0)
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    long = Frame(Opcode.EXECUTE, 9, bytes(5000)).encoded()
    for start in range(0, 4000, 100):
        assert list(client.conversation.receive(long[start : start + 100])) == []
        at = core.tick(at)
    assert core.outputs.on and core.counters["watchdog"] == 0
    client.conversation.silent()
    noise = random.Random(1)
    for _ in range(WATCHDOG_TICKS + 1):
        assert list(client.conversation.receive(noise.randbytes(50))) == []
        at = core.tick(at)
    assert not core.outputs.on and core.counters["watchdog"] == 1


def test_what_others_say_is_no_sign_of_life(core):
    client, other = Client(core), Client(core, "other")
    client.hello(watchdog=5.0)
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    at = 0.0
    for _ in range(WATCHDOG_TICKS + 1):
        at = core.tick(at)
        other.status()
    assert not core.outputs.on and core.counters["watchdog"] == 1


def test_the_watchdog_goes_by_the_clock_not_by_how_often_it_looks(core):
    """The shell lets it look after each part of a list too."""
    client = Client(core)
    client.hello(watchdog=5.0)
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    assert {core.tick(0.01 * n) for n in range(100)} == {1.0} and core.outputs.on


def test_no_owner_or_no_watchdog_needs_no_ticks(core):
    assert core.tick(0.0) is None
    client = Client(core)
    client.hello()
    assert core.tick(0.0) is None
    client.hello(watchdog=1.0)
    assert core.tick(0.0) == pytest.approx(0.2)
    client.ask(Opcode.GOODBYE)
    assert core.tick(0.0) is None


def test_a_lost_owner_leaves_a_safe_board(core):
    client = Client(core)
    client.hello()
    client.ask(Opcode.EXECUTE, listed(1, pulses(core.backend)))
    Client(core, "bystander").conversation.lost()
    assert core.outputs.on
    client.conversation.lost()
    assert not core.outputs.on
    assert Welcome.decoded(Client(core, "again").hello(5).payload).resumed


def test_the_rest_of_a_list_is_skipped_after_its_owner_made_safe(core):
    client = Client(core)
    client.hello()
    assert client.ask(Opcode.EXECUTE, listed(1, Wait(1.0))).status == Status.OK
    client.ask(Opcode.SAFE)
    assert client.ask(Opcode.EXECUTE, listed(2, Wait(1.0), first=False)).status == Status.SKIPPED
    assert client.ask(Opcode.EXECUTE, listed(3, Wait(1.0))).status == Status.OK


def test_a_session_goes_on_over_a_new_line_while_the_old_one_still_looks_alive(core):
    old, new, other = Client(core, "old"), Client(core, "new"), Client(core, "other")
    old.hello(5)
    assert other.hello(8).status == Status.OWNED
    assert new.hello(5).status == Status.OK
    old.conversation.lost()
    assert new.ask(Opcode.EXECUTE, listed(1, Wait(1.0))).status == Status.OK
