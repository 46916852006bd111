"""The battery on boards in processes of their own, as a technician runs it: `pytest tests/conformance --board URL`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from framed_boards import daffodil

from instruments.virtual.control_client import Control
from instruments.virtual.shell import ShellSettings

ROOT = Path(__file__).parents[2]
LOCAL = "127.0.0.1:0"


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_the_battery_passes_on_a_virtual_board_and_ends_safe(line, tmp_path):
    with daffodil(ShellSettings(tcp=LOCAL, pty=True, control=LOCAL)) as addresses:
        command = [sys.executable, "-m", "pytest", "tests/conformance/test_backend.py", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "hardware", "--board", addresses[line], "--rootdir", str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HIL_LOCKS": str(tmp_path / "locks")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert " passed" in done.stdout and "skipped" not in done.stdout
        with Control(addresses["control"]) as control:
            history = control.inspect("history", last=10_000)
    last = [change for change in history if change[0] == "outputs"][-1]
    volts = [change for change in history if change[0] == "volts"]
    assert last == ["outputs", "off"] and volts[-1] == ["volts", 0.0] and history[-1] == ["outputs", "off"]
    writes = [number for number, change in enumerate(volts) if abs(change[1]) > 0.31]  # reads go up to 0.3 V
    assert writes[0] >= 6 and len(writes) > 10
