"""Where configuration files are looked for, and what the name of a run may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hil.errors import ConfigError
from hil.lab import config


def test_find_looks_in_four_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, beside, lab = tmp_path / "here", tmp_path / "runs", tmp_path / "lab"
    files = [here / "a.yaml", beside / "b.yaml", here / "config" / "c.yaml", lab / "d.yaml"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HIL_CONFIG", str(lab))
    found = [config.find(file.name, beside / "run.yaml") for file in files]
    assert [path.resolve() for path in found] == files
    assert config.find(files[3]) == files[3]
    (beside / "a.yaml").touch()
    assert config.find("a.yaml", beside / "run.yaml") == Path("a.yaml")
    tried = ["e.yaml", str(beside / "e.yaml"), "config/e.yaml", str(lab / "e.yaml")]
    for name in ("e.yaml", "nul\0", "x" * 5000, "", "config"):
        with pytest.raises(ConfigError) as caught:
            config.find(name, beside / "run.yaml")
        assert name != "e.yaml" or str(caught.value) == f"e.yaml: no such file; looked for {', '.join(tried)}"


@pytest.mark.parametrize("name", ["a", "2024-01-01_run.1", "A" * 64])
def test_run_names(name: str) -> None:
    assert config.run_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-rf", ".hidden", "a/b", "a\\b", "a b", "a\n", "é", "A" * 65, "a\0"])
def test_hostile_run_names(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used; write up to 64 letters"):
        config.run_name(name)


def test_inside_keeps_paths_in_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "real").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "alias").symlink_to(root / "real")
    assert config.inside(root, "real/x.png") == root / "real" / "x.png"
    assert config.inside(root, "alias/x.png") == root / "real" / "x.png"
    hostile = ["..", "../runs/real", "real/../real", "real\\..\\x", "/etc/passwd", "out/x", "loop/x", "", ".", "a\0b"]
    for name in hostile:
        with pytest.raises(ConfigError, match="leads out of|not a usable path"):
            config.inside(root, name)


def test_importing_the_door_does_not_import_pydantic() -> None:
    code = "import sys, hil.lab.config; sys.exit('pydantic' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
