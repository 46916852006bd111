"""A board file may name a device file; what a run stores is complete without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ConfigError
from hil.lab import config
from hil.lab.opening import read_board
from sim_backend.config import DeviceFile

BOARD = Path("config/boards/daffodil.yaml")
DEVICES = sorted(Path("config/devices").glob("*.yaml"))


def board_with(tmp_path: Path, device: str, law: str = "") -> Path:
    """The Daffodil board with a line in place of its own law."""
    text = BOARD.read_text()
    begin, end = text.index("  law:\n"), text.index("  faults:")
    path = tmp_path / "board.yaml"
    path.write_text(f"{text[:begin]}  device: {device}\n{law}{text[end:]}")
    return path


@pytest.mark.parametrize("device", DEVICES, ids=lambda path: path.stem)
def test_every_preset_can_take_the_place_of_a_board_s_law(device, tmp_path):
    loaded = read_board(board_with(tmp_path, str(device)))
    wanted = config.load(device, DeviceFile).value
    assert loaded.value.simulator.law == wanted.law and loaded.value.simulator.aging == wanted.aging
    assert loaded.where["simulator.law.kind"].startswith(str(device))


def test_what_is_stored_loads_again_without_the_named_file(tmp_path):
    device = tmp_path / "mine.yaml"
    device.write_text(DEVICES[0].read_text())
    loaded = read_board(board_with(tmp_path, "mine.yaml"))
    device.unlink()
    stored = tmp_path / "stored.yaml"
    stored.write_text(config.dump(loaded.plain))
    assert read_board(stored).value.simulator == loaded.value.simulator


def test_a_law_of_its_own_wins(tmp_path):
    usual = "volts_up: 1 V, volts_down: 1 V, seconds: 1 us"
    law = f"  law: {{kind: soft_bounds, low: 10 uS, high: 20 uS, states: 7, {usual}}}\n"
    assert read_board(board_with(tmp_path, "nowhere.yaml", law)).value.simulator.law.states == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("law: {kind: soft_bonds}\nsource: x\n", "soft_bounds"),
        ("source: x\n", "law"),
        ("- 1\n", "mine.yaml:1:1"),
    ],
)
def test_a_device_file_that_cannot_be_used_is_named(content, said, tmp_path):
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_board(board_with(tmp_path, "mine.yaml"))
