"""Comparisons: each run in its folder, one table and one figure, and nothing told that the runs did not record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.errors import ConfigError, UsageError
from hil.lab import checkpoint as checkpoints
from hil.lab import config
from hil.lab.compare import COLUMNS, compare
from hil.lab.record import Record

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All folders lie below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn() -> None:
    """For the test of the figure: it is drawn."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw the figure takes longer than these runs."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("hil.lab.compare.figure", lambda comparison: PNG)


@pytest.fixture
def run_file(here: Path, xor: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """``run_file("a", steps=3)``: a run file in the test's folder."""

    def write(stem: str, **changes: Any) -> Path:
        path = here / f"{stem}.yaml"
        path.write_text(config.dump(xor(**({"name": stem} | changes))))
        return path

    return write


def test_one_table_and_one_figure_beside_the_runs(bench: Any, run_file: Callable[..., Path], drawn: None) -> None:
    fewer = {"evaluate_every": 10, "checkpoint_every": 10}
    found = compare([run_file("one", **fewer), run_file("two", steps=20, **fewer)], out=Path("both"))
    assert found.exit_code == 0 and found.warnings == () and [entry.name for entry in found.entries] == ["one", "two"]
    assert {path.name for path in Path("both").iterdir()} == {
        "one", "two", "comparison.csv", "curves.csv", "comparison.md", "comparison.png",
    }  # fmt: skip
    rows = list(csv.DictReader(Path("both/comparison.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    for row, entry in zip(rows, found.entries, strict=True):
        result = json.loads(Path(f"both/{entry.name}/result.json").read_text())
        assert float(row["test accuracy"]) == result["test_accuracy"]
        assert [int(row["steps"]), int(row["read events"]), int(row["pulses"])] == [
            result["steps"], result["reads"], result["pulses"],
        ]  # fmt: skip
    picture = Path("both/comparison.png").read_bytes()
    assert picture.startswith(PNG) and len(picture) > 10_000


def test_what_is_told_is_what_the_runs_recorded(bench: Any, run_file: Callable[..., Path]) -> None:
    (entry,) = compare([run_file("one")], out=Path("all")).entries
    record = Record(Path("all/one/run.db"))
    try:
        steps, looks = record.steps(), record.evaluations("test_accuracy")
    finally:
        record.close()
    assert [(point.steps, point.accuracy) for point in entry.curve] == [(step + 1, value) for step, value in looks]
    assert entry.curve[0].lab_seconds == 0.0 and entry.curve[-1].lab_seconds == steps[-1].lab_seconds
    newest = checkpoints.latest(Path("all/one"))
    assert newest is not None
    assert entry.most_pulses == int(checkpoints.read(newest).board["wear.run"].max()) > 0
    looked = list(csv.DictReader(Path("all/curves.csv").read_text().splitlines()))
    assert [float(row["test accuracy"]) for row in looked] == [value for _, value in looks]


def test_what_differs_is_warned_of(bench: Any, run_file: Callable[..., Path], here: Path) -> None:
    ideal = Path(__file__).parents[2] / "config" / "boards" / "ideal.yaml"
    files = [run_file("a"), run_file("b", task={"kind": "xor", "batch": 2}, seed=5), run_file("c", board=str(ideal))]
    found = compare(files, overrides=["steps=1"])
    told = "\n".join(found.warnings)
    assert "b learns another task than a" in told and "b has another seed" in told and "c runs on another board" in told
    assert len(found.warnings) == 3 and found.warnings[0] in Path(found.folder, "comparison.md").read_text()
    assert found.folder.resolve().parent == (here / "runs").resolve()


def test_settings_apply_to_all_and_equal_names_get_numbers(bench: Any, run_file: Callable[..., Path]) -> None:
    file = run_file("same")
    found = compare([file, file, file], out=Path("out"), overrides=["steps=2"])
    assert [entry.name for entry in found.entries] == ["same", "same-2", "same-3"]
    assert all(entry.result.steps == 2 for entry in found.entries)
    assert len({entry.result.test_accuracy for entry in found.entries}) == 1


def test_a_run_that_fails_does_not_keep_the_others(bench: Any, run_file: Callable[..., Path]) -> None:
    files = [run_file("bad", limits={"pulses_per_run": 1}), run_file("good", steps=2)]
    found = compare(files, out=Path("out"))
    bad, good = found.entries
    assert bad.result.status == "failed" and good.result.status == "done"
    assert found.exit_code == bad.result.exit_code == 5
    assert found.as_dict()["status"] == "failed" and json.dumps(found.as_dict())
    assert any(line.startswith("bad: ") for line in found.lines())
    assert Path("out/comparison.png").is_file()


def test_who_ends_a_run_ends_the_comparison(bench: Any, run_file: Callable[..., Path]) -> None:
    from hil.lab.stop import StopToken

    stop = StopToken()
    bench.before = lambda number: stop.stop() if number == 30 else None
    found = compare([run_file("one"), run_file("two")], out=Path("out"), stop=stop)
    assert [entry.result.status for entry in found.entries] == ["stopped"] and found.exit_code == 4
    assert not Path("out/two").exists()


def test_nothing_is_run_when_a_file_cannot_be_used(bench: Any, run_file: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError):
        compare([run_file("one"), run_file("two", steps=0)], out=Path("out"))
    assert not Path("out").exists() and bench.lists == 0


def test_folders_that_hold_something_are_left_alone(bench: Any, run_file: Callable[..., Path]) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        compare([run_file("one")], out=Path("out"))
    with pytest.raises(UsageError, match="at least one"):
        compare([])
    assert [path.name for path in Path("out").iterdir()] == ["notes.txt"]
