"""The guard: what was checked is what is sent, whoever changes an operation meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from guard_operations import F32, F64, ONE, Recorder, outer, ramp, read, read_cells, refused, sent, shape, tensor

from hil.contract import BoardSpec, Outcome, Pulse, Stop
from hil.lab.checks import Checked
from hil.lab.guard import Guard


def all_tensors(op: Any) -> list[torch.Tensor]:
    found = []
    for item in dataclasses.fields(op):
        value = getattr(op, item.name)
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif dataclasses.is_dataclass(value):
            found += all_tensors(value)
    return found


def full_operations() -> list[Any]:
    """One of each, with a tensor wherever there can be one."""
    both = shape(tensor(1.0, F64).expand(1, 2, 2), gate=tensor(2.0, F32))
    stop = Stop(tensor(1e-6, F64), tensor(1e-5, F64), 1e-5)
    return [
        read(0.1), replace(read_cells(0.1), mask=torch.ones(1, 2, 2) > 0),
        Pulse(ONE, torch.ones(2, 2).int(), both, both),
        replace(outer(2), up=both, down=both), ramp(shape=both, start=torch.ones(2, 2).int(), stop=stop),
    ]  # fmt: skip


@pytest.mark.parametrize("when", ["before sending", "while sending", "after"])
def test_changing_an_operation_later_changes_nothing(gated: BoardSpec, when: str) -> None:
    ops = full_operations()
    before = [[t.clone() for t in all_tensors(op)] for op in ops]
    assert sum(map(len, before)) == 20

    def spoil() -> None:
        for op in ops:
            for found in all_tensors(op):
                found.untyped_storage().fill_(0)

    class Spoiler:
        def intent(self, checked: Sequence[Checked]) -> int:
            spoil() if when == "before sending" else None
            return 0

        def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None: ...

    def answer(found: list[Any]) -> list[Outcome]:
        spoil() if when == "while sending" else None
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in found]

    board = Recorder(gated, answer)
    Guard(board, audit=Spoiler()).execute(ops)  # type: ignore[arg-type]
    spoil() if when == "after" else None
    for op, wanted in zip(board.sent, before, strict=True):
        for found, value in zip(all_tensors(op), wanted, strict=True):
            assert torch.equal(found, value.to(found.dtype))


def test_a_board_that_changes_what_it_got_does_not_change_the_caller(gated: BoardSpec) -> None:
    ops = full_operations()
    before = [[t.clone() for t in all_tensors(op)] for op in ops]

    def answer(found: list[Any]) -> list[Outcome]:
        for op in found:
            for value in all_tensors(op):
                value.zero_() if value.dtype is not torch.bool else value.logical_not_()
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in found]

    Guard(Recorder(gated, answer)).execute(ops)  # type: ignore[arg-type]
    for op, wanted in zip(ops, before, strict=True):
        assert all(torch.equal(found, value) for found, value in zip(all_tensors(op), wanted, strict=True))


def test_a_gradient_stays_with_the_caller(gated: BoardSpec) -> None:
    volts = torch.full((1, 1, 2), 0.1, requires_grad=True)
    (op,) = sent(gated, read(volts))
    assert not op.volts.requires_grad and torch.equal(op.volts, volts.detach())
    refused(gated, read(torch.full((1, 1, 2), 0.3, requires_grad=True)))
    (op,) = sent(gated, read(torch.nn.Parameter(torch.full((1, 1, 2), 0.1))))
    assert type(op.volts) is torch.Tensor
