"""Line resistance against stored solutions of badcrossbar 1.1.0 (numbers only), to 1e-9 of full scale."""

import json
from pathlib import Path

import pytest
import torch

from sim_backend.wires import Circuit, Ends, kirchhoff, solve, transfer_matrix

CASES = json.loads((Path(__file__).parent / "badcrossbar.json").read_text())

FLOATS = ("2x2_equal", "8x8_mixed")
"""Cases whose currents are so small that one rounding of a node voltage is more than 1e-12 of them."""


def tensors(name):
    case = CASES[name]
    g, volts, amps = (torch.tensor(case[key], dtype=torch.float64) for key in ("G", "V", "I"))
    return g, volts.T, amps, case["r_word"], case["r_bit"]


@pytest.mark.parametrize("name", CASES)
def test_transfer_matrix(name):
    g, volts, amps, r_word, r_bit = tensors(name)
    k = transfer_matrix(g, r_word, r_bit)
    assert (volts @ k - amps).abs().max() <= 1e-9 * amps.abs().max()
    assert (volts @ k - amps).abs().max() <= 2e-14 * amps.abs().max()  # what a correct direct solver reaches


@pytest.mark.parametrize("name", CASES)
def test_conjugate_gradients(name):
    g, volts, amps, r_word, r_bit = tensors(name)
    found = solve(g, volts, r_word, r_bit)
    assert (found.currents - amps).abs().max() <= 1e-9 * amps.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_kirchhoff(name):
    g, volts, amps, r_word, r_bit = tensors(name)
    found = solve(g, volts, r_word, r_bit, tol=1e-13)
    left = kirchhoff(g, Circuit.of(r_word, r_bit, Ends()), found, volts)
    assert left.max() <= 2e-16  # the stored solutions' own residual, see below
    if name not in FLOATS:
        assert left.max() <= 1e-12 * amps.abs().max()


@pytest.mark.parametrize("name", ["2x2_asym", "3x4_mixed"])
def test_node_voltages(name):
    g, volts, _, r_word, r_bit = tensors(name)
    found = solve(g, volts, r_word, r_bit, tol=1e-13)
    for nodes, key in ((found.word, "v_word"), (found.bit, "v_bit")):
        stored = torch.tensor(CASES[name][key], dtype=torch.float64).permute(2, 0, 1)
        torch.testing.assert_close(nodes, stored, rtol=1e-12, atol=1e-15)


def test_the_cases_tell_wires_from_none():
    for name in CASES:
        g, volts, amps, _, _ = tensors(name)
        assert (volts @ g - amps).abs().max() > 1e-4 * amps.abs().max()
