"""Virtual boards of each kind in processes of their own, in one folder, with files that name them."""

from __future__ import annotations

import copy
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

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
        yield process, lambda: json.loads(first_line(process))
    finally:
        process.terminate()
        process.communicate(timeout=10)


def first_line(process: subprocess.Popen[bytes], seconds: float = 20.0) -> bytes:
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


@contextmanager
def virtual_lab(folder: Path, forks: ForkServerContext) -> Generator[Lab]:
    """Starts a board of each kind, and ends them all."""
    lines = ["--pty", "--tcp", "127.0.0.1:0", "--control", "127.0.0.1:0", "--seed", "7"]
    names = {"framed": "daffodil_framed", "arcone": "arcone", "smu": "smu_matrix"}
    processes = []
    for name, file in names.items():
        words = ["emulate", str(BOARDS / f"{file}.yaml"), *lines, "--ready-file", str(folder / f"{name}.json")]
        processes.append(forks.Process(target=cli.main, args=(words,)))  # it has loaded all packages already
        processes[-1].start()
    try:
        for name in names:
            until((folder / f"{name}.json").exists, 20.0)
        yield Lab(folder, {name: json.loads((folder / f"{name}.json").read_text()) for name in names})
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(10)
            process.close()


def started(lab: Lab, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=lab.folder,
        env=environment(lab.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def until(is_so: Callable[[], Any], seconds: float = 10.0) -> float:
    """Waits until something is so, and gives how long that took, s."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, "it did not come about in time"
        time.sleep(0.01)
    return time.monotonic() - began
