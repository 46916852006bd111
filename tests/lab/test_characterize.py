"""``hil characterize``: what it promises before, what it writes, and how it ends when something goes wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from framed_boards import framed
from safetensors.torch import load

from hil.contract import Op, Outcome
from hil.errors import ConfigError, LimitExceeded, UsageError
from hil.lab import config, yaml_text
from hil.lab.boardfile import SimulatedBoard
from hil.lab.characterizing import Characterized, Price, characterize, read_plan
from hil.lab.cli import main
from hil.lab.opening import read_board
from hil.lab.stop import StopToken
from protocols.characterise.plan import Plan
from protocols.characterise.stuck import Cell
from sim_backend.board import SimBoard
from sim_backend.config import DeviceFile
from sim_backend.fit.samples import read_samples

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
QUICK = ("response.points=16", "response.cycles=1", "noise.repeats=12", "lines=null", "drift.seconds=5 s")


def small(name: str = "daffodil", **simulator: Any) -> dict[str, Any]:
    """A board file's content: two kernels of 12 x 10 cells."""
    content = cast("dict[str, Any]", yaml_text.read_file(ROOT / "config" / "boards" / f"{name}.yaml").value)
    content["spec"]["geometry"] |= {"kernels": 2, "rows": 12, "cols": 10}
    content["simulator"] |= {"seed": 5, **simulator}
    return content


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plain(mocker: Any) -> None:
    """Leaves the figures out; they have a test of their own, and take longer than all else."""
    mocker.patch("hil.lab.characterization_files.figures", return_value={})


def done(board: dict[str, Any], *settings: str, **options: Any) -> Characterized:
    found = characterize(board, overrides=(*QUICK, *settings), **options)
    assert isinstance(found, Characterized)
    return found


def results(found: Characterized) -> dict[str, Any]:
    return json.loads((found.folder / "characterization.json").read_text())["results"]


# -- what it writes ----------------------------------------------------------------------------------------------------


def test_the_files_are_whole_and_the_simulator_loads_them(plain: None, tmp_path: Path) -> None:
    found = done(small(), out=tmp_path / "found")
    assert (found.status, found.exit_code, found.safe) == ("done", 0, "SAFE confirmed")
    assert sorted(found.files) == sorted(path.name for path in found.folder.iterdir())

    device = config.load(found.folder / "device.yaml", DeviceFile).value
    assert "daffodil-sim-1" in device.source and "hil characterize" in device.source and "not measured" in device.source
    board = cast(SimulatedBoard, read_board(found.folder / "board.yaml").value)
    assert board.simulator.law == device.law
    assert board.spec.geometry.rows == 12
    assert SimBoard(board.spec, board.simulator).chip.state["g"].shape == (2, 12, 10)

    whole = json.loads((found.folder / "characterization.json").read_text())
    assert whole["board"]["serial"] == "daffodil-sim-1"
    assert whole["ledger"]["pulses"] > 0
    assert whole["plan"]["noise"] == {"repeats": 12}
    assert all({"value", "error", "unit"} <= part.keys() for part in whole["results"].values())
    assert len(whole["lines"]["offset, A"]) == 12

    chip = load((found.folder / "chip.safetensors").read_bytes())
    assert chip["stuck.kind"].shape == (2, 12, 10)
    rows = list(csv.DictReader((found.folder / "stuck.csv").read_text().splitlines()))
    listed = torch.zeros(2, 12, 10, dtype=torch.bool)
    for row in rows:
        listed[int(row["kernel"]), int(row["row"]), int(row["col"])] = row["kind"] != "weak"
    assert torch.equal(listed, chip["stuck.kind"] != int(Cell.GOOD))


