"""Run folders that were damaged or altered: refused with exit code 2, a place and a reason, quickly and harmlessly."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from hil.lab import checkpoint, runs

Here = Callable[..., tuple[int, str, str]]
Tensors = dict[str, Tensor]


@pytest.fixture
def folder(halted: Path, tmp_path: Path) -> Path:
    """A copy of a run that was stopped after 25 of 60 steps."""
    return Path(shutil.copytree(halted, tmp_path / "run"))


def refused(here: Here, folder: Path, *says: str) -> None:
    """``hil resume`` says no: code 2, a sentence that names a place, within 2 s; results and all outside stay."""
    outside = {path: path.lstat().st_mtime_ns for path in folder.parent.iterdir() if path != folder}
    results = {path: path.read_bytes() for path in (folder / "result.json", folder / "report.html") if path.is_file()}
    began = time.perf_counter()
    code, out, _ = here("resume", folder, "--json")
    assert time.perf_counter() - began < 2.0
    found = json.loads(out.splitlines()[-1])
    assert code == found["exit_code"] == 2 and found["status"] == "failed"
    assert str(folder) in found["error"], "the message names no place"
    for text in says:
        assert text in found["error"], found["error"]
    assert len(found["error"]) < 1000 and found["error"].replace("\n", "").isprintable()
    assert {path: path.lstat().st_mtime_ns for path in folder.parent.iterdir() if path != folder} == outside
    assert all(path.read_bytes() == before for path, before in results.items())


def newest(folder: Path) -> Path:
    found = checkpoint.latest(folder)
    assert found is not None
    return found


def rewrite(path: Path, tensors: Callable[[Tensors], object] | None = None, **header: Any) -> None:
    """Writes a checkpoint anew, well formed, with other tensors and another header."""
    with safe_open(str(path), framework="pt") as file:
        found = {name: file.get_tensor(name).clone() for name in file.keys()}
        meta = dict(file.metadata())
    if tensors is not None:
        tensors(found)
    for key, value in header.items():
        if key in ("format", "json"):
            meta[key] = value
        else:
            meta["json"] = json.dumps(json.loads(meta["json"]) | {key: value})
    path.write_bytes(save(found, meta))


# -- the file itself ---------------------------------------------------------------------------------------------------


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def sparse(path: Path, header: int, size: int) -> None:
    with path.open("wb") as file:
        file.write(header.to_bytes(8, "little"))
        file.truncate(size)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: cut(p, 0), "damaged"),
    "four bytes": (lambda p: cut(p, 4), "damaged"),
    "half a header": (lambda p: cut(p, 500), "damaged"),
    "half a file": (lambda p: cut(p, p.stat().st_size // 2), "move it away to go on from checkpoint-000000020"),
    "garbage": (lambda p: p.write_bytes(os.urandom(5000)), "damaged"),
    "endless header": (lambda p: p.write_bytes(b"\xff" * 8 + b"{}"), "damaged"),
    "large header": (lambda p: sparse(p, 1 << 27, 1 << 28), "header is too large"),
    "huge file": (lambda p: sparse(p, 2, 1 << 40), "too large for a checkpoint"),
    "zeros": (lambda p: sparse(p, 0, 1000), "damaged"),
    "directory": (lambda p: (p.unlink(), p.mkdir()), "no regular file"),
    "fifo": (lambda p: (p.unlink(), os.mkfifo(p)), "no regular file"),
    "link": (lambda p: p.rename(p.with_name("x")) and p.symlink_to(p.with_name("x")), "no regular file"),
    "dangling link": (lambda p: (p.unlink(), p.symlink_to("/nowhere")), "no regular file"),
}


@pytest.mark.parametrize("name", FILES)
def test_checkpoint_files(here: Here, folder: Path, name: str) -> None:
    damage, says = FILES[name]
    path = newest(folder)
    damage(path)
    refused(here, folder, path.name, says)


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "other format": ({"format": "other\x1b[31m"}, "this is not a checkpoint"),
    "no json": ({"json": "{"}, "not JSON"),
    "depth bomb": ({"json": "[" * 100_000 + "]" * 100_000}, "not JSON"),
    "long number": ({"json": "1" * 100_000}, "not JSON"),
    "list": ({"json": "[1, 2]"}, "lacks step, seed or facts"),
    "negative step": ({"step": -1}, "lacks step, seed or facts"),
    "text for a step": ({"step": "25"}, "lacks step, seed or facts"),
    "bool for a seed": ({"seed": True}, "lacks step, seed or facts"),
    "another step": ({"step": 20}, "its name another"),
    "another seed": ({"seed": 4}, "seed was 4"),
    "no facts": ({"facts": None}, "lacks step, seed or facts"),
    "empty facts": ({"facts": {}}, "board was None"),
    "long facts": ({"facts": {"serial": "\x1b" * 100_000}}, "board was None"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_checkpoint_headers(here: Here, folder: Path, name: str) -> None:
    header, says = HEADERS[name]
    rewrite(newest(folder), **header)
    refused(here, folder, says)


@pytest.mark.parametrize("totals", [None, [], {"lists": 1}, {"lists": -1}, {"reads": "many"}, {"lab_seconds": 1e999}])
def test_checkpoint_totals(here: Here, folder: Path, totals: Any) -> None:
    facts = dict(checkpoint.read(newest(folder)).facts)
    whole = isinstance(totals, dict) and totals != {"lists": 1}
    rewrite(newest(folder), facts=facts | {"ledger": facts["ledger"] | totals if whole else totals})
    refused(here, folder, "running total")


TENSORS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "network missing": (lambda t: t.pop("network/layer1.bias"), "'network/layer1.bias' of the checkpoint is missing"),
    "network extra": (
        lambda t: t.update({"network/more": torch.ones(1)}),
        "'network/more' of the checkpoint is unknown",
    ),
    "network shape": (lambda t: t.update({"network/layer1.bias": torch.ones(3)}), "(3,) torch.float32, expected (12,)"),
    "network dtype": (lambda t: t.update({"network/layer1.bias": t["network/layer1.bias"].double()}), "float64"),
    "network NaN": (lambda t: t["network/layer2.bias"].fill_(float("nan")), "not finite"),
    "protocol missing": (lambda t: t.pop("protocol/1/layer1"), "'protocol/1/layer1' of the checkpoint is missing"),
    "protocol inf": (lambda t: t["protocol/1/layer1"].fill_(float("inf")), "not finite"),
    "protocol dtype": (lambda t: t.update({"protocol/1/layer1": t["protocol/1/layer1"].half()}), "float16"),
    "board missing": (lambda t: t.pop("board/chip.g"), "'board/chip.g' of the checkpoint is missing"),
    "board extra": (lambda t: t.update({"board/chip.more": torch.ones(1)}), "is unknown"),
    "board shape": (lambda t: t.update({"board/chip.g": t["board/chip.g"][:1].clone()}), "(1, 25, 25)"),
    "board dtype": (lambda t: t.update({"board/chip.g": t["board/chip.g"].double()}), "float64"),
    "board NaN": (lambda t: t["board/chip.g"].fill_(float("nan")), "not finite"),
    "negative wear": (lambda t: t["board/wear.run"].fill_(-1), "wear.run"),
    "unknown part": (lambda t: t.update({"elsewhere/x": torch.ones(1)}), "unknown tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_checkpoint_tensors(here: Here, folder: Path, name: str) -> None:
    change, says = TENSORS[name]
    rewrite(newest(folder), change)
    refused(here, folder, says)


# -- record, run file and board file -----------------------------------------------------------------------------------


def alter(path: Path, statements: str) -> None:
    db = sqlite3.connect(path)
    db.executescript(statements)
    db.close()


RECORDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda p: p.write_bytes(os.urandom(8192)), "not a run record"),
    "empty": (lambda p: p.write_bytes(b""), "only 0 are here"),
    "text": (lambda p: p.write_text("hello " * 1000), "not a run record"),
    "cut": (lambda p: cut(p, 6000), "run.db"),
    "no tables": (lambda p: alter(p, "DROP TABLE step"), "tables are other ones"),
    "other tables": (lambda p: alter(p, "ALTER TABLE step ADD COLUMN x"), "tables are other ones"),
    "trigger": (
        lambda p: alter(p, "CREATE TRIGGER t AFTER INSERT ON step BEGIN DELETE FROM intent; END"),
        "tables are other ones",
    ),
    "other version": (lambda p: alter(p, "PRAGMA user_version=7"), "version"),
    "missing step": (lambda p: alter(p, "DELETE FROM step WHERE step = 7"), "steps are missing"),
    "missing last steps": (lambda p: alter(p, "DELETE FROM step WHERE step > 7"), "only 8 are here"),
    "text for a value": (lambda p: alter(p, "UPDATE evaluation SET value = 'x'"), "something else than numbers"),
    "directory": (lambda p: (p.unlink(), p.mkdir()), "it has no run.db"),
    "link": (lambda p: p.rename(p.with_name("x")) and p.symlink_to(p.with_name("x")), "symbolic link"),
    "missing": (lambda p: p.unlink(), "it has no run.db"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records(here: Here, folder: Path, name: str) -> None:
    damage, says = RECORDS[name]
    damage(folder / "run.db")
    refused(here, folder, says)


@pytest.mark.parametrize("name", ["run.yaml", "board.yaml", "run.db", "run.db-wal", "lock"])
def test_links_to_files_outside(here: Here, folder: Path, name: str) -> None:
    target = folder.parent / "precious"
    target.write_text("mine")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    refused(here, folder, name, "symbolic link")
    assert target.read_text() == "mine"


def test_links_at_temporary_names_are_not_written_through(here: Here, folder: Path) -> None:
    target = folder.parent / "precious"
    target.write_text("mine")
    for name in ("result.json.part", "report.html.part", "checkpoint-000000030.safetensors.part"):
        (folder / name).symlink_to(target)
    assert here("resume", folder)[0] == 0
    assert target.read_text() == "mine"
    assert not [path for path in folder.iterdir() if path.is_symlink()]


EDITS = [
    ("run.yaml", "steps: 60", "steps: 61", "run.steps was 60 "),
    ("run.yaml", "seed: 3", "seed: 4", "run.seed was 3 "),
    ("run.yaml", "eta: 0.2", "eta: 0.3", "run.protocol.transforms was "),
    ("run.yaml", "checkpoint_every: 10", "checkpoint_every: 10\nlimits: {write_volts: 1.9 V}", "run.limits was None"),
    ("board.yaml", "read_noise: 1 uS", "read_noise: 2 uS", "board.simulator.read_noise was '1 uS'"),
    ("board.yaml", "serial: daffodil-sim-1", "serial: other", "board.spec.identity.serial was 'daffodil-sim-1'"),
    ("board.yaml", "kernels: 32", "kernels: 16", "board.spec.geometry.kernels was 32 "),
]


@pytest.mark.parametrize(("file", "old", "new", "says"), EDITS, ids=[edit[2] for edit in EDITS])
def test_edited_settings_are_named(here: Here, folder: Path, file: str, old: str, new: str, says: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    refused(here, folder, says, "set it back, or start a new run")


def test_a_done_run_with_edited_settings_is_no_longer_done(here: Here, unbroken: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unbroken, tmp_path / "run"))
    (folder / "run.yaml").write_text((folder / "run.yaml").read_text().replace("seed: 3", "seed: 4"))
    refused(here, folder, "run.seed was 3")


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"status": "done"}'])
def test_results_that_are_none_are_made_anew(here: Here, unbroken: Path, tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(unbroken, tmp_path / "run"))
    (folder / "result.json").write_text(text)
    assert runs.read_result(folder) is None
    assert here("resume", folder)[0] == 0
    before, after = runs.read_result(unbroken), runs.read_result(folder)
    assert before is not None and after is not None
    assert (after.test_accuracy, after.pulses, after.lab_seconds) == (
        before.test_accuracy,
        before.pulses,
        before.lab_seconds,
    )


@pytest.mark.parametrize("name", ["file", "nothing", "empty"])
def test_what_is_no_run_folder(here: Here, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    if name == "file":
        folder.write_text("x")
    elif name == "empty":
        folder.mkdir()
    refused(here, folder, "not a run folder")
    assert name != "empty" or not any(folder.iterdir())


def test_a_copy_of_the_folder_goes_on_elsewhere(
    here: Here, folder: Path, unbroken: Path, contents: Callable[[Path], dict[str, Any]]
) -> None:
    """It needs nothing outside itself; and the same run that was refused above goes on when nothing was altered."""
    assert here("resume", folder)[0] == 0
    one, other = contents(folder), contents(unbroken)
    del one["names"], other["names"]
    assert one == other
