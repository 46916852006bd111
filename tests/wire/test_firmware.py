"""The C99 reference in firmware/: it finds the frames, operations and numbers that the house finds, and no others."""

from __future__ import annotations

import json
import math
import os
import random
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hil.contract import (
    Bias,
    Blocks,
    Kind,
    Op,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
)  # fmt: skip
from hil.errors import BoardFault, LinkLost
from instruments.framed.driver import FramedBoard
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.introduction import identify
from instruments.framed.messages import Ticket
from instruments.framed.requests import Patience, Requests
from instruments.session import Session
from instruments.wire.buffer import PayloadError, Reader, Writer
from instruments.wire.operations import read_ops, write_ops

FIRMWARE = Path(__file__).parents[2] / "firmware"
PARTS = ("xb_frame.c", "xb_payload.c", "xb_ops.c")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
WATCHED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``build("xb_dump")``: the program, without one warning, and with the compiler's own checks where it has them."""
    folder, built = tmp_path_factory.mktemp("firmware"), dict[str, Path]()

    def make(name: str) -> Path:
        program = built.setdefault(name, folder / name)
        if not program.exists():
            sources = [str(FIRMWARE / part) for part in (f"{name}.c", *PARTS)]
            command = [str(COMPILER), *STRICT, "-o", str(program), *sources]
            watched = subprocess.run([*command, *WATCHED], check=False, capture_output=True, timeout=50)
            if watched.returncode or subprocess.run([program], check=False, input=b"", timeout=50).returncode:
                subprocess.run(command, check=True, timeout=50)  # a compiler, or a machine, without these checks
        return program

    return make


@pytest.fixture
def dump(build: Any) -> Any:
    def run(data: bytes, what: str = "") -> bytes:
        done = subprocess.run([build("xb_dump"), what], check=False, input=data, capture_output=True, timeout=20)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout

    return run


def lines(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def as_lines(frames: list[Frame]) -> list[dict[str, Any]]:
    return [{"opcode": f.opcode, "sequence": f.sequence, "status": f.status, "size": len(f.payload)} for f in frames]


# -- frames ------------------------------------------------------------------------------------------------------------


def test_the_golden_bytes(dump):
    golden = bytes.fromhex("58 42 01 01 01 00 00 00 00 00 00 00 92 52 5d a8 c3 6b")
    golden += bytes.fromhex("58 42 01 10 34 12 08 00 03 00 00 00 2b 25 01 02 03 fb 47 d2 3c")
    frames = [Frame(Opcode.IDENTIFY, 1), Frame(Opcode.EXECUTE, 0x1234, b"\x01\x02\x03", 8)]
    assert lines(dump(golden)) == as_lines(frames)
    assert dump(golden, "echo") == golden


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """A frame, or what a bad line makes of it."""
    at = chance.randrange(len(data))
    match chance.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]
        case 2:
            return chance.randbytes(chance.randint(1, 40)) + data
        case 3:
            return data + data
        case 4:
            return b"XXBX" + data
        case _:
            return data


def test_damage_of_every_kind_leaves_the_same_frames(dump):
    """Lost, doubled, cut and flipped; a frame cut short swallows those behind it, which are found again."""
    chance = random.Random(4)
    sent = [Frame(chance.randrange(256), n, chance.randbytes(chance.randrange(80)), n % 12) for n in range(600)]
    stream = b"".join(spoiled(frame.encoded(), chance) for frame in sent) + Frame(1, 7).encoded() * 9
    found = Decoder().feed(stream)
    assert 300 < len(found) < 800
    assert lines(dump(stream)) == as_lines(found)
    assert dump(stream, "echo") == b"".join(frame.encoded() for frame in found)


def test_a_length_beyond_the_buffer_is_damage(dump):
    huge = Frame(Opcode.EXECUTE, 1, b"x" * (1 << 22)).encoded()
    assert lines(dump(huge + Frame(Opcode.STATUS, 2).encoded())) == as_lines([Frame(Opcode.STATUS, 2)])


# -- operations --------------------------------------------------------------------------------------------------------

T, R, C = 2, 3, 5
BLOCKS = Blocks((0, 7), (1, 2), (3, 0), R, C)


