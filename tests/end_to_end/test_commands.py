"""Each command from beginning to end: what it prints, what it leaves, and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.lab import checkpoint, runs

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "config" / "boards" / "daffodil.yaml"
KEYS = {
    "status", "exit_code", "run_dir", "test_accuracy", "software_accuracy", "steps", "reads", "pulses", "lab_seconds",
    "half_selects", "joules", "iterations_per_second", "safe", "error", "link_fraction", "link",
}  # fmt: skip
RunFile = Callable[..., Path]


def last(out: str) -> dict[str, Any]:
    """The last line of an output, as JSON."""
    return json.loads(out.rstrip("\n").rsplit("\n", 1)[-1])


# -- run, resume, report -----------------------------------------------------------------------------------------------


SOFTWARE = {"optimiser": "sgd", "eta": 0.1, "steps": 50}


def compare(code: int, out: str, err: str, unbroken: Path) -> None:
    """What ``hil run --json`` said, with the same run that was done without the command."""
    assert code == 0
    assert out.count("\n") == 1  # nothing but the JSON object goes to stdout
    found, same = last(out), runs.read_result(unbroken)
    assert found.keys() == KEYS
    assert found["status"] == "done" and found["safe"] == "SAFE confirmed" and found["error"] is None
    assert found["steps"] == 60 and 0.5 < found["software_accuracy"] <= 1.0
    assert same is not None
    assert found["test_accuracy"] == same.test_accuracy and found["pulses"] == same.pulses > 0
    assert "step 60/60: loss" in err
    for words in ("accuracy", "reads", "pulses", "lab time", "it/s"):
        assert words in err


def test_a_run_through_the_command(here: Callable[..., Any], run_file: RunFile, unbroken: Path) -> None:
    compare(*here("run", run_file(software=SOFTWARE), "--out", "a", "--json"), unbroken)


@pytest.mark.slow
def test_a_run_in_a_process_of_its_own(hil: Callable[..., Any], run_file: RunFile, unbroken: Path) -> None:
    done = hil("run", run_file(software=SOFTWARE), "--out", "a", "--json")
    compare(done.code, done.out, done.err, unbroken)


def test_what_a_technician_reads(here: Callable[..., Any], run_file: RunFile) -> None:
    code, out, err = here("run", run_file(steps=2), "--out", "a")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert len(lines) == len(set(lines))  # nothing is said twice
    assert sum(line.startswith("programmed") for line in lines) == 2
    assert "board: SAFE confirmed" in lines and "report: a/report.html" in lines
    assert any(line.startswith("on the real board: ") for line in lines)
    assert (Path("a") / "report.html").is_file()


def test_without_out_the_folder_lies_under_runs(here: Callable[..., Any], run_file: RunFile) -> None:
    code, out, _ = here("run", run_file(steps=1), "--json")
    folder = Path(last(out)["run_dir"])
    assert code == 0 and folder.parent == Path("runs").resolve() and folder.name.startswith("small-20")
    assert sorted(p.name for p in Path().iterdir()) == ["runs", "small.yaml"]


def test_report_writes_the_same_page_anew(here: Callable[..., Any], run_file: RunFile, drawn: None) -> None:
    here("run", run_file(steps=1), "--out", "a")
    page = Path("a/report.html")
    page.unlink()
    code, out, _ = here("report", "a")
    assert code == 0 and out == "a/report.html\n" and page.stat().st_size > 10_000


def test_a_done_run_resumes_to_the_same_result(here: Callable[..., Any], run_file: RunFile) -> None:
    _, out, _ = here("run", run_file(steps=2), "--out", "a", "--json")
    code, again, err = here("resume", "a", "--json")
    assert code == 0 and last(again) == last(out) and "this run is done" in err


# -- exit codes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run", "nowhere.yaml"], "no such file"),
        (["run", "{file}", "--set", "steps=0"], "steps must be at least 1"),
        (["run", "{file}", "--set", "stepz=3"], "did you mean 'steps'"),
        (["run", "{file}", "--set", "name=../../x"], "cannot be used"),
        (["run", "{file}", "--set", "network.hidden=[100000]"], "needs"),
        (["run", "{file}", "--set", "limits.write_volts=99 V"], "only tighten"),
        (["run", "{file}", "--out", "{file}"], "there already"),
        (["run", "{file}", "--out", "{file}/below"], "cannot be the folder"),
        (["run", "{file}", "--out", "x" * 300], "cannot be the folder"),
        (["run"], "Missing argument"),
        (["run", "{file}", "--nonsense"], "No such option"),
        (["resume", "nowhere"], "not a run folder"),
        (["check", "{file}", "--set", "seed=-1"], "seed must be at least 0"),
        (["check", "{file}", "--set", "board=serail:///dev/ttyUSB0"], "did you mean 'serial'?"),
    ],
)
def test_wrong_usage_and_wrong_files_exit_with_2(
    here: Callable[..., Any], run_file: RunFile, args: list[str], says: str
) -> None:
    file = str(run_file())
    code, out, err = here(*(arg.replace("{file}", file) for arg in args), "--json")
    assert code == 2
    assert says in " ".join(err.replace("│", " ").split())
    assert out.count("\n") == 1
    found = last(out)
    assert found.keys() >= KEYS and found["status"] == "failed" and found["exit_code"] == 2
    assert found["error"]


def test_existing_folders_and_links_are_left_alone(here: Callable[..., Any], run_file: RunFile, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "dangling").symlink_to(tmp_path / "made")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    for name in ("link", "dangling", "full"):
        code, _, err = here("run", run_file(), "--out", name)
        assert code == 2 and "there already" in err
    assert not any(target.iterdir()) and not (tmp_path / "made").exists()
    assert [path.name for path in full.iterdir()] == ["notes.txt"]


def test_a_safety_limit_exits_with_5_and_names_its_line(here: Callable[..., Any], run_file: RunFile) -> None:
    file = run_file(limits={"pulses_per_run": 200})
    line = 1 + file.read_text().splitlines().index("  pulses_per_run: 200")
    code, out, err = here("run", file, "--out", "a", "--json")
    found = last(out)
    assert code == found["exit_code"] == 5 and found["status"] == "failed" and found["safe"] == "SAFE confirmed"
    assert "pulses per run" in found["error"] and f"small.yaml:{line}" in found["error"]
    assert found["pulses"] > 0  # what was spent before the refusal is told
    assert found["error"] in err


def test_a_safety_limit_in_training_keeps_the_last_checkpoint(here: Callable[..., Any], run_file: RunFile) -> None:
    code, out, _ = here("run", run_file(limits={"pulses_per_run": 242}, steps=4000), "--out", "a", "--json")
    found = last(out)
    assert code == 5 and found["steps"] > 0 and found["safe"] == "SAFE confirmed"
    newest = checkpoint.latest(Path("a"))
    assert newest is not None and checkpoint.read(newest).state.step <= found["steps"]


def test_a_signal_before_the_run_exits_with_4(
    here: Callable[..., Any], run_file: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(runs, "run", interrupted)
    code, out, err = here("run", run_file(), "--json")
    assert code == 4 and err == "ended by the operator (Ctrl-C)\n" and last(out)["exit_code"] == 4


def test_an_unexpected_problem_is_a_sentence_and_a_file(
    here: Callable[..., Any], run_file: RunFile, mocker: Any
) -> None:
    mocker.patch("protocols.training.Training.step", side_effect=RuntimeError("tensor trouble"))
    code, out, err = here("run", run_file(), "--out", "a", "--json")
    assert code == 1 and last(out)["status"] == "failed"
    lines = err.splitlines()[-3:]
    assert lines[0] == "unexpected problem, please report it: RuntimeError: tensor trouble"
    assert lines[1:] == ["SAFE confirmed", "traceback: a/crash.txt"]
    assert "tensor trouble" in Path("a/crash.txt").read_text()


def test_two_processes_cannot_run_one_folder(here: Callable[..., Any], run_file: RunFile) -> None:
    from hil.lab.claim import claimed

    here("run", run_file(steps=1), "--out", "a")
    with claimed(Path("a")):
        code, _, err = here("resume", "a")
    assert code == 2 and "in use" in err


# -- the other commands ------------------------------------------------------------------------------------------------


def test_check_says_what_a_run_takes(here: Callable[..., Any], run_file: RunFile) -> None:
    code, out, _ = here("check", run_file(), "--json")
    found = last(out)
    assert code == 0 and found["within_budget"] and found["steps"] == 60 and found["board"] == "daffodil"
    code, out, _ = here("check", run_file())
    for words in ("board ", "steps ", "read events ", "pulses a cell ", "lab time ", "abort "):
        assert any(line.startswith(words) for line in out.splitlines())
    assert not Path("runs").exists()


def test_check_refuses_what_the_run_would_refuse(here: Callable[..., Any], run_file: RunFile) -> None:
    code, _, err = here("check", run_file(), "--set", "limits.pulses_per_run=200")
    assert code == 5 and "pulses per run" in err
    code, out, _ = here("check", run_file(steps=1_000_000), "--set", "limits.pulses_per_run=300")
    assert code == 5 and "ABOVE the budget of 300" in out


def test_safe_confirms(here: Callable[..., Any]) -> None:
    assert here("safe", BOARD) == (0, "daffodil: SAFE confirmed\n", "")


def test_doctor_looks_at_everything(here: Callable[..., Any]) -> None:
    code, out, _ = here("doctor")
    assert code == 0
    assert all(line.startswith("ok ") for line in out.splitlines())
    assert {"python", "packages", "sqlite", "storage", "torch", "PyVISA"} <= {
        line.split()[1] for line in out.splitlines()
    }


def test_schema_prints_json_schema(here: Callable[..., Any]) -> None:
    code, out, _ = here("schema", "run")
    assert code == 0 and "protocol" in json.loads(out)["properties"]
    code, out, _ = here("schema", "board")
    described = json.loads(out)
    files = [described["$defs"][option["$ref"].rpartition("/")[2]] for option in described["anyOf"]]
    assert code == 0 and len(files) >= 4 and all({"kind", "spec"} <= set(part["properties"]) for part in files)


def test_schema_of_something_else(here: Callable[..., Any]) -> None:
    code, _, err = here("schema", "chip")
    assert code == 2 and "neither run nor board" in err


def test_help_is_quick_and_light(command: list[str]) -> None:
    code = (
        "import sys\nfrom hil.lab.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pyvisa', 'serial', 'sklearn', 'matplotlib', 'pydantic'} & sys.modules.keys()"
        "\nassert not heavy, heavy"
    )
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        best = min(best, time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
        for name in ("run", "resume", "check", "report", "safe", "doctor", "schema", "Exit codes"):
            assert name in done.stdout
    assert best < 0.5
