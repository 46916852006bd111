"""Board files and run files whose numbers make no sense are refused with their line, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ConfigError
from hil.lab.opening import read_board
from hil.lab.runs import read_plan

DAFFODIL = Path(__file__).parents[2] / "config" / "boards" / "daffodil.yaml"
WRONG = [
    ("kernels: 32", "kernels: 0", "spec.geometry.kernels: kernels must be at least 1, got 0"),
    ("rows: 25", "rows: -1", "spec.geometry.rows: rows must be at least 1"),
    ("gate_lines: cols", "gate_lines: null", "spec.geometry.gate_lines: gate_lines must name a side on a gated array"),
    ("selector: gated", "selector: passive", "gate_lines must be null on a passive array"),
    ("volts_step: 1.22", "volts_step: -1.22", "spec.reading.volts_step: volts_step must be above 0"),
    ("volts_low: -0.8 V", "volts_low: 4 V", "spec.reading.volts_low: volts_low 4 V must lie below volts_high 3.1 V"),
    ("negative: 1.65 mA", "negative: -1 mA", "spec.reading.ranges.0.negative: negative must be at least 0"),
    ("step: 0.6103515625 uA", "step: 0 A", "spec.reading.ranges.0.step: step must be above 0"),
    ("step: 2.2 uS", "step: 0 S", "spec.writing.step: step must be above 0"),
    ("up_gate: 2.0 V", "up_gate: null", "spec.writing: writing needs up_gate and down_gate"),
    ("[0.51 V, 0.064 uA]", "[9 V, 0.064 uA]", "spec.writing.gate_curve: gate_curve must rise"),
    ("[0.51 V, 0.064 uA]", "[0 V, 0.064 uA]", "spec.writing.gate_curve: gate_curve must hold volts"),
    ("read_cell_volts: 0.3 V", "read_cell_volts: 0 V", "spec.limits.read_cell_volts: read_cell_volts must be above 0"),
    ("write_volts: 2.0 V", "write_volts: -2.0 V", "spec.limits.write_volts: write_volts must be at least 0"),
    ("siemens_low: 5 uS", "siemens_low: 300 uS", "spec.limits.siemens_low: siemens_low 0.0003 S must lie below"),
    ("pulses_per_run: 100000", "pulses_per_run: -3", "spec.limits.pulses_per_run: pulses_per_run must be at least 0"),
    ("read_event: 60 ms", "read_event: -60 ms", "spec.timing.read_event: read_event must be at least 0"),
    ("slice: 1 s", "slice: 0 s", "spec.timing.slice: slice must be above 0"),
    ("kernel_select: 0 s", "parallel_kernels: 0", "spec.timing.parallel_kernels: parallel_kernels must be at least 1"),
    ("ops: [Read,", "ops: [Reed,", "spec.abilities.ops: ops names the unknown operation 'Reed'"),
    ("low: 10 uS", "low: 500 uS", "simulator.law.low: low 0.0005 S must lie below high 0.00023 S"),
    ("states: 100", "states: 0", "simulator.law.states: states must be above 0"),
    ("start: 0.5", "start: 1.5", "simulator.law.start: start must lie between 0 and 1"),
    ("volts_per_decade: 0.35 V", "volts_per_decade: 0 V", "simulator.law.volts_per_decade: volts_per_decade must be"),
    ("read_noise: 1 uS", "read_noise: -1 uS", "simulator.read_noise: read_noise must be at least 0"),
    ("gate_threshold: 0.5 V", "gate_threshold: null", "simulator: simulator needs a gate_threshold"),
    ("short_siemens: 500 uS", "short_siemens: -1 uS", "simulator.faults.short_siemens: short_siemens must be at least"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), WRONG, ids=[new for _, new, _ in WRONG])
def test_a_number_that_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = DAFFODIL.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "board.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_board(path)
    assert caught.value.exit_code == 2
    assert problem in str(caught.value)
    assert all(line.startswith(f"{path}:") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("name=../x", 'name: name "../x" cannot be used'),
        ("threads=100000", "threads: threads must be at most 64"),
        ("limits.read_array_volts=0 V", "limits.read_array_volts: read_array_volts must be above 0"),
        ("limits.write_volts=9 V", "limits.write_volts: 9 V is looser than the board's 2 V"),
        ("network.backward={kind: twin, bound: 0}", "network.backward.bound: bound must be above 0"),
        ("network.program.averages=0", "network.program.averages: averages must be at least 1"),
    ],
)
def test_a_run_file_that_makes_no_sense_is_refused_at_its_key(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(DAFFODIL.parents[1] / "runs" / "xor_node.yaml", [setting])
    assert str(caught.value).startswith(f"--set {setting}: ") and problem in str(caught.value)
