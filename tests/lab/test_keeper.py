"""The keeper: a process of its own that does nothing unless its host dies, and then all it can."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.contract import SafeReport
from hil.errors import BoardInUse, BoardMissing, LinkLost
from hil.lab import config, keeper
from hil.lab.boardfile import BoardFile
from hil.lab.keeper import Keeper, secured

IDEAL = Path(__file__).parents[2] / "config" / "boards" / "ideal.yaml"
SAFE = SafeReport({"rows": "off"}, confirmed=True)
UNSAFE = SafeReport({"rows": "unreadable"}, confirmed=False)
IN_USE = BoardInUse("b-1", 7, "lab", "ann", "night", "today")


def text() -> str:
    schema: Any = BoardFile
    return config.dump(config.load(IDEAL, schema).plain)


def test_a_dismissed_keeper_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hil.py").write_text("raise SystemExit('not this one')")  # nor any module of the working folder
    monkeypatch.chdir(tmp_path)
    watching = Keeper(text(), "ideal")
    process = watching._process
    assert process.poll() is None
    if hasattr(os, "getsid"):
        assert os.getsid(process.pid) == process.pid != os.getsid(0)  # Ctrl-C in this terminal does not reach it
    began = time.monotonic()
    watching.dismiss()
    assert process.returncode == 0 and time.monotonic() - began < 2.0
    watching.dismiss()


def test_a_keeper_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BoardMissing, match="board ideal: its keeper.* does not start"):
        Keeper(text(), "ideal")


def test_a_keeper_that_hangs_while_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 30\n")
    mute.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mute))
    monkeypatch.setattr(keeper, "START", 0.1)
    with pytest.raises(BoardMissing, match="does not start"):
        Keeper(text(), "ideal")


def run_keeper(told: bytes) -> subprocess.CompletedProcess[bytes]:
    """The keeper's end, with a host that says this and is gone."""
    return subprocess.run(
        [sys.executable, "-m", "hil.lab.keeper"], input=told, capture_output=True, timeout=30, check=False
    )


def told(board: str) -> bytes:
    return len(board.encode()).to_bytes(4, "big") + board.encode()


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x09kind: x"])
def test_a_host_that_dies_before_it_opened_anything(said: bytes, mocker: Any) -> None:
    mocker.patch("sys.stdin", mocker.Mock(buffer=__import__("io").BytesIO(said)))
    mocker.patch("signal.signal")
    assert keeper.keep() is None


@pytest.mark.slow
def test_a_host_that_dies() -> None:
    done = run_keeper(told(text()))
    assert (done.returncode, done.stdout) == (0, b"ready\n")
    assert done.stderr == b"the host of a board died; its keeper: SAFE confirmed\n"
    done = run_keeper(told(text()) + b"done")  # cut off in the middle of the word
    assert b"SAFE confirmed" in done.stderr
    done = run_keeper(told(text()) + b"done\n")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def answers(mocker: Any) -> list[Any]:
    """What comes of each attempt to make the board safe; the last one again and again."""
    to_come: list[Any] = []

    def secure(board: BoardFile, run: str) -> SafeReport:
        assert run == "keeper"
        answer = to_come.pop(0) if len(to_come) > 1 else to_come[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    mocker.patch("hil.lab.emergency.secure", secure)
    mocker.patch("hil.lab.keeper._PAUSE", 0.0)
    return to_come


@pytest.fixture
def board() -> Iterator[Any]:
    yield object()


def test_it_tries_until_the_board_is_safe(answers: list[Any], board: Any) -> None:
    answers += [IN_USE, LinkLost("tcp://x:1", "gone"), UNSAFE, SAFE]
    assert secured(board) == "SAFE confirmed" and answers == [SAFE]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (UNSAFE, "SAFE NOT CONFIRMED: switch off by hand (rows unreadable)"),
        (LinkLost("tcp://x:1", "gone"), "SAFE NOT CONFIRMED: switch off by hand (tcp://x:1: gone)"),
        (IN_USE, "board b-1 is in use by process 7"),
    ],
)
def test_it_gives_up_in_time_and_says_so(answers: list[Any], board: Any, answer: Any, said: str) -> None:
    answers.append(answer)
    began = time.monotonic()
    assert said in secured(board, patience=0.1)
    assert 0.1 <= time.monotonic() - began < 1.0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_hide_the_death_of_its_host() -> None:
    code = (
        "import os, sys, time\nfrom hil.lab.keeper import Keeper\n"
        "k = Keeper(sys.argv[1], 'b')\nprint(k._process.pid, flush=True)\n"
        "if os.fork() == 0:\n    time.sleep(30)\nos.kill(os.getpid(), 9)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code, "kind: nonsense"], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    try:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        until = time.monotonic() + 10.0
        while _runs(pid):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.killpg(host.pid, 9)
        host.communicate()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
