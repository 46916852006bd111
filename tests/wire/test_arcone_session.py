"""A whole session with an ArC ONE, byte by byte, and the same numbers over a serial line as in the process."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import pytest
import torch
from arcone_wire import QUICK, arcone_spec, board_file, from_file
from virtual_boards import board

from hil.contract import Bias, Blocks, Pulse, Read, ReadCells, Sense, Shape, Side
from hil.lab.guard import Guard
from hil.lowering import Lowering
from instruments.arcone.board import ArcOneBoard
from instruments.arcone.config import ArcOneConfig
from instruments.links.memory import MemoryLink
from instruments.links.opening import open_link
from instruments.links.script import Script
from instruments.session import Session
from instruments.virtual.arcone import ArcOne, inside_spec
from instruments.virtual.shell import ShellSettings

INITIALISE = (b"0\n50\n6\n5\n2\n0\n0\n0.2\n", b"1\n")


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_a_session_byte_by_byte(spec_of) -> None:
    pairs = [
        (b"999\n", b"\x01\x00\x00\x00"),
        (b"00\n", None), INITIALISE, (b"01\n2\n0.2\n", None),
        (b"1\n3\n2\n", floats(10e3)),
        (b"2\n1\n6\n5\n", floats(*range(1000, 31000, 1000))),
        (b"2\n2\n6\n5\n2\n", None), (b"2\n3\n", floats(1e3)), (b"2\n5\n", floats(2e3)),
        (b"50\n0\n0.00000009\n0.2\n2\n4\n1\n1\n6\n", floats(5e3, 0.2, 0.0)),
        (b"011\n50\n2\n", None), (b"02\n6\n5\n", None), (b"04\n-1.25\n0.000001\n", None),
        (b"3\n6\n5\n-1.25\n0.000001\n", floats(1.0)),
        (b"00\n", None), (b"0\n50\n6\n5\n2\n0\n2\n0.2\n", b"1\n"), (b"01\n2\n0.2\n", None),
        (b"999\n", b"\x01\x00\x00\x00"),
    ]  # fmt: skip
    with Script(pairs) as link:
        driver = ArcOneBoard(Session(link), arcone_spec(spec_of), replace(QUICK, margin=0.02))
        sense, whole = Sense(0.2), Blocks((0,), (0,), (0,), 6, 5)
        mask = torch.zeros(1, 6, 5, dtype=torch.bool)
        mask[0, 1, [2, 4]] = True
        vector = torch.zeros(1, 1, 6, dtype=torch.float64)
        vector[0, 0, [0, 5]] = 0.2
        one, everything, some, line = driver.execute(
            [
                ReadCells(Blocks((0,), (2,), (1,), 1, 1), sense, Side.ROWS),
                ReadCells(whole, sense, Side.ROWS),
                ReadCells(whole, sense, Side.ROWS, mask),
                Read(Blocks((0,), (0,), (3,), 6, 1), vector, Side.ROWS),
            ]
        )
        assert one.value.item() == pytest.approx(20e-6)
        torch.testing.assert_close(everything.value, 0.2 / torch.arange(1e3, 31e3, 1e3).reshape(1, 6, 5))
        assert some.value[mask].tolist() == pytest.approx([200e-6, 100e-6])
        assert line.value.item() == pytest.approx(40e-6)
        shape = Shape(1.25, 1e-6)
        driver.execute([Pulse(Blocks((0,), (5,), (4,), 1, 1), torch.tensor(-2), shape, shape, unselected=Bias.FLOAT)])
        driver.close()


def work(driver) -> list[torch.Tensor]:
    """A little of everything, through guard and lowering; also a signed vector, made of two reads."""
    stack = Lowering(Guard(driver))
    spec = stack.spec
    rows, cols = spec.cells[1:]
    whole = Blocks((0,), (0,), (0,), rows, cols)
    vector = torch.zeros(1, 1, rows)
    vector[0, 0, ::3], vector[0, 0, 1::3] = 0.2, -0.2
    counts = torch.zeros(1, rows, cols, dtype=torch.int32)
    counts[0, 1, 2], counts[0, 3, 3] = 4, -2
    shape = Shape(1.0, 1e-6)
    read = ReadCells(whole, Sense(0.2), Side.ROWS)
    outcomes = stack.execute([read, Pulse(whole, counts, shape, shape), read])
    outcomes += stack.execute([Read(Blocks((0,), (0,), (0,), rows, 2), vector, Side.ROWS)])
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    assert all(outcome.flags is None for outcome in outcomes)
    stack.close()
    return values


def test_the_board_file_drives_a_board() -> None:
    file = board_file()
    assert (file.kind, file.url) == ("arcone", "serial:///dev/ttyACM0?baud=921600&parity=E")
    virtual = from_file(seed=7)
    link = MemoryLink(virtual.converse("test"))
    first, second, product = work(ArcOneBoard(Session(link), file.spec, QUICK))
    assert first.shape == (1, 32, 32) and product.shape == (1, 1, 2)
    assert second[0, 1, 2] > first[0, 1, 2] and second[0, 3, 3] < first[0, 3, 3]
    counted = torch.tensor(virtual.inspect("pulses", {}))
    assert (counted[0, 1, 2], counted[0, 3, 3], counted.sum()) == (4, 2, 6)
    # two resets, two maps of 1024 conversions, and about 20 commands of 1 ms
    assert link.seconds == pytest.approx(2.0 + 2 * 1024 * 0.2e-3, abs=0.04)


@pytest.mark.slow
def test_a_serial_line_gives_the_same_numbers_as_the_process() -> None:
    file, config = board_file(), ArcOneConfig(reset_wait=0.02, margin=2.0)
    expected = work(ArcOneBoard(Session(MemoryLink(from_file(seed=7).converse("test"))), file.spec, QUICK))
    with board(ShellSettings(tcp=None, pty=True), "arcone_wire:from_file", {"seed": 7}) as virtual:
        session = Session(open_link(f"serial://{virtual.device}?baud=921600&parity=E"), gap=config.gap)
        got = work(ArcOneBoard(session, file.spec, config))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert session.counters.timeouts == session.counters.retries == 0


# -- the virtual board itself -----------------------------------------------------------------------------------------


def test_packets_that_come_too_soon_are_dropped_by_a_strict_board(spec_of, quiet_board) -> None:
    now = [0.0]
    virtual = ArcOne(quiet_board(inside_spec(arcone_spec(spec_of))), strict_pace=lambda: now[0])
    client = virtual.converse("test")
    assert len(list(client.receive(b"999\n"))) == 1
    now[0] = 0.4e-3
    assert list(client.receive(b"999\n")) == []
    now[0] = 0.9e-3
    assert len(list(client.receive(b"999\n"))) == 1
    assert virtual.inspect("counters", {})["dropped"] == 1


def test_the_session_keeps_the_pace_that_the_board_wants(spec_of, quiet_board) -> None:
    spec = arcone_spec(spec_of)
    virtual = ArcOne(quiet_board(inside_spec(spec)), strict_pace=time.monotonic)
    config = ArcOneConfig(reset_wait=0.0, margin=0.1)
    driver = ArcOneBoard(Session(MemoryLink(virtual.converse("test")), gap=config.gap), spec, config)
    driver.execute([ReadCells(Blocks((0,), (1,), (1,), 3, 3), Sense(0.2), Side.ROWS)])
    driver.close()
    assert virtual.inspect("counters", {})["dropped"] == 0


def test_a_read_mode_of_the_wrong_sign_gives_no_resistance(spec_of, quiet_board) -> None:
    virtual = ArcOne(quiet_board(inside_spec(arcone_spec(spec_of))))
    link = MemoryLink(virtual.converse("test"))
    link.write(b"0\n50\n6\n5\n2\n0\n0\n0.2\n1\n1\n1\n01\n2\n-0.2\n1\n1\n1\n01\n3\n-0.2\n1\n1\n1\n", 0.0)
    data = link.read(100, 0.0)
    right, wrong, again = struct.unpack("<3f", data[2:])
    assert data[:2] == b"1\n" and right == again > 1000 and wrong != wrong
    assert virtual.inspect("history", {}) == [["outputs", "on"], *[["volts", v] for v in (0.2, 0.0) * 3]]


def test_the_board_does_not_forget_what_was_half_sent(spec_of, quiet_board) -> None:
    virtual = ArcOne(quiet_board(inside_spec(arcone_spec(spec_of))))
    first = virtual.converse("one")
    list(first.receive(b"9"))
    first.silent()
    first.lost()
    assert len(list(virtual.converse("two").receive(b"99\n"))) == 1
    assert virtual.tick(0.0) is None and not virtual.misbehave("error")
