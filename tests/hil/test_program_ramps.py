"""Ramps by gate and by amplitude, with the rules that end them, on gated and on passive boards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Bias, Blocks, Ramp
from hil.errors import ConfigError, LimitExceeded, UsageError
from hil.lab import config
from hil.lab.guard import Guard
from hil.lab.runfile import NetworkConfig
from hil.lowering import Lowering
from hil.program import ByRamps, CellState, GateRamp, Relaxation, VoltsRamp, program

SET_GATE = GateRamp(volts=1.2, low=0.5, high=2.0, step=0.01)
SET_VOLTS = VoltsRamp(low=0.6, high=1.8, step=0.01)
RESET_VOLTS = VoltsRamp(low=0.6, high=1.8, step=0.01)
RESET_GATE = GateRamp(volts=1.4, low=0.5, high=2.0, step=0.01)
CURVE = {"gate_curve": ((0.5, 2e-6), (2.0, 200e-6)), "down_gate": 3.0}
LONG = {"window": 5e-6, "rounds": 4, "allowed": 0.0, "jump": None}
IGVVA = ByRamps(set=SET_GATE, reset=RESET_VOLTS, **LONG)
ISPVA = ByRamps(set=SET_VOLTS, reset=RESET_VOLTS, **LONG)
SHORT = {
    "set_volts": 1.2, "gate_low": 0.5, "gate_high": 2.0, "gate_step": 0.01,
    "reset_low": 0.6, "reset_high": 1.8, "reset_step": 0.01,
}  # fmt: skip


def targets(shape=(4, 6, 5), low=40e-6, high=170e-6) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def ramps_of(sent) -> list[Ramp]:
    return [op for call in sent.call_args_list for op in call.args[0] if isinstance(op, Ramp)]


@pytest.mark.parametrize("native", [True, False], ids=["native", "minimum board"])
@pytest.mark.parametrize("method", [IGVVA, ISPVA], ids=["IGVVA", "ISPVA"])
def test_every_cell_of_a_quiet_board_ends_in_its_window(quiet_board, spec_of, whole, mocker, method, native):
    ops = ("Ramp", "ReadCells", "Pulse", "Wait") if native else ("ReadCells", "Pulse", "Wait")
    board = quiet_board(spec_of(writing=CURVE, ops=ops))
    lowering = Lowering(Guard(board))
    sent = mocker.spy(lowering, "execute")
    report = program(lowering, "test", whole(board.spec), targets(), method)
    assert report.count(CellState.HIT) == 120
    assert float((board.chip.state["g"] - targets()).abs().max()) <= method.window
    knobs = {(op.kind.name, op.knob, op.back) for op in ramps_of(sent)}
    up = ("SET", "gate", True) if method is IGVVA else ("SET", "volts", False)
    assert knobs == {up, ("RESET", "volts", False)}


def test_a_passive_board_is_programmed_by_amplitude_behind_its_guard(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(selector="passive", writing={"biases": (Bias.GROUND,)}))
    report = program(Lowering(Guard(board)), "test", whole(board.spec), targets(), ISPVA)
    assert report.count(CellState.HIT) == 120
    assert float((board.chip.state["g"] - targets()).abs().max()) <= ISPVA.window


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"set": SET_GATE}, "set"),
        ({"reset": RESET_GATE}, "reset"),
        ({"reset": replace(RESET_VOLTS, gate=2.0)}, "reset"),
    ],
)
def test_a_passive_board_refuses_gates_before_anything_is_sent(quiet_board, spec_of, whole, mocker, change, name):
    board = quiet_board(spec_of(selector="passive"))
    sent = mocker.spy(board, "execute")
    with pytest.raises(UsageError, match=f"the {name} ramp names a gate voltage, and tiny is a passive array"):
        program(board, "test", whole(board.spec), targets(), replace(ISPVA, **change))
    assert not sent.called


def test_the_flat_keys_are_igvva(quiet_board, spec_of, whole, mocker):
    flat = ByRamps(**SHORT, **LONG)
    assert (flat.set_ramp, flat.reset_ramp) == (IGVVA.set_ramp, IGVVA.reset_ramp)
    ends = []
    for method in (flat, IGVVA):
        board = quiet_board(spec_of(writing=CURVE), step_std=0.3)
        program(board, "test", whole(board.spec), targets(), replace(method, allowed=1.0))
        ends.append(board.chip.state["g"])
    assert torch.equal(*ends)


def test_the_rules_reach_the_ramps_they_are_for(quiet_board, spec_of, whole, mocker):
    board = quiet_board(spec_of(writing=CURVE))
    sent = mocker.spy(board, "execute")
    method = replace(
        IGVVA, allowed=1.0, jump=40e-6, rise=30e-6, rises=5, rise_after=(1.5, 20e-6), slope=4e-4, flat=5e-6, hits=2,
        amps_max=3e-4,
    )  # fmt: skip
    program(board, "test", whole(board.spec), targets(), method)
    for op in ramps_of(sent):
        stop, never = op.stop, float("inf")
        assert stop.amps_max == 3e-4
        if op.kind.name == "SET":
            assert (stop.slope, stop.flat, stop.hits) == (4e-4, 5e-6, 2)
            assert (stop.jump, stop.rise, stop.rise_after) == (never, never, None)
        else:
            assert (stop.jump, stop.rise, stop.rises, stop.rise_after) == (40e-6, 30e-6, 5, (1.5, 20e-6))
            assert stop.slope is None
    assert {op.kind.name for op in ramps_of(sent)} == {"SET", "RESET"}


def test_a_cell_whose_current_rises_during_reset_is_given_up(quiet_board, spec_of, mocker):
    """Readings that rise three times in a row end the ramp of that cell, and the cell is not pulsed again."""
    board = quiet_board(spec_of(writing=CURVE))
    blocks, execute = Blocks((0,), (0,), (0,), 1, 2), board.execute
    board.chip.state["g"][0, 0, :2] = 150e-6
    periphery = board._periphery
    cells, step = periphery.cells, [0]

    def rising(seen, *args, **kwargs):
        got = cells(seen, *args, **kwargs)
        step[0] += 1
        return replace(got, amps=got.amps + torch.tensor([[[3e-6 * step[0], 0.0]]], dtype=torch.float64))

    mocker.patch.object(periphery, "cells", rising)
    sent = mocker.patch.object(board, "execute", side_effect=execute)
    method = replace(ISPVA, rise=2e-6, rises=3, allowed=1.0)
    report = program(board, "test", blocks, torch.full((1, 1, 2), 80e-6, dtype=torch.float64), method)
    assert report.state.tolist() == [[[int(CellState.ABORTED), int(CellState.HIT)]]]
    assert int(report.pulses[0, 0, 0]) == 4  # the first reading, and three rises
    assert sum(int(op.sign[0, 0, 0] != 0) for op in ramps_of(sent)) == 1


def test_the_current_that_ends_a_ramp_may_not_pass_the_limit_of_a_cell(quiet_board, spec_of, whole, mocker):
    spec = replace(spec_of(writing=CURVE), where={"limits.cell_amps": "board.yaml:9"})
    board = quiet_board(spec)
    sent = mocker.spy(board, "execute")
    with pytest.raises(LimitExceeded, match=r"current that ends a ramp 2 mA .* 1 mA \(amps_max\), set in board.yaml:9"):
        program(board, "test", whole(spec), targets(), replace(IGVVA, amps_max=2e-3))
    assert not sent.called


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"set": SET_GATE}, "reset_low is missing: a ramp needs reset_low, reset_high, reset_step, or reset"),
        ({"reset": RESET_VOLTS, "gate_low": 0.5}, "set_volts is missing: a ramp needs set_volts, gate_low"),
        ({**SHORT, "set": SET_VOLTS}, "set_volts says again what set says; leave set_volts, gate_low"),
        ({**SHORT, "slope": 4e-4}, "flat is missing: slope alone"),
        ({**SHORT, "flat": 4e-6}, "slope is missing: flat alone"),
        ({**SHORT, "rises": 0}, "rises must be at least 1"),
        ({**SHORT, "rise": 0.0}, "rise must be above 0"),
        ({**SHORT, "delay": -1.0}, "delay must be at least 0"),
        ({**SHORT, "neighbours_every": -1}, "neighbours_every must be at least 0"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused(given, text):
    with pytest.raises(ValueError, match=text):
        ByRamps(window=5e-6, **given)


def test_a_ramp_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="low 2 V lies above high 1 V"):
        VoltsRamp(low=2.0, high=1.0, step=0.1)
    with pytest.raises(ValueError, match="step must be above 0"):
        GateRamp(volts=1.0, low=1.0, high=2.0, step=0.0)
    with pytest.raises(ValueError, match="wait must be above 0"):
        Relaxation(wait=0.0)
    assert VoltsRamp(low=0.5, high=1.0, step=0.25).points.tolist() == [0.5, 0.75, 1.0]


def network(tmp_path, program: str) -> NetworkConfig:
    path = tmp_path / "network.yaml"
    path.write_text(f"program: {program}\n")
    return config.load(path, NetworkConfig).value


def test_run_files_can_name_all_of_it(tmp_path):
    text = """{kind: ramps, window: 12 uS, delay: 10 ms, coded: true, neighbours_every: 500,
      relaxation: {wait: 2 s, rounds: 1}, rise: 2 uA, rise_after: [0.85 V, 5 uA], slope: 400 uS, flat: 5 uA,
      set: {kind: volts, low: 0.6 V, high: 1.4 V, step: 10 mV, gate: 2 V},
      reset: {kind: gate, volts: 1.4 V, low: 0.6 V, high: 2 V, step: 20 mV}}"""
    assert network(tmp_path, text).program == ByRamps(
        window=12e-6, delay=0.01, coded=True, neighbours_every=500, relaxation=Relaxation(wait=2.0, rounds=1),
        rise=2e-6, rise_after=(0.85, 5e-6), slope=4e-4, flat=5e-6,
        set=VoltsRamp(low=0.6, high=1.4, step=0.01, gate=2.0),
        reset=GateRamp(volts=1.4, low=0.6, high=2.0, step=0.02),
    )  # fmt: skip
    flat = "{kind: ramps, window: 5 uS, set_volts: 1.2 V, gate_low: 0.5 V, gate_high: 2 V, gate_step: 10 mV, "
    flat += "reset_low: 0.6 V, reset_high: 1.8 V, reset_step: 10 mV}"
    assert network(tmp_path, flat).program == ByRamps(window=5e-6, **SHORT)
    with pytest.raises(ConfigError, match=r"program.*reset_step is missing"):
        network(tmp_path, flat.replace(", reset_step: 10 mV", ""))
