"""Boards as a technician meets them: virtual ones in processes of their own, and the commands around them."""

from __future__ import annotations

import copy
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from hil.lab import cli, config
from hil.lab.boardfile import BoardFile
from instruments.virtual.control_client import Control

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "config" / "boards"
XOR: dict[str, Any] = {
    "name": "xor",
    "seed": 1,
    "task": {"kind": "xor"},
    "network": {"hidden": [], "output": "sigmoid", "w_max": 2.0},
    "protocol": {
        "source": {"kind": "node_perturbation", "norm": 1.0},
        "transforms": [{"kind": "sgd", "eta": 20.0}, {"kind": "residual"}],
        "rule": {"kind": "signed_pulses"},
    },
    "steps": 10,
    "evaluate_every": 10,
    "checkpoint_every": 5,
}
"""One layer, whose binary inputs every board can multiply."""

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


def plain(name: str, **changes: Any) -> dict[str, Any]:
    """The content of a board file."""
    schema: Any = BoardFile
    return {**copy.deepcopy(config.load(BOARDS / f"{name}.yaml", schema).plain), **changes}


def environment(folder: Path) -> dict[str, str]:
    """Locks of its own keep a test from the boards of others."""
    kept = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HIL_LOCKS": str(folder / "locks")}


@contextmanager
def emulated(folder: Path, *words: object) -> Generator[tuple[subprocess.Popen[bytes], Callable[[], dict[str, Any]]]]:
    """``hil emulate`` with these words; what waits for its ready line comes too, so that several start together."""
    command = [sys.executable, "-m", "hil", "emulate", *map(str, words)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process, lambda: json.loads(_line(process))
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _line(process: subprocess.Popen[bytes], seconds: float = 20.0) -> bytes:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise AssertionError("nothing was said in time")
    line = process.stdout.readline()
    assert line, process.communicate(timeout=5)[1].decode()
    return line


class Lab:
    """A folder with virtual boards, their addresses and their files."""

    def __init__(self, folder: Path, addresses: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder, self.addresses = folder, addresses
        smu = addresses["smu"]
        files = {
            "framed": plain("daffodil_framed", url=addresses["framed"]["tcp"]),
            "serial": plain("daffodil_framed", url=addresses["framed"]["pty"]),
            "arcone": plain("arcone", url=addresses["arcone"]["pty"], driver={"reset_wait": "0.01 s"}),
            "smu": plain("smu_matrix", source_url=smu["source"]["tcp"], matrix_url=smu["matrix"]["tcp"]),
        }
        files["smu"]["driver"] |= {"settle": "0 s"}
        self.plain = files
        for name, content in files.items():
            self.write(name, content)

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(config.dump(content))
        return path

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.yaml")

    def control(self, name: str) -> Control:
        found = self.addresses[name]
        return Control(found["source"]["control"] if "source" in found else found["control"])

    def is_off(self, name: str) -> bool:
        """The outputs are off and at 0 V, and nothing happened to them since."""
        with self.control(name) as control:
            outputs, history = control.inspect("outputs"), control.inspect("history")
        steps = [tuple(change) for change in history if change[0] != "closed"]
        on = outputs["on"] or outputs["volts"] != 0 or bool(outputs.get("closed"))
        return not on and (not steps or steps[-1] in {("outputs", "off"), ("output", False), ("volts", 0.0)})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext) -> Generator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    lines = ["--pty", "--tcp", "127.0.0.1:0", "--control", "127.0.0.1:0", "--seed", "7"]
    names = {"framed": "daffodil_framed", "arcone": "arcone", "smu": "smu_matrix"}
    processes = []
    for name, file in names.items():
        words = ["emulate", str(BOARDS / f"{file}.yaml"), *lines, "--ready-file", str(folder / f"{name}.json")]
        processes.append(forks.Process(target=cli.main, args=(words,)))  # it has loaded all packages already
        processes[-1].start()
    try:
        for name in names:
            _until((folder / f"{name}.json").exists, 20.0)
        yield Lab(folder, {name: json.loads((folder / f"{name}.json").read_text()) for name in names})
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(10)
            process.close()


@pytest.fixture
def call(
    lab: Lab, here: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """``call("boards", ...)``: the command in this process, in the folder of the lab."""
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("HIL_LOCKS", str(lab.folder / "locks"))
    return here


def started(lab: Lab, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=lab.folder,
        env=environment(lab.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_virtual_board_says_one_line_and_ends_in_order(tmp_path: Path, ending: int) -> None:
    faults, ready = tmp_path / "faults.yaml", tmp_path / "ready.json"
    faults.write_text("late: 0.1\nlate_seconds: 20 ms\n")
    pace = ("--pty", "--pty-link", "line", "--baud", 115200, "--round-trip", "2 ms", "--time", "x10", "--seed", 3)
    others = ("--tcp", "127.0.0.1:0", "--ready-file", ready, "--faults", faults)
    with emulated(tmp_path, BOARDS / "arcone.yaml", *pace, *others) as (process, line):
        said = line()
        assert said == json.loads(ready.read_text()) and sorted(said) == ["pid", "pty", "tcp"]
        assert said["pty"] == f"serial://{tmp_path / 'line'}?baud=115200" and said["pid"] == process.pid
        assert (tmp_path / "line").is_symlink()
        process.send_signal(ending)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, b"", b"")
    assert not (tmp_path / "line").is_symlink()


WRONG = [
    (["--tcp", "nonsense"], "is no address"),
    (["--tcp", "127.0.0.1:99999"], "is no address"),
    (["--tcp", "203.0.113.5:0"], "cannot offer its lines"),
    (["--tcp", "not.a.host.invalid:0"], "cannot offer its lines"),
    (["--control", "0.0.0.0:0"], "this machine only"),
    (["--time", "fast"], "time must be asap, real or a speed"),
    (["--rate", "banana"], "is not a quantity"),
    (["--rate", "1 MB/s", "--baud", "9600"], "give one"),
    (["--baud", "0"], "--baud"),
    (["--seed", "-1"], "--seed"),
    (["--round-trip", "2 V"], "expected s"),
    (["--faults", "nowhere.yaml"], "no such file"),
    (["--personality", "parrot"], "there is no personality 'parrot'"),
    (["--personality", "smu_matrix"], "needs a board file of that kind"),
    (["--personality", "arcone"], "one passive array"),
    (["--pty-link", "line"], "pty_link needs pty"),
    (["--pty", "--pty-link", "no/such/folder"], "cannot offer its lines"),
    (["--ready-file", "no/such/folder"], "cannot be written"),
]


def test_wrong_options_of_a_virtual_board(here: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for options, text in WRONG:
        code, out, err = here("emulate", BOARDS / "ideal.yaml", *options)
        assert (code, out) == (2, ""), options
        assert text in err, (options, err)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = here("emulate", BOARDS / "ideal.yaml", "--tcp", address)
        assert code == 2 and "address already in use" in err
    for option in (["--tcp", "127.0.0.1:5025"], ["--pty", "--pty-link", "line"]):
        code, _, err = here("emulate", BOARDS / "smu_matrix.yaml", *option)
        assert code == 2 and "two instruments" in err
    (tmp_path / "faults.yaml").write_text("late: 2\n")
    code, _, err = here("emulate", BOARDS / "ideal.yaml", "--faults", "faults.yaml")
    assert code == 2 and "faults.yaml" in err and "probability" in err


@pytest.mark.slow
def test_meeting_boards(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    smu = lab.addresses["smu"]
    expected = {
        lab.addresses["framed"]["tcp"]: ("the framed wire protocol", "serial", "daffodil-sim-2"),
        lab.addresses["arcone"]["pty"]: ("the jobs of an ArC ONE", "firmware", "1.0"),
        smu["matrix"]["pty"]: ("SCPI", "model", "Model 707B"),
    }
    for url, (speaks, field, value) in expected.items():
        code, out, _ = call("boards", url, "--json")
        found = json.loads(out)
        assert (code, found["speaks"], found["identity"][field]) == (0, speaks, value), out
        assert call("who", "--json")[1] == "[]\n"
    with lab.control("arcone") as control:
        assert control.inspect("counters")["resets"] == 0 and control.inspect("history") == []
    code, out, err = call("boards", smu["source"]["tcp"])
    assert code == 0 and err == "" and "speaks SCPI\n" in out and "  serial    04100001\n" in out
    assert "*IDN? LF: sent 2a 49 44 4e 3f 0a; came 4b 45 49 54" in out


@pytest.mark.slow
def test_a_board_without_a_voice(call: Callable[..., tuple[int, str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        for words in (("boards", url), ("boards", url, "--describe"), ("safe", url)):
            began = time.monotonic()
            code, out, err = call(*words)
            assert code == 3 and time.monotonic() - began < 3.0, (words, err)
            assert words[-1] != url or "nothing came" in out + err
        assert "SAFE NOT CONFIRMED: switch the board off by hand" in err


def test_nobody_there(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    for words in (("boards",), ("safe",), ("boards", "--describe")):
        code, _, err = call(words[0], "tcp://127.0.0.1:1", *words[1:])
        assert code == 3 and "nothing listens there" in err
        code, _, err = call(words[0], "serial:///dev/no-such-port", *words[1:])
        assert code == 3 and "no such port" in err
        code, _, err = call(words[0], "carrier://pigeon", *words[1:])
        assert code == 2 and "no such kind of link" in err
    code, _, err = call("boards", "--describe")
    assert code == 2 and "needs the URL" in err


@pytest.mark.slow
def test_only_framed_boards_describe_themselves(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call("boards", lab.addresses["smu"]["matrix"]["tcp"], "--describe")
    assert code == 3 and "write a board file for others" in err


@pytest.mark.slow
def test_the_list_of_places(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call("boards", "--json")
    assert code == 0 and err == ""
    assert all(sorted(place) == ["about", "url"] for place in json.loads(out))


def test_safe_states_of_each_kind(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    boards = [*map(lab.file, ("framed", "serial", "arcone", "smu")), lab.addresses["framed"]["tcp"]]
    for board in [*boards, str(BOARDS / "ideal.yaml")]:
        code, out, err = call("safe", board, "--json")
        said = json.loads(out)
        assert (code, said["confirmed"], err) == (0, True, ""), out
        assert set(said["outputs"].values()) == {"off"}
    assert call("safe", lab.file("smu"))[1] == "smu_matrix: SAFE confirmed\n"
    assert not (lab.folder / "chips").exists()  # a safe state wears nothing, and needs no folder
    assert all(map(lab.is_off, lab.addresses))
    other = copy.deepcopy(lab.plain["framed"])
    other["spec"]["identity"]["serial"] = "another"
    code, _, err = call("safe", lab.write("other", other))
    assert code == 3 and "'daffodil-sim-2', expected 'another'" in err and "its outputs were switched off" in err


def test_a_bench_with_half_of_it_gone_is_switched_off_as_far_as_it_goes(
    lab: Lab, call: Callable[..., tuple[int, str, str]]
) -> None:
    with socket.create_connection(_socket_address(lab.addresses["smu"]["source"]["tcp"])) as line:
        line.sendall(b":SOUR:VOLT:RANG 2\n:SOUR:VOLT:LEV 0.5\n:OUTP ON\n")
        with lab.control("smu") as control:
            _until(lambda: control.inspect("outputs")["on"])
    half = {**lab.plain["smu"], "matrix_url": "tcp://127.0.0.1:1"}
    code, out, _ = call("safe", lab.write("half", half), "--json")
    assert code == 3 and json.loads(out)["outputs"] == {"source": "off", "matrix": "unreadable"}
    with lab.control("smu") as control:
        assert not control.inspect("outputs")["on"]
    half = {**lab.plain["smu"], "source_url": "tcp://127.0.0.1:1"}
    code, _, err = call("safe", lab.write("half", half))
    assert code == 3 and "SAFE NOT CONFIRMED" in err and "nothing listens there" in err


@pytest.mark.slow
def test_an_arcone_that_was_left_in_the_middle_of_a_job(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    host, port = _socket_address(lab.addresses["arcone"]["tcp"])
    with socket.create_connection((host, port)) as line:
        line.sendall(b"2\n2\n32\n32\n5\n1\n")
        time.sleep(0.05)
    run = lab.write("xor", {**XOR, "board": lab.file("arcone")})
    code, out, _ = call("run", run, "--out", lab.folder / "silent", "--json")
    assert code == 3 and "`hil safe` with its file resets it" in json.loads(out)["error"]
    code, out, _ = call("safe", lab.file("arcone"))
    assert (code, out) == (0, "arcone: SAFE confirmed\n")


def _socket_address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _until(is_so: Callable[[], Any], seconds: float = 10.0) -> float:
    """Waits until something is so, and gives how long that took, s."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, "it did not come about in time"
        time.sleep(0.01)
    return time.monotonic() - began


# -- runs --------------------------------------------------------------------------------------------------------------


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
        _until(lambda: any(o["run"] == "xor" for o in json.loads(call("who", "--json")[1])))
        assert f"process {process.pid}" in call("who")[1]
        with lab.control("framed") as control:
            _until(lambda: control.inspect("outputs")["on"])
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
        _until(lambda: len(json.loads(call("who", "--json")[1])) == 2)  # the board, and its line
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
        assert _line(host) == b"open\n"
        (keeper,) = keepers(host.pid)
        with lab.control(name) as control:
            _until(lambda: control.inspect("outputs")["on"])
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
        took = _until(lambda: lab.is_off(name))
        _until(lambda: not alive(keeper))
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
        _until(lambda: any(o["run"] == "keeper" for o in json.loads(call("who", "--json")[1])))
        code, out, _ = call("safe", lab.file("arcone"))
        assert (code, out) == (0, "arcone: SAFE confirmed\n")
        host.communicate(timeout=10)
    finally:
        lab.write("arcone", lab.plain["arcone"])
    _until(lambda: not alive(keeper))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for keepers in /proc")
def test_a_keeper_goes_with_an_orderly_end(lab: Lab, call: Callable[..., tuple[int, str, str]]) -> None:
    run = lab.write("long", {**XOR, "board": "arcone.yaml", "steps": 1_000_000})
    process = started(lab, "-m", "hil", "run", str(run), "--out", "orderly", "--json")
    try:
        _until(lambda: bool(keepers(process.pid)))
        (keeper,) = keepers(process.pid)
        with lab.control("arcone") as control:
            _until(lambda: control.inspect("outputs")["on"])
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 4 and json.loads(out.splitlines()[-1])["safe"] == "SAFE confirmed"
    assert b"keeper" not in err and not alive(keeper) and lab.is_off("arcone")
    assert call("who", "--json")[1] == "[]\n"
