"""A technician characterises a board and trains on the simulator of what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.lab import config
from hil.lab.opening import read_board

ROOT = Path(__file__).parents[2]
PLAN = ("--plan", ROOT / "config" / "plans" / "quick.yaml", "--set", "stuck.kernels=1", "--set", "response.points=12")


@pytest.mark.slow
def test_a_run_trains_on_the_board_that_was_measured(
    here: Callable[..., Any], board: Path, run_file: Callable[..., Path], tmp_path: Path
) -> None:
    code, out, err = here("characterize", board, "--out", "chip", *PLAN, "--json")
    assert code == 0, err
    found = json.loads(out.rstrip().rsplit("\n", 1)[-1])
    assert found["status"] == "done" and found["safe"] == "SAFE confirmed"
    law = read_board(tmp_path / "chip" / "board.yaml").value
    assert "hil characterize" in config.dump(read_board(tmp_path / "chip" / "board.yaml").plain)
    assert law.spec.identity.serial == "daffodil-sim-1"

    code, out, err = here("run", run_file(steps=5), "--set", "board=chip/board.yaml", "--out", "run", "--json")
    assert code == 0, err
    assert json.loads(out.rstrip().rsplit("\n", 1)[-1])["status"] == "done"
    assert "(characterised)" in (tmp_path / "run" / "board.yaml").read_text()
