"""The guard counts pulses over whole lists, charges them before sending, and forms cells by the rule of the board."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from guard_operations import FORM, Recorder, bits, int8, limited, outer, pulse, ramp, refused, sent, shape

from hil.contract import Blocks, BoardSpec
from hil.errors import LimitExceeded
from hil.lab.guard import Guard
from hil.lab.wear import Wear


def test_operations_of_a_list_are_charged_together(gated: BoardSpec) -> None:
    parts = [pulse(counts=5), outer(5), ramp([1.0] * 5), ramp([1.0] * 7, start=2)]
    assert len(sent(gated, *parts)) == 4
    error = refused(gated, *parts, pulse(counts=1))
    assert isinstance(error, LimitExceeded) and error.value == 21
    refused(gated, *parts, pulse(counts=torch.tensor([[[0, 0], [0, -1]]])))


def test_the_way_back_of_a_ramp_is_charged(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    start = torch.tensor([[[0, 1], [2, 2]]])
    sign = torch.tensor([[[1, 1], [-1, 0]]], dtype=torch.int8)
    guard.execute([ramp([0.5, 0.6, 0.7], start=start, sign=sign, back=True)])
    assert guard.wear.run[0, :2, :2].tolist() == [[5, 4], [3, 0]]


def test_a_refused_list_leaves_no_wear_and_forms_nothing(gated: BoardSpec) -> None:
    form = ramp(kind=FORM)
    refused(gated, pulse(counts=3), form, pulse(shape(99.0)))
    refused(gated, form, form)  # the same cells twice in one list
    board = Recorder(gated)
    guard = Guard(board)  # type: ignore[arg-type]
    guard.execute([form])
    before = guard.wear.snapshot()
    other = replace(form, blocks=Blocks((1,), (0,), (0,), 2, 2))
    with pytest.raises(LimitExceeded, match="forming of cells formed before 4 above 0"):
        guard.execute([other, form])
    assert all(torch.equal(before[name], now) for name, now in guard.wear.snapshot().items())
    guard.execute([other])
    assert int(guard.wear.formed.sum()) == 8


@pytest.mark.parametrize(("rule", "times"), [("never", 0), ("once", 1), ("free", 2)])
def test_forming_follows_the_rule_of_the_board(gated: BoardSpec, rule: str, times: int) -> None:
    spec = limited(gated, {"forming": rule})
    form = ramp(kind=FORM)
    if times:
        assert len(sent(spec, *[form] * times)) == times
    if times < 2:
        error = refused(spec, *[form] * (times + 1))
        assert isinstance(error, LimitExceeded) and error.source == spec.where["limits.forming"]
    nothing = ramp(kind=FORM, sign=torch.zeros(1, 1, 1, dtype=torch.int8))
    assert len(sent(spec, nothing, nothing)) == 2


def test_a_worn_out_cell_does_not_stop_the_others(gated: BoardSpec) -> None:
    life = torch.zeros(gated.cells, dtype=torch.int64)
    life[0, 0, 0] = 31
    guard = Guard(Recorder(gated), Wear(gated, life))  # type: ignore[arg-type]
    guard.execute([pulse(counts=torch.tensor([[[0, 1], [1, 1]]]))])
    with pytest.raises(LimitExceeded, match=r"pulses per life 32 above 30 \(kernel 0, row 0, column 0\)"):
        guard.execute([pulse()])


def test_nothing_overflows(gated: BoardSpec) -> None:
    free = limited(gated, {"pulses_per_run": 2**63 - 1, "pulses_per_life": 2**70})
    for counts, cycles in ((-(2**63), 1), (2**63 - 1, 2), (2**31, 1), (2**20, 2**31 - 1), (-(2**31), 1)):
        refused(free, pulse(counts=torch.tensor(counts), cycles=cycles))
        refused(gated, pulse(counts=torch.tensor(counts), cycles=cycles))
    (op,) = sent(free, pulse(counts=torch.tensor(-(2**31) + 1)))
    assert op.counts.tolist() == -(2**31) + 1
    worn = Wear(free, torch.full(gated.cells, 2**63 - 2))
    guard = Guard(Recorder(free), worn)  # type: ignore[arg-type]
    guard.execute([pulse()])
    with pytest.raises(LimitExceeded):
        guard.execute([pulse()])


def test_lines_that_keep_their_sign_pass_and_pulse_where_both_fire(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    guard.execute([bits(int8([[-1, 0], [0, 1], [-1, 1]]), int8([[0, 1], [-1, 1], [-1, 0]]))])
    assert guard.wear.run[0, :2, :2].tolist() == [[1, 1], [2, 1]]


def test_an_interrupt_while_checking_leaves_no_wear(gated: BoardSpec) -> None:
    def ops() -> Any:
        yield pulse()
        raise KeyboardInterrupt

    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        guard.execute(ops())
    assert not guard.wear.run.any()
