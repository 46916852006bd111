"""Board files: the kinds there are, what each of them checks, and the physics of their dry runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.errors import ConfigError
from hil.lab import config
from hil.lab.boardfile import ADDRESSES, BoardFile, simulator_of
from hil.lab.opening import read_board
from instruments.arcone.refusals import refuse_spec as refuse_arcone
from instruments.smu.refusals import refuse_spec as refuse_smu_matrix
from instruments.virtual.arcone import inside_spec
from sim_backend.board import SimBoard

BOARDS = Path(__file__).parents[2] / "config" / "boards"
FILES = {
    "ideal": "simulated",
    "daffodil": "simulated",
    "daffodil_framed": "framed",
    "arcone": "arcone",
    "smu_matrix": "smu_matrix",
}


@pytest.fixture(scope="module")
def plain() -> Callable[[str], dict[str, Any]]:
    """The content of a file of config/boards, to be changed."""
    schema: Any = BoardFile
    read = {name: config.load(BOARDS / f"{name}.yaml", schema).plain for name in FILES}
    return lambda name: copy.deepcopy(read[name])


@pytest.mark.parametrize("name", FILES)
def test_files_of_this_project(name: str) -> None:
    found = read_board(BOARDS / f"{name}.yaml")
    board = found.value
    assert board.kind == FILES[name]
    assert board.spec.source("limits.read_cell_volts").startswith(f"{BOARDS / name}.yaml:")
    assert read_board(config.from_mapping(found.plain, type(board)).plain).value.kind == board.kind
    assert sorted(key for key in found.plain if key in ADDRESSES) == sorted(k for k in ADDRESSES if hasattr(board, k))
    inside(board)  # its physics fits its spec


def test_the_framed_file_is_the_simulated_board_behind_a_wire() -> None:
    framed, simulated = (read_board(BOARDS / f"{name}.yaml").plain for name in ("daffodil_framed", "daffodil"))
    specs = [copy.deepcopy(each["spec"]) for each in (framed, simulated)]
    for spec in specs:
        spec["identity"].pop("serial")
        spec["abilities"].pop("watchdog", None)
    assert specs[0] == specs[1] and framed["simulator"] == simulated["simulator"]


def test_files_are_what_their_drivers_want(plain: Callable[[str], dict[str, Any]]) -> None:
    refuse_arcone(read_board(plain("arcone")).value.spec)
    smu: Any = read_board(plain("smu_matrix")).value
    refuse_smu_matrix(smu.spec, smu.driver)


def inside(board: Any) -> SimBoard:
    """The simulator in place of a board, as dry runs have it."""
    return SimBoard(inside_spec(board.spec), simulator_of(board), 0)


WRONG = [
    ("daffodil_framed", {"watchdog": "-1 s"}, "watchdog"),
    ("daffodil_framed", {"timeout": "0 s"}, "timeout"),
    ("daffodil_framed", {"url": None}, "url"),
    ("daffodil_framed", {"kind": "wireless"}, "kind"),
    ("daffodil_framed", {"source_url": "tcp://127.0.0.1:1"}, "source_url"),
    ("arcone", {"driver": {"baud": 0}}, "baud"),
    ("arcone", {"driver": {"read_mode": "guess"}}, "read_mode"),
    ("smu_matrix", {"matrix_url": None}, "matrix_url"),
    ("smu_matrix", {"driver": {"rows": [["1A01"]], "cols": [["1A02"]]}}, "matrix row A"),
    ("smu_matrix", {"driver": {"rows": [["9A01"]], "cols": [["1B02"]]}}, "is not a channel"),
    ("smu_matrix", {"driver": {"rows": [["1A01; reset()"]], "cols": [["1B02"]]}}, "is not a channel"),
]


@pytest.mark.parametrize(("name", "changes", "told"), WRONG)
def test_what_cannot_be_meant_is_refused(
    plain: Callable[[str], dict[str, Any]], name: str, changes: dict[str, Any], told: str
) -> None:
    content = plain(name) | changes
    with pytest.raises(ConfigError, match=told):
        read_board({key: value for key, value in content.items() if value is not None})


def test_a_gated_array_needs_a_threshold_in_its_physics(plain: Callable[[str], dict[str, Any]]) -> None:
    content = plain("daffodil_framed")
    del content["simulator"]["gate_threshold"]
    with pytest.raises(ConfigError, match="simulator needs a gate_threshold"):
        read_board(content)


@pytest.mark.parametrize("name", ["daffodil_framed", "arcone", "smu_matrix"])
def test_physics_made_of_the_spec(plain: Callable[[str], dict[str, Any]], name: str) -> None:
    content = plain(name)
    del content["simulator"]
    board = read_board(content).value
    made, spec = simulator_of(board), board.spec
    assert "for a dry run" in made.source
    assert made.law.high == spec.limits.siemens_high and 0 < made.law.low < made.law.high  # type: ignore[union-attr]
    gates = [v for v in (spec.writing.up_gate, spec.writing.down_gate, spec.reading.gate) if v]
    assert (made.gate_threshold is None) == (spec.geometry.selector == "passive")
    assert made.gate_threshold is None or made.gate_threshold < min(gates)
    inside(board)
