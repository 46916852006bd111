"""The doctor: each thing that can be wrong is found, and the text says what to do."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.lab import doctor
from hil.lab.doctor import Finding


def found(name: str) -> Finding:
    """What one look finds."""
    looks = {
        "packages": doctor._rooms,
        "storage": doctor._storage,
        "sqlite": doctor._sqlite,
        "serial ports": doctor._ports,
        "visa": doctor._visa,
        "board locks": doctor._locks,
    }
    return looks[name]() if name in looks else doctor._package(name)


def test_all_is_well_here() -> None:
    findings = doctor.examine()
    assert all(finding.good for finding in findings), [f for f in findings if not f.good]
    assert len({finding.name for finding in findings}) == len(findings) >= 10


def test_two_distributions_with_one_room(mocker: Any) -> None:
    mocker.patch("importlib.metadata.packages_distributions", return_value={"protocols": ["crossbar-hil", "other"]})
    assert not found("packages").good
    assert "protocols belongs to crossbar-hil and other" in found("packages").text


@pytest.mark.parametrize(
    ("version", "good"), [("2.9.1", False), ("2.10.0", True), ("2.13.2+cpu", True), ("2.14.0", False)]
)
def test_versions_of_torch(mocker: Any, version: str, good: bool) -> None:
    usual = importlib.metadata.version
    mocker.patch("importlib.metadata.version", lambda name: version if name == "torch" else usual(name))
    assert found("torch").good is good
    assert version in found("torch").text


def test_a_package_that_is_missing(mocker: Any) -> None:
    mocker.patch("importlib.metadata.version", side_effect=importlib.metadata.PackageNotFoundError("x"))
    assert not found("PyVISA").good and "install crossbar-hil again" in found("PyVISA").text


def test_a_folder_that_cannot_be_written(mocker: Any) -> None:
    mocker.patch("tempfile.NamedTemporaryFile", side_effect=PermissionError(13, "Permission denied"))
    assert not found("storage").good and "Permission denied" in found("storage").text


def test_an_old_sqlite(mocker: Any) -> None:
    mocker.patch("sqlite3.sqlite_version_info", (3, 7, 0))
    assert not found("sqlite").good and "3.22 or newer" in found("sqlite").text


def test_looking_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    doctor.examine()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("vid", "usable", "good"), [(0x0D28, True, True), (0x0D28, False, False), (None, False, True)])
def test_serial_ports(mocker: Any, tmp_path: Path, vid: int | None, usable: bool, good: bool) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    mocker.patch("serial.tools.list_ports.comports", return_value=[SimpleNamespace(device=str(port), vid=vid)])
    mocker.patch("os.access", return_value=usable)
    look = found("serial ports")
    assert look.good is good and str(port) in look.text
    assert ("usermod -aG" in look.text) is not usable


def test_no_serial_port_is_no_fault(mocker: Any) -> None:
    mocker.patch("serial.tools.list_ports.comports", return_value=[])
    assert found("serial ports").good


def test_no_visa_library(mocker: Any) -> None:
    mocker.patch("instruments.links.visa_resources.resources", side_effect=ValueError("no such library"))
    assert not found("visa").good and "no such library" in found("visa").text


def test_locks_that_are_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_LOCKS", str(tmp_path / "locks"))
    assert found("board locks").good
    (tmp_path / "locks").chmod(0o777)  # others can replace what is in it
    assert not found("board locks").good and "sticky bit" in found("board locks").text
