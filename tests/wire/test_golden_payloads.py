"""Golden bytes of whole exchanges, as docs/reference/wire-protocol.md shows and explains them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hil.contract import Blocks, Flag, Op, Outcome, Pulse, Range, Read, SafeReport, Sense, Shape, Side
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import Hello, StatusReport, Ticket, Welcome, encoded_safe
from instruments.wire.buffer import Reader, Writer
from instruments.wire.operations import read_ops, write_ops
from instruments.wire.outcomes import AmpsStep, read_outcomes, write_outcomes

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "wire-protocol.md"
SESSION = 0x1122334455667788
VOLTS_STEP = 1.220703125e-3
RANGES = (Range(negative=1.65e-3, positive=0.85e-3, step=0.6103515625e-6),)

READ = Read(
    Blocks((3,), (0,), (0,), 2, 3),
    torch.tensor([[[82, -41, 0]]], dtype=torch.float32) * VOLTS_STEP,
    Side.COLS,
    Sense(gate=3.1),
)
READ_OUTCOME = Outcome(
    torch.tensor([[[25, -2703]]], dtype=torch.float32) * RANGES[0].step,
    torch.tensor([[[0, int(Flag.SAT_LOW)]]], dtype=torch.uint8),
    None, began=2.0, seconds=0.0625, events=1,
)  # fmt: skip
PULSE = Pulse(
    Blocks((3, 4), (0, 0), (0, 5), 2, 2),
    torch.tensor([[[1, 0], [0, -2]], [[0, 0], [0, 0]]]),
    up=Shape(1.25, 0.5, gate=2.0),
    down=Shape(1.25, 0.5, gate=3.0),
)
PULSE_OUTCOME = Outcome(
    None, None, PULSE.counts.abs().to(torch.int32), began=2.0625, seconds=1.75, events=3, joules=0.5,
)  # fmt: skip


def execute(sequence: int, token: int, op: Op) -> Frame:
    out = Writer()
    write_ops(out, [op], VOLTS_STEP)
    return Frame(Opcode.EXECUTE, sequence, Ticket(SESSION, token, first=True).encoded() + out.done())


def executed(sequence: int, op: Op, outcome: Outcome) -> Frame:
    out = Writer()
    out.raw(torch.tensor(outcome.began + outcome.seconds, dtype=torch.float64).numpy().tobytes())
    write_outcomes(out, [op], [outcome], AmpsStep(RANGES))
    return Frame(Opcode.EXECUTE, sequence, out.done())


def refused(sequence: int, status: Status, text: str) -> Frame:
    out = Writer()
    out.text(text)
    return Frame(Opcode.EXECUTE, sequence, out.done(), status)


EXCHANGES = {
    "IDENTIFY": Frame(Opcode.IDENTIFY, 1),
    "HELLO": Frame(Opcode.HELLO, 2, Hello(SESSION, 5.0, "me").encoded()),
    "answer to HELLO": Frame(
        Opcode.HELLO, 2,
        Welcome(
            0, 16, 1 << 26, restorable=False, virtual_time=False, in_real_time=True, resumed=False, now=2.0,
        ).encoded(),
    ),
    "answer to STATUS": Frame(
        Opcode.STATUS, 3, StatusReport(busy=True, is_safe=False, owned=True, last=1, now=2.0).encoded()
    ),
    "EXECUTE with a Read": execute(4, 1, READ),
    "answer to the Read": executed(4, READ, READ_OUTCOME),
    "EXECUTE with a Pulse": execute(5, 2, PULSE),
    "answer to the Pulse": executed(5, PULSE, PULSE_OUTCOME),
    "a refusal": refused(6, Status.OUT_OF_ORDER, "token 3 is expected"),
    "answer to SAFE": Frame(Opcode.SAFE, 7, encoded_safe(SafeReport({"rows": "off", "gates": "off"}, confirmed=True))),
}  # fmt: skip


def shown(name: str) -> bytes:
    """The bytes that the page shows under a heading; each line is bytes, two blanks, and what they mean."""
    found = re.search(rf"^#### {re.escape(name)}\n.*?```text\n(.*?)```", PAGE.read_text("utf-8"), re.M | re.S)
    assert found, f"the page has no section {name!r}"
    hexes = re.findall(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  +\S.*)?$", found[1], re.M)
    assert len(hexes) == len(found[1].splitlines()), f"{name}: a line is neither bytes nor bytes and their meaning"
    return bytes.fromhex(" ".join(hexes))


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_page_shows_the_bytes_that_are_sent(name):
    assert shown(name).hex(" ") == EXCHANGES[name].encoded().hex(" ")


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_bytes_on_the_page_are_a_frame(name):
    assert Decoder().feed(shown(name)) == [EXCHANGES[name]]


def test_the_operations_on_the_page_mean_what_it_says():
    for name, wanted in (("EXECUTE with a Read", READ), ("EXECUTE with a Pulse", PULSE)):
        (frame,) = Decoder().feed(shown(name))
        source = Reader(frame.payload)
        assert Ticket.taken(source).session == SESSION
        (op,) = read_ops(source)
        source.end()
        assert isinstance(op, type(wanted)) and op.blocks == wanted.blocks


def filled(values: torch.Tensor | None) -> torch.Tensor:
    assert values is not None
    return values


def test_the_outcomes_on_the_page_mean_what_it_says():
    (frame,) = Decoder().feed(shown("answer to the Read"))
    (outcome,) = read_outcomes(Reader(frame.payload[8:]), [READ])
    assert torch.equal(filled(outcome.value), filled(READ_OUTCOME.value))
    assert torch.equal(filled(outcome.flags), filled(READ_OUTCOME.flags))
    (frame,) = Decoder().feed(shown("answer to the Pulse"))
    (outcome,) = read_outcomes(Reader(frame.payload[8:]), [PULSE])
    assert torch.equal(filled(outcome.applied), filled(PULSE_OUTCOME.applied))
    assert outcome.joules == 0.5 and outcome.value is None and outcome.flags is None