def operations() -> list[Op]:
    """Every kind, with every way that an array is written."""
    chance = torch.Generator().manual_seed(6)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=chance)

    cells = torch.rand((T, R, C), generator=chance)
    sparse = torch.where(integers(0, 9, T, 64, C) == 0, 3, 0).to(torch.int32)
    many = Blocks((0, 1), (0, 0), (0, 0), 64, C)
    usual, exact = Shape(1.0, 1e-3, gate=2.0, amps=1e-4), Shape(cells.double(), 1e-6, gate=cells)
    stop = Stop(cells, 2.0, 1e-3, slope=0.5, flat=1e-6, rise_after=(0.7, 1e-5))
    return [
        Read(BLOCKS, 0.1 * cells[:, :, :3].transpose(1, 2), Side.ROWS, Sense(gate=3.0, full_scale=1e-3)),
        Read(BLOCKS, cells[:1, :2].double(), Side.COLS, Sense(averages=7), feed=(0, 0), pairs=True),
        ReadCells(BLOCKS, Sense(volts=0.2, amps=1e-4, unselected=Bias.THIRD), Side.ROWS),
        ReadCells(BLOCKS, Sense(volts=-0.2), Side.COLS, mask=cells > 0.5),
        Pulse(BLOCKS, integers(-3, 4, T, R, C), usual, exact, cycles=3, alternate=True, unselected=Bias.HALF),
        Pulse(BLOCKS, integers(-300, 300, R, 1), usual, usual),
        Pulse(BLOCKS, torch.tensor([-70_000]).expand(T, R, C), usual, usual),
        Pulse(BLOCKS, torch.tensor([2**40]), usual, usual),
        Pulse(BLOCKS, torch.tensor([2], dtype=torch.uint8).expand(T, R, C), usual, usual),
        Pulse(many, sparse, usual, usual),
        Outer(BLOCKS, integers(-1, 2, T, 4, R).to(torch.int8), integers(0, 2, T, 4, C).to(torch.int8), usual, usual),
        Ramp(
            BLOCKS, integers(-1, 2, T, R, C).to(torch.int8), Kind.RESET, usual, "gate", torch.linspace(0.1, 1.0, 9),
            integers(0, 5, T, R, C), Sense(volts=0.1), stop, back=True, trace=True,
        ),
        Ramp(BLOCKS, sparse[0, 0, :1] + 1, Kind.SET, usual, "volts", cells[0, 0], 2, Sense(), Stop(0.0, 1.0, 1.0)),
        Wait(0.25),
        Probe(("temperature", "supply")),
    ]  # fmt: skip


def request(ops: list[Op], step: float | None = 2**-12) -> bytes:
    out = Writer()
    write_ops(out, ops, step)
    return Ticket(2**63 - 5, 70_000, first=True).encoded() + out.done()


def array(name: str, values: Any) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, torch.Tensor):
        return {name: float(values)}
    return {name: {"size": list(values.shape), "values": values.double().flatten().tolist()}}


def shape(name: str, part: Shape) -> dict[str, Any]:
    parts = array("volts", part.volts) | array("gate", part.gate) | array("amps", part.amps)
    return {name: {"seconds": part.seconds, **parts, "end": 0}}


def bias(part: Bias | None) -> int:
    return 255 if part is None else list(Bias).index(part)


def sense(part: Sense) -> dict[str, Any]:
    named = {"sense_volts": part.volts, "sense_gate": part.gate, "full_scale": part.full_scale, "sense_amps": part.amps}
    given = {name: value for name, value in named.items() if value is not None}
    return {"averages": part.averages, "sense_unselected": bias(part.unselected), **given}


