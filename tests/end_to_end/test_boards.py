"""Boards as a technician meets them: virtual ones in processes of their own, and the commands around them."""

from __future__ import annotations

import copy
import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from virtual_lab import BOARDS, XOR, Lab, emulated, until


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
            until(lambda: control.inspect("outputs")["on"])
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