def test_a_board_that_was_characterised_has_the_numbers_of_the_first(plain: None, tmp_path: Path) -> None:
    """Within the stated errors: noise 10 %, bounds 3 %, states 15 %, share of stuck cells within four errors."""
    truth = small(read_noise="1 uS", amplifier_noise="0.3 uA")
    truth["spec"]["geometry"] |= {"kernels": 4, "rows": 16, "cols": 16}
    wide = ("noise.kernels=4", "noise.repeats=24", "response.kernels=4", "response.cycles=2")
    first = done(truth, *wide, out=tmp_path / "first")
    law = truth["simulator"]["law"]
    found = results(first)

    def value(name: str) -> float:
        return found[name]["value"]

    assert value("read_noise") == pytest.approx(1e-6, rel=0.1)
    assert value("amplifier_noise") == pytest.approx(3e-7, rel=0.1)
    assert value("low") == pytest.approx(10e-6, abs=0.03 * 220e-6)
    assert value("high") == pytest.approx(230e-6, rel=0.03)
    assert value("states") == pytest.approx(law["states"], rel=0.15)
    assert value("step_std") == pytest.approx(law["step_std"], rel=0.15)
    assert value("code step") == pytest.approx(0.6103515625e-6, rel=1e-3)
    assert value("stuck cells") == pytest.approx(0.05, abs=4 * found["stuck cells"]["error"])
    again = results(done(dict(read_board(first.folder / "board.yaml").plain), *wide, out=tmp_path / "again"))
    for name in ("read_noise", "amplifier_noise", "low", "high", "states"):
        assert again[name]["value"] == pytest.approx(value(name), rel=0.1, abs=4 * found[name]["error"])


def test_line_resistance_and_channel_errors_come_back_through_the_files(plain: None, tmp_path: Path) -> None:
    board = small(wires={"word_segment": "4 ohm", "bit_segment": "2 ohm"}, amplifiers={"offset": "0.5 uA"}, faults={})
    found = done(board, "lines={averages: 64}", "noise.repeats=32", out=tmp_path / "found")
    number = results(found)
    for name, true in (("word_segment", 4.0), ("bit_segment", 2.0)):
        assert number[name]["value"] == pytest.approx(true, abs=4 * number[name]["error"])
        assert number[name]["error"] < 0.2 * true
    assert number["high"]["value"] == pytest.approx(230e-6, rel=0.03), "behind the wires"
    written = cast(SimulatedBoard, read_board(found.folder / "board.yaml").value).simulator
    assert written.wires is not None and written.amplifiers is not None
    assert written.wires.word_segment == pytest.approx(4.0, rel=0.2)
    shown = json.loads((found.folder / "characterization.json").read_text())["lines"]["offset, A"]
    assert written.amplifiers.offset == pytest.approx(torch.tensor(shown).square().mean().sqrt().item(), rel=0.05)


def test_single_pulses_are_written_as_device_fit_reads_them(plain: None) -> None:
    found = done(small(), "response.singles=true")
    samples = read_samples(found.folder / "samples.csv")
    assert samples.counts()[0] == samples.counts()[1] > 200
    assert samples.shapes(True)[0][:2] == (0.8, 1e-3)


def test_figures_are_drawn(tmp_path: Path) -> None:
    found = done(small(), out=tmp_path / "found")
    pictures = [name for name in found.files if name.endswith(".png")]
    assert pictures == ["noise.png", "map.png", "response.png", "cells.png"]
    assert all((found.folder / name).read_bytes().startswith(PNG) for name in pictures)


def test_what_the_plan_leaves_out_is_not_in_the_files(plain: None) -> None:
    found = done(small(), "response=null", "stuck=null", "gates=null", "drift=null")
    assert found.status == "done"
    assert "board.yaml" not in found.files and "stuck.csv" not in found.files
    assert found.ledger["pulses"] == 0
    assert "read_noise" in results(found)


# -- before it starts --------------------------------------------------------------------------------------------------


def test_the_price_is_what_it_costs(plain: None) -> None:
    board = small(faults={"fraction": 0.0})
    said: list[str] = []
    price = characterize(board, overrides=QUICK, dry=True, say=said.append)
    assert isinstance(price, Price)
    assert "lab time" in said[0] and "at most" in said[1]
    assert not Path("runs").exists()
    found = done(board)
    assert price.seconds == pytest.approx(found.ledger["lab_seconds"], rel=0.02)  # the gates are found a little sooner
    assert sum(part[3] for part in price.parts) == found.ledger["pulses"]
    assert sum(part[2] for part in price.parts) == pytest.approx(found.ledger["reads"], rel=0.02)
    worst = 3 * round((240e-6 - 5e-6) / 2.2e-6 / 3) + 3 * round(1.6 * 107)
    assert price.pulses_per_cell == worst


def test_a_plan_above_a_budget_is_refused_before_anything_is_sent(mocker: Any) -> None:
    opened = mocker.patch("hil.lab.characterizing.open_board")
    with pytest.raises(UsageError, match="most_pulses of 100"):
        characterize(small(), overrides=(*QUICK, "most_pulses=100"))
    tight = small()
    tight["spec"]["limits"]["pulses_per_run"] = 50
    with pytest.raises(LimitExceeded, match="pulses per run"):
        characterize(tight, overrides=QUICK)
    opened.assert_not_called()
    assert not Path("runs").exists()