def as_line(op: Op) -> dict[str, Any]:
    """What the tool shows of an operation."""
    number = 1 + [Read, ReadCells, Pulse, Outer, Ramp, Wait, Probe].index(type(op))
    line: dict[str, Any] = {"op": number, "names": []}
    if not isinstance(op, Wait | Probe):
        places = [list(place) for place in zip(op.blocks.kernel, op.blocks.row, op.blocks.col, strict=True)]
        line |= {"blocks": places, "n_rows": op.blocks.n_rows, "n_cols": op.blocks.n_cols}
    match op:
        case Read():
            feed = list(op.feed) if op.feed is not None else list(range(len(op.blocks)))
            line |= {"drive": list(Side).index(op.drive), "pairs": op.pairs, "feed": feed}
            line |= sense(op.sense) | array("values", op.volts)
        case ReadCells():
            line |= {"drive": list(Side).index(op.drive)} | sense(op.sense) | array("values", op.mask)
        case Pulse():
            line |= {"cycles": op.cycles, "alternate": op.alternate, "unselected": bias(op.unselected)}
            line |= shape("up", op.up) | shape("down", op.down) | array("values", op.counts)
        case Outer():
            line |= {"unselected": bias(op.unselected), **shape("up", op.up), **shape("down", op.down)}
            line |= array("values", op.row_bits) | array("more", op.col_bits)
        case Ramp():
            stop, knob = op.stop, ("volts", "gate").index(op.knob)
            after = op.stop.rise_after
            line |= {"ramp_kind": list(Kind).index(op.kind), "knob": knob, "back": op.back, "trace": op.trace}
            line |= shape("up", op.shape) | array("values", op.sign) | array("more", op.points)
            line |= array("start", op.start) | sense(op.sense) | array("low", stop.low) | array("high", stop.high)
            line |= {name: getattr(stop, name) for name in ("amps_max", "jump", "rise", "rises", "hits")}
            line |= {name: getattr(stop, name) for name in ("slope", "flat") if getattr(stop, name) is not None}
            line |= {} if after is None else {"after_volts": after[0], "after_amps": after[1]}
        case Wait():
            line |= {"seconds": op.seconds}
        case Probe():
            line |= {"names": list(op.names)}
    return line


def without_kinds(line: Any) -> Any:
    if isinstance(line, dict):
        return {key: without_kinds(value) for key, value in line.items() if key != "kind"}
    return [without_kinds(part) for part in line] if isinstance(line, list) else line


@pytest.mark.parametrize("step", [2**-12, None])
def test_all_operations_and_all_arrays_are_read_as_the_house_reads_them(dump, step):
    payload = request(operations(), step)
    (shown,) = lines(dump(Frame(Opcode.EXECUTE, 3, payload).encoded(), "ops"))
    assert shown["good"] and shown["session"] == 2**63 - 5 and shown["token"] == 70_000 and shown["first"]
    source = Reader(payload)
    Ticket.taken(source)
    expected = [as_line(op) for op in read_ops(source)]
    assert [without_kinds(op) for op in shown["ops"]] == expected
    kinds = {int(kind) for kind in re.findall(r'"kind": (\d+)', json.dumps(shown))}
    assert kinds >= {2, 3, 4, 5, 6, 7, 8, 9, 12} and (kinds >= {10, 11}) == (step is not None)


def is_good(payload: bytes) -> bool:
    try:
        source = Reader(payload)
        Ticket.taken(source)
        read_ops(source)
        source.end()
    except PayloadError:
        return False
    return True


