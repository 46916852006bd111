"""Stuck cells: how many, of which kind, where they sit, and that they stay there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hil.contract import Outer, Pulse, Shape
from sim_backend.faults import Faults

NONE = {"low": 0.0, "high": 0.0, "open": 0.0, "short": 0.0, "value": 0.0}
UP, DOWN = Shape(1.3, 1e-6, 2.5), Shape(1.5, 1e-6, 3.0)


@pytest.mark.parametrize("kind", list(NONE))
def test_each_kind_sits_where_it_should_and_never_moves(quiet_board, whole, kind):
    faults = Faults(fraction=1.0, short_siemens=7e-4, **NONE | {kind: 1.0})
    board = quiet_board(faults=faults, low_dtod=0.05, high_dtod=0.1)
    params = board.chip.params
    g = board.chip.state["g"].clone()
    if kind == "value":
        assert bool(((g >= params["low"]) & (g <= params["high"])).all())
        share = (g - params["low"]) / (params["high"] - params["low"])
        assert 0.4 < float(share.mean()) < 0.6 and float(share.std()) > 0.2
    else:
        places = {"low": params["low"], "high": params["high"], "open": 0.0, "short": 7e-4}
        assert torch.equal(g, torch.as_tensor(places[kind], dtype=g.dtype).expand(g.shape))
    blocks = whole(board.spec)
    fires = torch.ones(4, 3, 6, dtype=torch.int8), torch.ones(4, 3, 5, dtype=torch.int8)
    pulses = [Pulse(blocks, torch.tensor(count), UP, DOWN) for count in (9, -30)]
    outcomes = board.execute([*pulses, Outer(blocks, *fires, UP, DOWN)])
    assert torch.equal(board.chip.state["g"], g)
    assert [int(o.applied.min()) for o in outcomes] == [9, 30, 3]


def test_a_stuck_cell_wears_though_it_does_not_move(quiet_board, whole):
    board = quiet_board(faults=Faults(fraction=1.0))
    board.execute([Pulse(whole(board.spec), torch.tensor(-4), UP, DOWN)])
    assert torch.equal(board.chip.state["pulses"], torch.full((4, 6, 5), 4, dtype=torch.int32))


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.3])
def test_the_number_of_stuck_cells_is_binomial(spec_of, quiet_board, fraction):
    board = quiet_board(spec_of(kernels=600), faults=Faults(fraction=fraction))
    n = board.chip.state["g"].numel()
    spread = math.sqrt(n * fraction * (1 - fraction))
    assert abs(int(board.chip.state["stuck"].sum()) - n * fraction) <= 4 * spread


def test_the_shares_of_the_kinds_are_multinomial(spec_of, quiet_board):
    shares = {"low": 4.0, "high": 3.0, "open": 1.0, "short": 2.0, "value": 0.0}
    board = quiet_board(spec_of(kernels=600), faults=Faults(fraction=1.0, short_siemens=7e-4, **shares))
    g = board.chip.state["g"]
    n = g.numel()
    for kind, value in (("low", 10e-6), ("high", 210e-6), ("open", 0.0), ("short", 7e-4)):
        p = shares[kind] / 10
        assert abs(int((g == value).sum()) - n * p) <= 4 * math.sqrt(n * p * (1 - p)), kind


def test_more_faults_make_a_larger_part_of_the_chip_stuck_and_leave_the_others_alone(quiet_board):
    few, many = (quiet_board(faults=Faults(fraction=f), start_dtod=0.2).chip.state for f in (0.1, 0.4))
    assert bool((many["stuck"] | ~few["stuck"]).all()) and int(many["stuck"].sum()) > int(few["stuck"].sum())
    free = ~many["stuck"]
    assert torch.equal(few["g"][free], many["g"][free])


@pytest.mark.parametrize("wrong", [{"fraction": 1.5}, {"fraction": -0.1}, {"low": -1.0}, {"low": 0.0, "high": 0.0}])
def test_impossible_faults_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fraction|shares"):
        replace(Faults(), **wrong)
