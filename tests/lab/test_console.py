"""What an operator sees: few lines, each once, whoever listens; and a bar that leaves a terminal as it was."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.lab import cli, config, runs
from hil.lab.advice import UPDATES, Advice
from hil.lab.console import Lines, short
from hil.lab.stop import StopToken
from hil.protocol import StepRecord

Content = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_499, "999k"), (999_500, "1M"),
        (4_560_000, "4.56M"), (999_600_000, "1G"), (12_000_000_000, "12G"), (5 * 10**12, "5T"),
    ],
)  # fmt: skip
def test_counts_are_short(count: int, text: str) -> None:
    assert short(count) == text and len(short(count)) <= 5


def test_lines_for_files_and_pipes(bench: Any, xor: Content, tmp_path: Path) -> None:
    out = io.StringIO()
    runs.run(xor(steps=200, evaluate_every=100), out=tmp_path / "a", observer=Lines(out, every=60.0))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(set(lines))
    assert [line.split(":")[0] for line in lines[:2]] == ["programmed layer1", "programmed layer2"]
    assert lines[2] == "training 200 steps on daffodil"
    assert [line.split(":")[0] for line in lines[3:]] == ["step 1/200", "step 100/200", "step 200/200"]
    learnt, cost = r"loss \d\.\d{3}, accuracy \d+\.\d %, test \d+\.\d %", r"reads [\d.]+k, pulses \S+, lab time .+"
    assert re.fullmatch(rf"step 200/200: {learnt}, {cost}, \d+ it/s", lines[-1]), lines[-1]
    assert "test" not in lines[3]


def test_a_resumed_run_says_where_it_goes_on(bench: Any, xor: Content, watcher: Any, tmp_path: Path) -> None:
    stop = StopToken()
    runs.run(xor(), out=tmp_path / "a", observer=watcher({12: stop.stop}), stop=stop)
    out = io.StringIO()
    runs.resume(tmp_path / "a", observer=Lines(out, every=60.0))
    assert out.getvalue().startswith("training 17 steps on daffodil, going on after step 13\n")
    assert "programmed" not in out.getvalue()


def test_a_reader_that_goes_away_does_not_end_a_run(bench: Any, xor: Content, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        assert runs.run(xor(), out=tmp_path / "a", observer=Lines(out)).status == "done"
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that closing can flush
    closed = io.StringIO()
    closed.close()
    assert runs.run(xor(), out=tmp_path / "b", observer=Lines(closed)).status == "done"


def test_foreign_text_is_escaped() -> None:
    out = io.StringIO()
    Lines(out).say("bad \x1b[2J board\r\nanswer")
    assert out.getvalue().count("\n") == 1 and out.getvalue().rstrip("\n").isprintable()


def test_a_hint_comes_once_and_only_when_most_updates_are_held() -> None:
    def told(held: Callable[[int], float | None], steps: int) -> list[str]:
        said: list[str] = []
        advice = Advice(said.append)
        for step in range(steps):
            value = held(step)
            advice.look(StepRecord(step, 1.0, 0.5, {} if value is None else {"held_weights": value}))
        return said

    assert len(told(lambda step: 3.0, 500)) == 1
    assert told(lambda step: 3.0, UPDATES - 1) == []
    assert told(lambda step: float(step % 2), 500) == []
    assert len(told(lambda step: float(step % 3), 500)) == 1  # two of three
    assert told(lambda step: None, 500) == []  # a rule that does not hold
    assert len(told(lambda step: 1.0 if step % 10 == 9 else None, 10 * UPDATES)) == 1  # updates, not steps, count


def on_a_terminal(args: list[str], columns: int) -> tuple[int, str]:
    """Runs the command in a child process whose terminal this is: (exit code, all it wrote)."""
    child, terminal = pty.fork()
    if child == 0:  # must never come back into pytest
        try:
            os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES="24")
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # not those that pytest put there
            cli.main(args)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        finally:
            os._exit(99)
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode()


def screen(written: str) -> list[str]:
    """The lines that stay: enough of a terminal for what the bar does (colours, up, erase, return)."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n|[^\x1b\r\n]+", written):
        if part.startswith("\x1b["):
            number = re.sub(r"\D", "", part)
            if part.endswith("A"):
                row -= int(number or 1)
            elif part.endswith("K"):
                lines[row] = ""
        elif part in ("\r\n", "\n"):
            row += 1
            while len(lines) <= row:
                lines.append("")
        elif part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("columns", [80, pytest.param(140, marks=pytest.mark.slow)])
def test_the_bar_on_a_terminal(bench: Any, xor: Content, tmp_path: Path, columns: int) -> None:
    file = tmp_path / "xor.yaml"
    file.write_text(config.dump(xor(steps=200, evaluate_every=100, checkpoint_every=100)))
    code, written = on_a_terminal(["run", str(file), "--out", str(tmp_path / "a")], columns)
    assert code == 0
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor is back
    shown = [line for line in screen(written) if line]
    assert [line.split(":")[0] for line in shown[:3]] == [
        "programmed layer1",
        "programmed layer2",
        "training 200 steps on daffodil",
    ]
    bar, learnt, used, *rest = shown[3:]
    assert re.fullmatch(r"training ━+ 200/200 \d+ it/s \S+", bar)
    assert re.fullmatch(r"loss \d\.\d{3}, accuracy \d+\.\d %, test \d+\.\d %", learnt)
    assert re.fullmatch(r"reads \S+, pulses \S+, lab time .+", used)
    assert [line.split(" ")[0] for line in rest if line[0] != "/"] == ["done", "test", "on", "board:", "report:"]
    assert all(len(line) <= columns for line in shown[3:6])
