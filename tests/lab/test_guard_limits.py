"""The guard: every limit refuses by its own name, exactly at its value, and the message says who set it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from guard_operations import (
    F32,
    F64,
    FORM,
    ONE,
    TWO,
    Recorder,
    amps_max,
    amps_pulse,
    limited,
    outer,
    pulse,
    ramp,
    read,
    read_cells,
    refused,
    sent,
    shape,
    tensor,
)

from hil.contract import Bias, BoardSpec, Kind, Limits, Pulse, Read, Sense, Side
from hil.errors import InvalidOperation, LimitExceeded, UsageError
from hil.lab.guard import Guard

SpecOf = Callable[..., BoardSpec]
SOURCE = Sense(0.1, amps=1e-5)


# key, board, changes of limits that leave only this one, the value just legal, an operation for a value
TABLE: list[tuple[str, str, dict[str, Any], float, Callable[[Any], Any]]] = [
    ("limits.line_volts", "gated", {"write_volts": 9.0}, 2.5, lambda v: pulse(shape(v))),
    ("limits.line_volts", "gated", {"write_volts": 9.0, "slew": None}, 2.5, lambda v: ramp([1.0, v])),
    ("limits.line_volts", "gated", {"gate_volts": 9.0}, 2.5, lambda v: pulse(shape(gate=v))),
    ("limits.line_volts", "gated", {"line_volts": 0.25, "gate_volts": None}, 0.25, read_cells),
    ("limits.line_volts", "gated", {"line_volts": 0.1}, 0.1, read),
    ("limits.read_cell_volts", "gated", {}, 0.3, read_cells),
    ("limits.read_cell_volts", "gated", {}, 0.3, lambda v: read_cells(-v)),
    ("limits.read_cell_volts", "gated", {}, 0.3, lambda v: ramp(sense=Sense(v))),
    ("limits.read_array_volts", "gated", {}, 0.2, read),
    ("limits.read_array_volts", "gated", {}, 0.2, lambda v: read(-v)),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(down=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(shape(tensor(v, F64)))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.4, v])),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp(shape=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.0, 1.1], "gate", shape=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.4, v], kind=Kind.SWEEP)),
    ("limits.form_volts", "gated", {}, 1.9, lambda v: ramp([1.8, v], kind=FORM)),
    ("limits.form_volts", "gated", {}, 1.9, lambda v: ramp([1.0, 1.1], "gate", FORM, shape=shape(v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: pulse(shape(gate=v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: pulse(shape(gate=tensor(v, F64)))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: ramp([2.1, v], "gate")),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: read(0.1, sense=Sense(gate=v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: read_cells(0.1, gate=v)),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: ramp(sense=Sense(0.1, gate=v))),
    ("limits.half_select_volts", "passive", {}, 0.6, lambda v: amps_pulse(1e-5, volts=v)),
    ("limits.half_select_volts", "passive", {}, 0.6, lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.GROUND)),
    ("limits.half_select_volts", "passive", {}, 1.2, lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.HALF)),
    ("limits.half_select_volts", "passive", {"write_volts": 2.0, "half_select_volts": 0.5}, 1.5,
     lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.THIRD)),
    ("limits.half_select_volts", "passive", {}, 0.6,
     lambda v: ramp([0.5, v], shape=shape(0.1, gate=None, amps=1e-5), sense=SOURCE)),
    ("limits.gate_step", "gated", {}, 0.3, lambda v: ramp([0.0, v], "gate")),
    ("limits.gate_step", "gated", {}, 0.3, lambda v: ramp([v, 0.0], "gate")),
    ("limits.slew", "gated", {}, 0.2, lambda v: ramp([0.0, v])),
    ("limits.cell_amps", "gated", {}, 1e-4, lambda v: ramp(stop=amps_max(v))),
    ("limits.cell_amps", "passive", {}, 1e-4, amps_pulse),
    ("limits.cell_amps", "passive", {}, 1e-4, lambda v: read_cells(0.1, amps=v)),
    ("limits.form_amps", "gated", {}, 2e-4, lambda v: ramp(kind=FORM, stop=amps_max(v))),
    ("limits.form_amps", "passive", {}, 2e-4,
     lambda v: ramp([0.5, 0.6], kind=FORM, shape=shape(0.5, gate=None, amps=v), sense=SOURCE)),
    ("limits.line_amps", "passive", {}, 3e-4, lambda v: read(0.1, sense=Sense(amps=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: pulse(shape(seconds=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: pulse(down=shape(seconds=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: ramp(shape=shape(seconds=v))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: pulse(counts=int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: pulse(counts=-int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: outer(int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: ramp([1.0] * int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: pulse(counts=int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: outer(int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: ramp([1.0] * int(n))),
    ("reading.volts_high", "gated", {"read_cell_volts": 0.9}, 0.5, read_cells),
    ("reading.volts_low", "gated", {"read_cell_volts": 0.9}, 0.5, lambda v: read_cells(-v)),
    ("reading.volts_high", "gated", {"read_array_volts": 0.9}, 0.5, read),
    ("reading.volts_low", "gated", {"read_array_volts": 0.9}, 0.5, lambda v: read(-v)),
    ("writing.compliance_high", "passive", {"cell_amps": 1.0}, 5e-4, amps_pulse),
    ("writing.compliance_low", "passive", {}, -1e-6, lambda v: amps_pulse(-v)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "board", "changes", "limit", "make"), TABLE, ids=[f"{i}-{r[0]}" for i, r in enumerate(TABLE)]
)
def test_each_limit_refuses_by_its_own_name_and_nothing_below_it(
    request: pytest.FixtureRequest,
    key: str,
    board: str,
    changes: dict[str, Any],
    limit: float,
    make: Callable[[Any], Any],
) -> None:
    spec = limited(request.getfixturevalue(board), changes)
    over = limit + 1 if key.startswith("limits.pulses_") else math.nextafter(limit, math.inf)
    if key in ("limits.slew", "limits.gate_step"):
        over = limit * (1 + 1e-12)  # the difference of two points carries their rounding
    assert len(sent(spec, make(limit))) == 1
    error = refused(spec, make(over))
    assert isinstance(error, LimitExceeded)
    assert error.source == spec.where[key]
    part, name = key.split(".")
    lifted = replace(spec, **{part: replace(getattr(spec, part), **{name: -99 if "low" in name else 10**6})})
    if key.startswith("limits") and name not in ("line_volts", "gate_volts"):
        assert len(sent(lifted, make(over))) == 1  # no other limit stood in its way


def test_the_table_knows_every_limit() -> None:
    elsewhere = {"forming", "allow_uncompliant", "line_current_rule", "siemens_low", "siemens_high"}
    tested = {key.removeprefix("limits.") for key, *_ in TABLE if key.startswith("limits.")}
    assert {item.name for item in dataclasses.fields(Limits)} == tested | elsewhere


@pytest.mark.parametrize("limit", [0.2, 0.1, 0.3, 1 / 3])
def test_limits_are_compared_in_the_dtype_of_the_request(gated: BoardSpec, limit: float) -> None:
    spec = limited(gated, {"read_array_volts": limit, "write_volts": limit})
    exact32 = np.float32(limit)
    over32 = float(np.nextafter(exact32, np.float32(np.inf)))
    for make in (read, lambda v: pulse(shape(v), down=shape(v))):
        assert sent(spec, make(torch.full((1, 1, 2), limit, dtype=F32)))
        assert sent(spec, make(torch.full((1, 1, 2), limit, dtype=F64)))
        refused(spec, make(torch.full((1, 1, 2), over32, dtype=F32)))
        refused(spec, make(torch.full((1, 1, 2), math.nextafter(limit, 1), dtype=F64)))


def test_one_value_in_a_large_batch_is_found_in_any_layout(gated: BoardSpec) -> None:
    for at, bad in (((1, 4000, 1), 0.21), ((0, 0, 0), -0.21), ((1, 7, 0), math.nan), ((0, 5, 1), -math.inf)):
        volts = torch.full((2, 5000, 2), 0.2)
        volts[at] = bad
        for laid in (volts, volts.transpose(1, 2).contiguous().transpose(1, 2), volts[:, :, [1, 0]].flip(2)):
            error = refused(gated, Read(TWO, laid, Side.COLS))
            assert f"kernel {at[0]}, vector {at[1]}, line {at[2]}" in str(error)


def test_the_message_says_what_where_and_who_set_it(gated: BoardSpec) -> None:
    volts = torch.zeros(2, 3, 2)
    volts[1, 2, 0] = 0.5
    error = refused(gated, Read(TWO, volts, Side.COLS))
    place = gated.where["limits.read_array_volts"]
    assert str(error) == (
        f"read voltage 500 mV above 200 mV (kernel 1, vector 2, line 0), set in {place}; nothing was sent"
    )
    low = refused(gated, read(torch.tensor([[[-0.3, 0.2]]])))
    assert str(low).startswith("read voltage -300 mV below -200 mV (kernel 0, vector 0, line 0)")
    over = math.nextafter(1.5, 2)
    assert f"write voltage {over!r} V above 1.5 V" in str(refused(gated, pulse(shape(over))))


@pytest.mark.parametrize(
    ("selector", "compliance", "allow", "amps", "gate", "legal"),
    [
        ("passive", "none", False, None, None, False), ("passive", "none", True, None, None, True),
        ("passive", "none", False, 1e-5, None, False), ("passive", "gate", False, None, None, False),
        ("passive", "amplifier", False, None, None, True), ("passive", "source", False, None, None, False),
        ("passive", "source", True, None, None, False), ("passive", "source", False, 1e-5, None, True),
        ("passive", "source", False, 1e-5, 2.0, False), ("gated", "gate", False, None, 2.0, True),
        ("gated", "gate", True, None, None, False), ("gated", "none", False, None, 2.0, False),
    ],
)  # fmt: skip
def test_something_must_hold_the_current_of_a_cell(
    spec_of: SpecOf, selector: Any, compliance: str, allow: bool, amps: float | None, gate: float | None, legal: bool
) -> None:
    spec = spec_of(selector=selector, limits={"allow_uncompliant": allow}, writing={"compliance": compliance})
    both = shape(gate=gate, amps=amps)
    op = Pulse(ONE, torch.tensor(1), both, both)
    assert (len(sent(spec, op)) == 1) if legal else isinstance(refused(spec, op), InvalidOperation)


def test_a_source_needs_its_compliance_while_reading_too(passive: BoardSpec) -> None:
    for op in (read(0.1), read_cells(0.1), read(0.1, sense=Sense(gate=2.0, amps=1e-5))):
        assert isinstance(refused(passive, op), InvalidOperation)


def test_a_gate_needs_gates_and_a_limit(gated: BoardSpec, passive: BoardSpec) -> None:
    op = read(0.1, sense=Sense(gate=1.0, amps=1e-5))
    assert "has no gates" in str(refused(limited(passive, {"gate_volts": 3.0}), op))
    assert "sets no limits.gate_volts" in str(refused(limited(gated, {"gate_volts": None}), pulse()))


def test_a_compliance_current_is_above_zero(passive: BoardSpec) -> None:
    free = replace(passive, writing=replace(passive.writing, compliance_low=None, compliance_high=None))
    for amps in (0.0, -1e-5):
        assert isinstance(refused(free, amps_pulse(amps)), InvalidOperation)
    assert sent(free, amps_pulse(1e-9))


@pytest.mark.parametrize(("part", "name"), [("limits", "write_volts"), ("limits", "slew"), ("reading", "volts_low")])
def test_a_board_with_an_unusable_limit_is_not_guarded(gated: BoardSpec, part: str, name: str) -> None:
    broken = replace(gated, **{part: replace(getattr(gated, part), **{name: math.nan})})
    with pytest.raises(UsageError, match=f"unusable limit {name}"):
        Guard(Recorder(broken))  # type: ignore[arg-type]
