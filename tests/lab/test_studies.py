"""Studies as commands: what they write, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hil.errors import UsageError
from hil.lab import studies, tables
from hil.lab.cli import main
from protocols.studies.study import Axis, Series, Study, Table

FOUND = Study(
    name="small",
    title="A small study",
    table=Table("Measured", ("T", "kind", "angle"), ((1, "walsh", 0.123456789), (1000, "a|b", None))),
    published=(Table("Paper, doi 1", ("T",), ((7,),)),),
    x=Axis(label="T", log=True),
    y=Axis(label="angle"),
    series=(
        Series("walsh", (1, 1000), (0.1, 2.0)), Series("law", (1, 9), (1, 2), "law"),
        Series("p", (7,), (1,), "published"),
    ),
    notes=("it fell",),
)  # fmt: skip


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[studies.Effort]:
    """A study named ``small`` that is there at once; gives what was asked of it."""
    asked: list[studies.Effort] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(studies.STUDIES, "small", lambda effort: asked.append(effort) or FOUND)
    return asked


def test_what_a_study_writes() -> None:
    written = studies.study("small", out=Path("out"))
    assert {path.name for path in Path("out").iterdir()} == {"small.csv", "small.md", "small.png", "published-1.csv"}
    rows = list(csv.reader(Path("out/small.csv").read_text().splitlines()))
    assert rows == [["T", "kind", "angle"], ["1", "walsh", "0.123456789"], ["1000", "a|b", ""]]
    text = Path("out/small.md").read_text()
    assert "| 1,000 | a\\|b | - |" in text and "Paper, doi 1" in text and "- it fell" in text
    picture = Path("out/small.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) > 10_000
    assert json.dumps(written.as_dict()) and "small.png" in text


def test_folders_and_efforts(small: list[studies.Effort]) -> None:
    written = studies.study("small", seeds=3, quick=True)
    assert written.folder.parent == Path("runs") and written.folder.name.startswith("study-small-")
    assert small[0].seeds == 3 and small[0].quick and small[0].replicas(100, 10) == 3
    assert studies.Effort().replicas(100, 10) == 100 and studies.Effort(quick=True).replicas(100, 10) == 10


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="angle, physics_aware, size, tau, xor"):
        studies.study("nothing")
    with pytest.raises(UsageError, match="--seeds must be at least 1"):
        studies.study("small", seeds=0)
    Path("full").mkdir()
    Path("full/x").touch()
    with pytest.raises(UsageError, match="there already"):
        studies.study("small", out=Path("full"))
    assert not Path("runs").exists()


def test_the_command_prints_the_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "small", "--out", "a"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "A small study" in shown and "0.1235" in shown and "it fell" in shown
    with pytest.raises(SystemExit):
        main(["study", "small", "--out", "b", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["study"] == "small" and found["rows"][0] == {"T": 1, "kind": "walsh", "angle": 0.123456789}
    with pytest.raises(SystemExit) as ended:
        main(["study", "nothing", "--json"])
    assert ended.value.code == 2


def test_tables_on_a_terminal_are_aligned() -> None:
    lines = tables.as_text(("name", "n"), [("a", 1), ("longer", 12_345), ("b", None)])
    assert lines == ["name         n", "a            1", "longer  12,345", "b            -"]