def test_damaged_operations_are_refused_and_never_read_past_their_end(dump):
    """Cut at every place, and with every byte changed once; what C takes, the house takes too."""
    chance, payloads = random.Random(5), list[bytes]()
    for op in operations():
        good = request([op])
        payloads += [good[:cut] for cut in range(13, len(good), 1 + len(good) // 60)]
        for at in range(13, len(good), 1 + len(good) // 120):
            payloads.append(good[:at] + bytes((chance.choice((0, 1, 0x7F, 0x80, 0xFF)),)) + good[at + 1 :])
    stream = b"".join(Frame(Opcode.EXECUTE, n % 65536, payload).encoded() for n, payload in enumerate(payloads))
    good = [line["good"] for line in lines(dump(stream, "ops"))]
    assert len(good) == len(payloads) and 50 < sum(good) < len(good) - 50
    assert all(is_good(payload) for payload, taken in zip(payloads, good, strict=True) if taken)


# -- the example board -------------------------------------------------------------------------------------------------


class PipeLink:
    """A link to a program's standard input and output."""

    url = "pipe:"

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout

    def write(self, data: bytes, until: float) -> None:
        try:
            self._to.write(data)
        except OSError as error:
            raise LinkLost(self.url, str(error)) from error

    def read(self, wanted: int, until: float) -> bytes:
        if not select.select([self._from], [], [], max(0.0, until - time.monotonic()))[0]:
            return b""
        return os.read(self._from.fileno(), 1 << 16)

    def drain(self, quiet: float = 0.0) -> int:
        return 0

    def close(self) -> None:
        for pipe in (self._to, self._from):
            pipe.close()
        assert self.process.wait(timeout=10) == 0


@pytest.fixture
def session(build: Any) -> Iterator[Session]:
    session = Session(PipeLink(build("example_board")))
    yield session
    session.close()


@pytest.fixture
def board(session: Session, spec_of: Any) -> FramedBoard:
    found = identify(session)
    spec = spec_of(selector="passive", kernels=1, rows=4, cols=4, ops=("ReadCells", "Pulse", "Wait"))
    return FramedBoard(session, replace(spec, identity=found), watchdog=0, patience=Patience(timeout=2.0, tries=2))


CHIP = Blocks((0,), (0,), (0,), 4, 4)
LOOK = ReadCells(CHIP, Sense(volts=0.2), Side.ROWS)
USUAL = Shape(1.0, 1e-3)


def siemens(amps: torch.Tensor) -> torch.Tensor:
    return (amps[0] / 0.2 * 1e6).round()


def looked(board: FramedBoard) -> torch.Tensor:
    (outcome,) = board.execute([LOOK])
    assert outcome.value is not None
    return siemens(outcome.value)


def test_the_driver_trains_cells_of_the_c_board(board):
    counts = torch.arange(16).view(1, 4, 4) - 4
    assert torch.equal(looked(board), torch.full((4, 4), 10.0))
    pulse, wait, look = board.execute([Pulse(CHIP, counts, USUAL, USUAL), Wait(0.5), LOOK])
    grown = 10 + 2 * counts[0].clamp(min=0)  # no cell goes below its lowest level
    assert torch.equal(pulse.applied, counts.abs().to(torch.int32)) and wait.seconds == 0.5
    assert torch.equal(siemens(look.value), grown.float())
    assert board.now() == pytest.approx(4e-3 + 76 * 2e-3 + 0.5 + 4e-3)  # of the last answer; an event a row
    assert board.make_safe().confirmed
    assert torch.equal(looked(board), grown.float())
    board.close()


def test_lists_larger_than_the_boards_memory_go_in_several_frames(board):
    one = Pulse(CHIP, torch.ones(1, 4, 4, dtype=torch.int8), USUAL, USUAL)
    outcomes = board.execute([one, LOOK] * 30)
    assert [round(float(o.value.max()) / 0.2 * 1e6) for o in outcomes[1::2]] == [10 + 2 * n for n in range(1, 31)]


def test_the_board_carries_each_token_out_once(board, session):
    """By hand: repeated, out of order, of another session, above its own limit."""
    requests = Requests(session, Patience(timeout=2.0, tries=1))
    number, token = board._stream._number, board._stream._token

    def ask(token: int, op: Op, session: int = number, first: bool = True) -> Frame:
        out = Writer()
        write_ops(out, [op], None)
        return requests.ask(Opcode.EXECUTE, Ticket(session, token, first).encoded() + out.done())

    one = Pulse(CHIP, torch.ones(1, dtype=torch.int8), USUAL, USUAL)
    answer = ask(token + 1, one)
    assert answer.status == Status.OK
    assert [ask(token + 1, one).payload for _ in range(3)] == [answer.payload] * 3
    assert ask(token + 3, one).status == Status.OUT_OF_ORDER
    assert ask(token + 2, one, session=number ^ 1).status == Status.NO_SESSION
    assert ask(token + 2, Pulse(CHIP, one.counts, Shape(3.0, 1e-3), USUAL)).status == Status.LIMIT
    assert ask(token + 2, Pulse(CHIP, one.counts, Shape(math.nan, 1e-3), USUAL)).status == Status.LIMIT
    assert ask(token + 2, ReadCells(Blocks((0,), (1,), (0,), 4, 4), LOOK.sense, Side.ROWS)).status == Status.BAD_PAYLOAD
    requests.ask(Opcode.SAFE)
    assert ask(token + 2, one, first=False).status == Status.SKIPPED
    board._stream._token = token + 2
    assert torch.equal(looked(board), torch.full((4, 4), 12.0))


def test_what_the_board_cannot_do_is_a_fault_before_anything_moves(board):
    with pytest.raises(BoardFault, match="LIMIT"):
        board.execute([Pulse(CHIP, torch.ones(1, 4, 4, dtype=torch.int8), Shape(3.0, 1e-3), USUAL)])
    assert torch.equal(looked(board), torch.full((4, 4), 10.0))