def test_a_plan_that_a_chips_life_does_not_hold_is_refused(mocker: Any) -> None:
    from hil.lab import characterizing

    real = characterizing.open_board

    def worn(*args: Any, **named: Any) -> Any:
        backend = real(*args, **named)
        characterizing.guard_of(backend).wear.life += 9_999_900
        return backend

    mocker.patch("hil.lab.characterizing.open_board", worn)
    with pytest.raises(LimitExceeded, match="pulses per life"):
        done(small())


def test_plans_are_checked() -> None:
    with pytest.raises(ConfigError, match="levels"):
        read_plan(None, ("noise.levels=[0.0, 1.0]",))
    with pytest.raises(ConfigError, match="pulse"):
        read_plan(None, ("response.pulse=3",))
    for path in sorted((ROOT / "config" / "plans").glob("*.yaml")):
        assert isinstance(read_plan(path, ()).value, Plan)
        assert read_plan(path, ()).value.source


# -- how it ends -------------------------------------------------------------------------------------------------------


class Tap:
    """A board that counts what is done to it, and acts before a list."""

    def __init__(self, inner: Any, before: Callable[[int], object]) -> None:
        self.inner, self.before, self.lists, self.safe = inner, before, 0, 0
        self.restorable = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        self.before(self.lists)
        self.lists += 1
        return self.inner.execute(ops)

    def make_safe(self) -> Any:
        self.safe += 1
        return self.inner.make_safe()


@pytest.fixture
def tapped(mocker: Any) -> Callable[[Callable[[int], object]], list[Tap]]:
    """``tapped(before)``: boards that are opened from now on, each with a tap."""

    def install(before: Callable[[int], object]) -> list[Tap]:
        taps: list[Tap] = []

        def make(*args: Any, **named: Any) -> Any:
            taps.append(Tap(SimBoard(*args, **named), before))
            return taps[-1]

        mocker.patch("hil.lab.opening.SimBoard", make)
        return taps

    return install


def test_an_abort_leaves_the_board_safe_and_what_was_measured(plain: None, tapped: Any) -> None:
    stop = StopToken()
    taps = tapped(lambda number: stop.abort("enough") if number == 120 else None)
    found = done(small(), stop=stop)
    assert (found.status, found.exit_code) == ("aborted", 4)
    assert "enough" in str(found.error)
    assert found.safe == "SAFE confirmed" and taps[0].safe >= 1
    assert taps[0].lists == 121, "nothing is sent after the abort"
    assert "read_noise" in results(found)
    assert "board.yaml" not in found.files


def test_an_orderly_stop_ends_it_after_a_measurement(plain: None, tapped: Any) -> None:
    stop = StopToken()
    tapped(lambda number: stop.stop() if number == 3 else None)
    found = done(small(), stop=stop)
    assert (found.status, found.exit_code, found.error) == ("stopped", 4, None)
    assert "gate_threshold" in results(found) and "read_noise" not in results(found)


def test_a_failure_is_told_and_leaves_the_board_safe(plain: None, tapped: Any) -> None:
    from hil.errors import BoardFault

    def fail(number: int) -> None:
        if number == 90:
            raise BoardFault("daffodil", "the supply went away")

    taps = tapped(fail)
    found = done(small())
    assert (found.status, found.exit_code) == ("failed", 3)
    assert "the supply went away" in str(found.error)
    assert taps[0].safe >= 1


def test_over_a_framed_board_the_numbers_are_the_same(plain: None, mocker: Any) -> None:
    here = results(done(small()))
    mocker.patch("hil.lab.opening.SimBoard", lambda *args, **named: framed(SimBoard(*args, **named)))
    there = results(done(small()))
    assert there == here


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_tells_people_and_programs(plain: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(config.dump(small()))
    words = ["characterize", "small.yaml", *(part for setting in QUICK for part in ("--set", setting))]

    def call(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, _ = call("--out", "a")
    assert code == 0
    assert out.index("plan: ") < out.index("scan: ") < out.index("read_noise") < out.index("SAFE confirmed")
    code, out, err = call("--out", "b", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["folder"]) == (0, "done", "b")
    assert found["results"]["read_noise"]["unit"] == "S"
    assert "plan: " in err
    code, out, _ = call("--dry", "--json")
    assert json.loads(out)["lab_seconds"] > 1
    code, _, err = call("--out", "a")
    assert code == 2 and "there already" in err
