"""The doctor: each thing that can be wrong is found, and the text says what to do."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from hil.lab import doctor
from hil.lab.doctor import Finding


def found(name: str) -> Finding:
    """What one look finds."""
    looks = {"packages": doctor._rooms, "storage": doctor._storage, "sqlite": doctor._sqlite}
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
