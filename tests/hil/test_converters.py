"""Codes and values: exact grids, both ways, in every dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Flag, Shape
from hil.converters import Converter
from sim_backend.gates import Gates

pure = settings(deadline=None, derandomize=True, max_examples=50)
steps = st.floats(1e-9, 1.0)
DTYPES = [torch.float32, torch.float64]


@pure
@given(steps, st.integers(-2048, 0), st.integers(1, 4095), st.sampled_from(DTYPES))
def test_every_code_survives_a_round_trip(step, first, last, dtype):
    converter = Converter(first * step, last * step, step)
    assert (converter.first, converter.last) == (first, last)
    codes = torch.arange(first, last + 1, dtype=dtype)
    values = converter.values(codes)
    assert torch.equal(converter.codes(values), codes)
    assert torch.equal(converter.quantised(values), values)
    assert float(converter.values(torch.zeros(1))) == 0.0


@pure
@given(steps, st.lists(st.floats(-1000.0, 1000.0), min_size=1, max_size=20))
def test_a_value_moves_by_at_most_half_a_step(step, factors):
    values = torch.tensor(factors, dtype=torch.float64) * step
    kept = values.clone()
    moved = Converter(-1.0, 1.0, step).quantised(values) - values
    assert float(moved.abs().max()) <= step * (0.5 + 1e-9)
    assert torch.equal(values, kept)


@pure
@given(st.lists(st.floats(-20.0, 20.0), min_size=0, max_size=20), st.sampled_from(DTYPES))
def test_sampling_rounds_bounds_and_flags(factors, dtype):
    converter = Converter(-0.5, 1.0, 0.1)
    values = torch.tensor(factors, dtype=dtype) * 0.1
    codes = (values * (1.0 / 0.1)).round()
    got, flags = converter.sample_(values.clone())
    assert torch.equal(got, codes.clamp(-5, 10) * 0.1)
    railed = (codes <= -5) * int(Flag.SAT_LOW) + (codes >= 10) * int(Flag.SAT_HIGH)
    assert (flags is None) == (not bool(railed.any()))
    assert flags is None or torch.equal(flags, railed.to(torch.uint8))


@pytest.mark.parametrize("name", ["daffodil"])
def test_the_converters_of_the_board_files_have_their_bits(board_file, name):
    """12 bits both ways: inputs share one 5 V span of 4096 codes, readings too."""
    reading = board_file(name).spec.reading
    (chosen,) = reading.ranges
    assert 5.0 / reading.volts_step == pytest.approx(4096)
    assert (chosen.negative + chosen.positive) / chosen.step == pytest.approx(4096, abs=1)
    assert chosen.step * 2000 == pytest.approx(5.0 / 4096)  # one code through 2 kohm


def test_the_gate_curve_of_the_daffodil_board_is_its_transistor(board_file):
    """4000 uA ((V - 0.5) / 2.5)^2, read log-log between the points of the table."""
    file = board_file("daffodil")
    gates = Gates(file.spec, file.simulator.gate_threshold)
    volts = torch.linspace(0.55, 3.1, 200, dtype=torch.float64)
    amps = gates.let_through(Shape(0.8, 1e-3, volts))
    torch.testing.assert_close(amps, 4e-3 * ((volts - 0.5) / 2.5).square(), rtol=0.05, atol=0.0)
