"""Runs on virtual boards of each kind: training, wear, stopping from outside, and the keepers of killed hosts."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from virtual_lab import XOR, Lab, first_line, started, until

from hil.lab import config
from hil.lab.boardfile import BoardFile

HOST = """
import sys
import torch
import hil
from hil.contract import Blocks, Pulse, ReadCells, Shape
board = hil.open_board(sys.argv[1])
blocks, shape = Blocks((0,), (1,), (2,), 2, 2), Shape(1.0, float(sys.argv[2]), amps=board.spec.writing.compliance_high)
counts = torch.full(blocks.shape, int(sys.argv[3]), dtype=torch.int32)
print("open", flush=True)
while True:
    board.execute([Pulse(blocks, counts, shape, shape)])
    counts = -counts
"""
"""A host that writes until it is killed: board file, seconds and number of its pulses."""


@pytest.mark.slow
def test_a_description_is_a_board_file(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("boards", lab.addresses["framed"]["tcp"], "--describe")
    assert code == 0
    (lab.folder / "described.yaml").write_text(out)
    described = json.loads(call("boards", lab.addresses["framed"]["tcp"], "--describe", "--json")[1])
    schema: Any = BoardFile
    assert config.load(lab.folder / "described.yaml", schema).plain == described
    run = lab.write("xor", {**XOR, "board": "described.yaml"})
    assert call("check", run, "--json")[0] == 0
    code, out, _ = call("run", run, "--out", lab.folder / "described", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["safe"] == "SAFE confirmed"
    assert not (lab.folder / "chips" / "daffodil-sim-2.db").exists()  # a virtual board carries its own wear


def lives(lab: Lab, serial: str) -> int:
    """Pulses in the file of a chip."""
    with sqlite3.connect(lab.folder / "chips" / f"{serial}.db") as db:
        stored = [row[0] for row in db.execute("SELECT life FROM kernel")]
    db.close()
    return sum(int(torch.frombuffer(bytearray(life), dtype=torch.int64).sum()) for life in stored)


@pytest.mark.slow
def test_training_on_an_arcone_over_its_serial_line(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    run = lab.write("xor", {**XOR, "board": "arcone.yaml"})
    assert call("check", run, "--json")[0] == 0
    pulses = []
    with lab.control("arcone") as control:
        before = control.inspect("counters")["pulses"]
        for number in (1, 2):
            code, out, _ = call("run", run, "--out", lab.folder / f"arcone-{number}", "--json")
            said = json.loads(out.splitlines()[-1])
            assert (code, said["safe"], said["steps"]) == (0, "SAFE confirmed", 10), out
            pulses.append(said["pulses"])
            assert control.inspect("counters")["pulses"] - before == sum(pulses) > 0
    assert lives(lab, "arcone-1") == sum(pulses)  # the second run went on with the counters of the first
    assert lab.is_off("arcone") and call("who", "--json")[1] == "[]\n"


@pytest.mark.slow
def test_training_behind_a_source_and_a_matrix(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    run = lab.write("xor", {**XOR, "board": "smu.yaml"})
    for command in (["check", run], ["run", run, "--out", lab.folder / "array"]):
        code, out, _ = call(*command, "--json")
        assert code == 3 and "unselected lines that are not grounded add currents" in out
    assert lab.is_off("smu")
    devices = copy.deepcopy(lab.plain["smu"])
    devices["driver"]["discrete"] = True
    devices["spec"]["writing"] |= {"biases": ["float", "ground"], "seconds": "50 ms"}  # a busy machine times them well
    devices["simulator"]["law"]["seconds"] = "50 ms"
    lab.write("devices", devices)
    run = lab.write("xor", {**XOR, "board": "devices.yaml", "steps": 3})
    with lab.control("smu") as control:
        before = control.inspect("counters")["pulses"]
        code, out, _ = call("run", run, "--out", lab.folder / "devices", "--json")
        said = json.loads(out.splitlines()[-1])
        assert (code, said["safe"], said["steps"]) == (0, "SAFE confirmed", 3), out
        counters = control.inspect("counters")
    assert counters["hot"] == 0 and counters["pulses"] - before == said["pulses"] > 0
    assert lab.is_off("smu") and lives(lab, "array-1") == said["pulses"]


@pytest.mark.slow
def test_safe_ends_the_run_of_another_program(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    url = lab.addresses["framed"]["tcp"]
    run = lab.write("long", {**XOR, "board": "framed.yaml", "steps": 1_000_000})
    process = started(lab, "-m", "hil", "run", str(run), "--out", "ended", "--json")
    try:
        until(lambda: any(o["run"] == "xor" for o in json.loads(call("who", "--json")[1])))
        assert f"process {process.pid}" in call("who")[1]
        with lab.control("framed") as control:
            until(lambda: control.inspect("outputs")["on"])
        code, _, err = call("run", run, "--out", lab.folder / "second", "--json")
        assert code == 3 and f"is in use by process {process.pid}" in err and "run xor" in err
        code, out, _ = call("safe", url)
        assert (code, out) == (0, f"{url}: SAFE confirmed\n")
        out_bytes, err_bytes = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    said = json.loads(out_bytes.splitlines()[-1])
    assert said["exit_code"] == process.returncode == 3 and b"Traceback" not in err_bytes
    assert "safe" in said["error"].lower() and said["safe"] == "SAFE confirmed"
    assert lab.is_off("framed")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serial", "arcone"])
def test_a_serial_line_in_use(lab: Lab, call: Callable[..., tuple[int, str, str]], name: str) -> None:
    run = lab.write("long", {**XOR, "board": f"{name}.yaml", "steps": 1_000_000})
    process = started(lab, "-m", "hil", "run", str(run), "--out", f"busy-{name}", "--json")
    try:
        until(lambda: len(json.loads(call("who", "--json")[1])) == 2)  # the board, and its line
        for words in (["safe", lab.file(name)], ["boards", lab.plain[name]["url"]]):
            began = time.monotonic()
            code, _, err = call(*words)
            assert code == 3 and f"is in use by process {process.pid}" in err, err
            assert time.monotonic() - began < 2.0
        assert f"kill {process.pid}" in call("safe", lab.file(name))[2]
        process.terminate()
        process.communicate(timeout=15)
        assert process.returncode == 4
    finally:
        process.kill()
        process.wait()
    assert lab.is_off("arcone" if name == "arcone" else "framed") and call("who", "--json")[1] == "[]\n"


# -- keepers -----------------------------------------------------------------------------------------------------------


def keepers(parent: int) -> list[int]:
    """The living keepers that a process has started; after its death they have no parent, so they are found before."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
                above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if b"hil.lab.keeper" in words and above == parent:
                found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    """A process without a parent that collects its status may stay as a zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def write_until_killed(lab: Lab, name: str, seconds: float, count: int) -> tuple[subprocess.Popen[bytes], int]:
    """A host in the middle of a write, and its keeper."""
    host = started(lab, "-c", HOST, lab.file(name), str(seconds), str(count))
    try:
        assert first_line(host) == b"open\n"
        (keeper,) = keepers(host.pid)
        with lab.control(name) as control:
            until(lambda: control.inspect("outputs")["on"])
    except BaseException:
        host.kill()
        host.communicate()
        raise
    return host, keeper


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for keepers in /proc")
@pytest.mark.parametrize(("name", "seconds", "serial"), [("smu", 0.1, "array-1"), ("arcone", 1e-3, "arcone-1")])
def test_a_keeper_makes_a_board_safe_whose_host_was_killed(
    lab: Lab, call: Callable[..., tuple[int, str, str]], name: str, seconds: float, serial: str
) -> None:
    with lab.control(name) as control:
        before = control.inspect("counters")["pulses"]
        stored = lives(lab, serial) if (lab.folder / "chips" / f"{serial}.db").exists() else 0
        host, keeper = write_until_killed(lab, name, seconds, 3)
        os.killpg(host.pid, signal.SIGKILL)  # as a terminal does; the keeper is in a session of its own
        host.wait()
        took = until(lambda: lab.is_off(name))
        until(lambda: not alive(keeper))
        said = host.communicate(timeout=5)[1].decode()
        pulsed = control.inspect("counters")["pulses"] - before
    assert took < 6.0 and "its keeper: SAFE confirmed" in said and "Traceback" not in said
    assert call("who", "--json")[1] == "[]\n"
    assert lives(lab, serial) - stored >= pulsed > 0  # too high after a crash, never too low


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for keepers in /proc")
def test_a_new_owner_waits_for_the_keeper_of_the_last(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    slow = {**lab.plain["arcone"], "driver": {"reset_wait": "1 s"}}
    lab.write("arcone", slow)
    try:
        host, keeper = write_until_killed(lab, "arcone", 1e-3, 3)
        host.kill()
        host.wait()
        until(lambda: any(o["run"] == "keeper" for o in json.loads(call("who", "--json")[1])))
        code, out, _ = call("safe", lab.file("arcone"))
        assert (code, out) == (0, "arcone: SAFE confirmed\n")
        host.communicate(timeout=10)
    finally:
        lab.write("arcone", lab.plain["arcone"])
    until(lambda: not alive(keeper))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for keepers in /proc")
def test_a_keeper_goes_with_an_orderly_end(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    run = lab.write("long", {**XOR, "board": "arcone.yaml", "steps": 1_000_000})
    process = started(lab, "-m", "hil", "run", str(run), "--out", "orderly", "--json")
    try:
        until(lambda: bool(keepers(process.pid)))
        (keeper,) = keepers(process.pid)
        with lab.control("arcone") as control:
            until(lambda: control.inspect("outputs")["on"])
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 4 and json.loads(out.splitlines()[-1])["safe"] == "SAFE confirmed"
    assert b"keeper" not in err and not alive(keeper) and lab.is_off("arcone")
    assert call("who", "--json")[1] == "[]\n"
