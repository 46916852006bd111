"""The guard around its board: faults, aborts, currents seen afterwards, snapshots; the books stay right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from guard_operations import (
    F32,
    F64,
    FORM,
    Audit,
    Recorder,
    answers,
    pulse,
    ramp,
    read,
    read_cells,
    shape,
    written,
)

from hil.contract import Bias, BoardSpec, Flag, Outcome, Range
from hil.errors import Aborted, BoardFault, CheckpointError, LimitBreached, LimitExceeded, StorageError, Unsupported
from hil.lab.guard import Guard
from hil.lab.ledger import Ledger
from hil.lab.stop import StopToken
from sim_backend.board import SimBoard
from sim_backend.energy import Energy

SpecOf = Callable[..., BoardSpec]


def test_a_fault_in_the_middle_books_what_was_done_and_keeps_the_wear(gated: BoardSpec) -> None:
    def fails(ops: list[Any]) -> list[Outcome]:
        raise BoardFault("tiny", "no answer", done=written(ops[:1]), index=1)

    audit = Audit()
    guard = Guard(Recorder(gated, fails), audit=audit)  # type: ignore[arg-type]
    with pytest.raises(BoardFault, match="no answer"):
        guard.execute([pulse(counts=3), pulse(counts=4), pulse(counts=5)])
    assert audit.log == [("intent", 3), ("outcome", 1)]
    assert (guard.ledger.lists, guard.ledger.writes, guard.ledger.pulses, guard.ledger.lab_seconds) == (1, 2, 12, 0.5)
    assert int(guard.wear.run[0, 0, 0]) == 12  # all of it: more may have been done than the board knows
    with pytest.raises(LimitExceeded):
        guard.execute([pulse(counts=9)])
    assert int(guard.wear.run[0, 0, 0]) == 12


def test_a_fault_is_not_hidden_by_a_full_disk(gated: BoardSpec) -> None:
    def fails(ops: list[Any]) -> list[Outcome]:
        raise BoardFault("tiny", "no answer", done=written(ops) * 2, index=1)  # more outcomes than operations

    guard = Guard(Recorder(gated, fails), audit=Audit("outcome"))  # type: ignore[arg-type]
    with pytest.raises(BoardFault) as caught:
        guard.execute([pulse()])
    assert "could not be stored: run.db" in caught.value.__notes__[0]
    assert guard.ledger.writes == 2


def test_a_board_that_forgets_an_outcome_is_a_fault(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated, lambda ops: written(ops)[1:]))  # type: ignore[arg-type]
    with pytest.raises(BoardFault, match="gave 1 outcomes for 2 operations"):
        guard.execute([pulse(), pulse()])
    assert int(guard.wear.run[0, 0, 0]) == 2


def test_nothing_is_sent_that_cannot_be_recorded(gated: BoardSpec) -> None:
    board = Recorder(gated)
    guard = Guard(board, audit=Audit("intent"))  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        guard.execute([pulse(), ramp(kind=FORM)])
    assert not board.sent and not guard.wear.life.any() and not guard.wear.formed.any() and guard.ledger == Ledger()


def test_an_abort_stops_the_next_list(gated: BoardSpec) -> None:
    board, stop = Recorder(gated), StopToken()
    guard = Guard(board, stop=stop)  # type: ignore[arg-type]
    guard.execute([pulse()])
    stop.abort("operator")
    with pytest.raises(Aborted, match="aborted: operator"):
        guard.execute([pulse()])
    assert len(board.sent) == 1 and int(guard.wear.run.max()) == 1
    guard.close()
    assert board.closed and guard.now() == 7.0 and guard.make_safe().confirmed


@pytest.mark.parametrize(
    ("op", "limit"),
    [(read(0.1), 3e-4), (read_cells(0.1), 1e-4), (ramp(), 1e-4), (ramp(kind=FORM), 2e-4)],
    ids=["line", "cell", "ramp", "form"],
)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_current_above_its_limit_ends_the_run(gated: BoardSpec, op: Any, limit: float, dtype: Any) -> None:
    exact = torch.tensor([[[1e-9, math.nan], [-limit, limit]]], dtype=dtype)
    Guard(Recorder(gated, answers(exact))).execute([op])  # type: ignore[arg-type]
    for factor in (1.001, -1.001, math.inf):
        amps = exact * torch.tensor([[[1.0, 1.0], [1.0, factor]]], dtype=dtype)
        guard = Guard(Recorder(gated, answers(amps)), audit=(audit := Audit()))  # type: ignore[arg-type]
        with pytest.raises(LimitBreached, match="kernel 0"):
            guard.execute([op])
        assert audit.log[-1] == ("outcome", 1) and guard.ledger.lists == 1


def test_lines_are_watched_only_where_nothing_holds_them(spec_of: SpecOf) -> None:
    high = answers(torch.full((1, 1, 2), 0.2))
    rails = {"ranges": (Range(negative=0.1, positive=0.05, step=1e-6),)}
    for spec in (spec_of(limits={"line_current_rule": "held"}), spec_of(reading=rails)):
        Guard(Recorder(spec, high)).execute([read(0.1)])  # type: ignore[arg-type]
    wide = {"ranges": (Range(negative=0.11, positive=0.05, step=1e-6),)}
    for spec in (spec_of(), spec_of(reading=wide)):
        with pytest.raises(LimitBreached, match="line current"):
            Guard(Recorder(spec, high)).execute([read(0.1)])  # type: ignore[arg-type]


def test_the_ledger_counts_flags_that_say_something_is_wrong(gated: BoardSpec) -> None:
    flags = [0, Flag.NOT_MEASURED, Flag.STOPPED, Flag.SAT_LOW, Flag.STOPPED | Flag.SAT_HIGH, Flag.ABORTED]
    given = torch.tensor([[[int(flag) for flag in flags]]], dtype=torch.uint8)
    guard = Guard(Recorder(gated, answers(None, given)))  # type: ignore[arg-type]
    guard.execute([read_cells(0.1)])
    assert guard.ledger.as_dict() == {
        "lists": 1, "reads": 1, "writes": 0, "pulses": 0, "lab_seconds": 0.0, "flagged": 3,
        "half_selects": 0, "joules": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(("bias", "others"), [(Bias.HALF, 9), (Bias.THIRD, 29), (Bias.GROUND, 0), (None, 0)])
def test_the_ledger_counts_half_selects_of_writes_and_energy(
    spec_of: SpecOf, quiet_board: Callable[..., SimBoard], bias: Bias | None, others: int
) -> None:
    board = quiet_board(spec_of(selector="passive"), physics={"energy": Energy(read_seconds=1e-3)})
    guard = Guard(board)
    held = shape(gate=None, amps=1e-4)
    ops = [replace(pulse(held, counts=-3, down=held), unselected=bias), read_cells(0.1, amps=1e-4)]
    outcomes = guard.execute(ops)
    pulses = int(outcomes[0].applied.sum())
    assert guard.ledger.half_selects == pulses * others and pulses > 0
    assert guard.ledger.joules == outcomes[0].joules + outcomes[1].joules > outcomes[1].joules > 0
    gated = Guard(quiet_board())
    gated.execute([replace(pulse(shape(gate=2.5), counts=-3, down=shape(gate=2.5)), unselected=bias)])
    assert gated.ledger.half_selects == 0 and gated.ledger.joules == 0.0


def test_a_snapshot_holds_board_and_wear_and_goes_back_whole_or_not_at_all(
    quiet_board: Callable[..., SimBoard],
) -> None:
    guard = Guard(quiet_board())
    assert guard.restorable
    guard.execute([pulse(shape(gate=2.5), counts=4, down=shape(gate=2.5))])
    saved = guard.snapshot()
    guard.execute([pulse(shape(gate=2.5), counts=3, down=shape(gate=2.5))])
    later = guard.snapshot()
    assert int(guard.wear.life[0, 0, 0]) == 7
    for broken in ("wear.run", "board.clock"):
        with pytest.raises(CheckpointError):
            guard.restore({name: value for name, value in saved.items() if name != broken})
        assert all(torch.equal(value, later[name]) for name, value in guard.snapshot().items())
    guard.restore(saved)
    assert all(torch.equal(value, saved[name]) for name, value in guard.snapshot().items())


def test_a_chip_cannot_be_copied(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    assert not guard.restorable
    for act in (guard.snapshot, lambda: guard.restore({})):
        with pytest.raises(Unsupported, match="a chip cannot be copied"):
            act()
