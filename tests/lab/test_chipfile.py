"""The file of a chip's wear: it survives everything, and after a crash it reads too high but never too low."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Blocks, BoardSpec, Pulse, Shape
from hil.errors import BoardMissing, CheckpointError, CheckpointMismatch, ConfigError, LimitExceeded, StorageError
from hil.lab.chipfile import ChipFile
from hil.lab.guard import Guard
from sim_backend.board import SimBoard

CELLS = (2, 3, 4)
MARGIN = 10


def opened(folder: Path, serial: str = "a-1", cells: tuple[int, int, int] = CELLS) -> ChipFile:
    return ChipFile(folder, serial, cells, MARGIN)


def lives(*pulses: tuple[int, int, int, int]) -> torch.Tensor:
    life = torch.zeros(CELLS, dtype=torch.int64)
    for k, r, c, count in pulses:
        life[k, r, c] = count
    return life


NONE = torch.zeros(CELLS, dtype=torch.bool)


def test_a_new_chip_has_no_wear_and_settled_numbers_come_back_exactly(tmp_path: Path) -> None:
    life, formed = lives((0, 1, 2, 5), (1, 2, 3, 2**62)), lives((1, 0, 0, 1)) > 0
    with opened(tmp_path / "chips") as file:
        assert file.path == tmp_path / "chips" / "a-1.db"
        assert not file.load()[0].any() and not file.load()[1].any()
        file.reserve(life, formed)
        file.settle(life, formed)
    with opened(tmp_path / "chips") as file:
        assert torch.equal(file.load()[0], life) and torch.equal(file.load()[1], formed)


def test_a_reserve_raises_touched_cells_by_the_margin_and_no_others(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        file.settle(lives((0, 0, 0, 7)), NONE)
        reserved = file.reserve(lives((0, 0, 0, 7), (1, 1, 1, 3)), NONE)
        assert torch.equal(reserved, lives((0, 0, 0, 7), (1, 1, 1, 3 + MARGIN)))
        later = file.reserve(lives((0, 0, 0, 8), (1, 1, 1, 4)), NONE)
        assert torch.equal(later, lives((0, 0, 0, 8 + MARGIN), (1, 1, 1, 4 + MARGIN)))
    with opened(tmp_path) as file:  # closed without settling, like a crash
        assert torch.equal(file.load()[0], later)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 25), min_size=4, max_size=4), max_size=8), st.integers(0, 40))
def test_after_a_crash_the_file_is_never_too_low_and_at_most_the_margin_too_high(
    tmp_path_factory: pytest.TempPathFactory, lists: list[list[int]], margin: int
) -> None:
    folder = tmp_path_factory.mktemp("chips")
    file = ChipFile(folder, "a", (1, 1, 4), margin)
    life, reserved = file.load()[0], file.load()[0]
    formed = torch.zeros(1, 1, 4, dtype=torch.bool)
    for counts in lists:
        life += torch.tensor(counts)
        if bool((life > reserved).any()):
            reserved = file.reserve(life, formed)
    file.close()
    with ChipFile(folder, "a", (1, 1, 4), margin) as file:
        excess = file.load()[0] - life
        assert int(excess.min()) >= 0 and int(excess.max()) <= margin


CRASH = """
import os, sys
from pathlib import Path
import torch
from hil.lab.chipfile import ChipFile
for when in ("before", "settle"):
    child = os.fork()
    if child:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 9:
            sys.exit(1)
        continue
    file = ChipFile(Path(sys.argv[1]) / when, "a-1", (2, 3, 4), 10)
    life, formed = file.load()
    for _ in range(3):
        life[1, 2, 3] += 4
        formed[0, 0, 1] = True
        file.reserve(life, formed)
    if when == "settle":
        file.settle(life, formed)
    os._exit(9)
"""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders whose processes died before and after they settled."""
    folder = tmp_path_factory.mktemp("crashed")
    subprocess.run([sys.executable, "-c", CRASH, str(folder)], check=True, timeout=50)
    return folder


@pytest.mark.parametrize(("when", "expected"), [("before", 12 + MARGIN), ("settle", 12)])
def test_a_killed_process_loses_nothing_and_frees_the_file(crashed: Path, when: str, expected: int) -> None:
    with opened(crashed / when) as file:
        life, formed = file.load()
    assert int(life[1, 2, 3]) == expected and int(life.sum()) == expected
    assert bool(formed[0, 0, 1]) and int(formed.sum()) == 1


def test_one_process_owns_a_chip(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(BoardMissing, match="another process uses its chip file"):
        opened(tmp_path)
    with opened(tmp_path), opened(tmp_path, "a-2"):
        pass


# What must be refused


def test_another_geometry_or_serial_is_a_mismatch(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(CheckpointMismatch, match=r"chip geometry was \(2, 3, 4\).*\(2, 4, 3\)"):
        opened(tmp_path, cells=(2, 4, 3))
    (tmp_path / "a-1.db").rename(tmp_path / "b-1.db")
    with pytest.raises(CheckpointMismatch, match="chip serial was 'a-1'"):
        opened(tmp_path, "b-1")


@pytest.mark.parametrize("serial", ["", "..", "../a", "a/b", "a\\b", ".a", "a b", "a\0", "A" * 65, "é"])
def test_a_serial_cannot_leave_the_folder(tmp_path: Path, serial: str) -> None:
    with pytest.raises(ConfigError, match="chip serial"):
        opened(tmp_path / "chips", serial)
    assert not list(tmp_path.iterdir())


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "a-1.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(ConfigError, match="leads out of"):
        opened(tmp_path / "chips")
    assert not (tmp_path / "elsewhere.db").exists()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _sql(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: _write(path, b"not a database, but long enough to look like one" * 100),
        lambda path: _write(path, path.read_bytes()[:5000]),
        lambda path: _sql(path, "DROP TABLE kernel"),
        lambda path: _sql(path, "DELETE FROM kernel WHERE k = 1"),
        lambda path: _sql(path, "DELETE FROM chip"),
        lambda path: _sql(path, "INSERT INTO chip SELECT * FROM chip"),
        lambda path: _sql(path, "UPDATE kernel SET life = x'00' WHERE k = 0"),
        lambda path: _sql(path, "UPDATE kernel SET life = 'text' WHERE k = 0"),
        lambda path: _sql(path, "UPDATE kernel SET formed = zeroblob(3) WHERE k = 0"),
        lambda path: _sql(path, "UPDATE kernel SET crc = crc + 1 WHERE k = 1"),
        lambda path: _sql(path, "PRAGMA user_version = 2"),
        lambda path: _sql(path, "PRAGMA application_id = 7"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    opened(tmp_path).close()
    damage(tmp_path / "a-1.db")
    with pytest.raises(CheckpointError):
        opened(tmp_path)


def test_a_negative_count_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        file.settle(lives((0, 0, 0, -1)), NONE)
    with pytest.raises(CheckpointError, match="below 0"):
        opened(tmp_path)


def test_another_database_is_no_chip_file(tmp_path: Path) -> None:
    _sql(tmp_path / "a-1.db", "CREATE TABLE other (x)")
    with pytest.raises(CheckpointError, match="is not a chip file"):
        opened(tmp_path)


def test_disk_errors_are_storage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        opened(tmp_path / "file" / "chips")
    (tmp_path / "a-1.db").mkdir()
    with pytest.raises(StorageError):
        opened(tmp_path)
    file = opened(tmp_path, "b")
    file.close()
    with pytest.raises(StorageError):
        file.reserve(lives((0, 0, 0, 1)), NONE)


def test_a_disk_that_cannot_be_written_stops_the_pulses(tmp_path: Path, spec_of: Callable[..., BoardSpec]) -> None:
    board, spec = Counting(spec_of()), spec_of()
    file = ChipFile(tmp_path, "a", spec.cells)
    guard = Guard(board, file.wear(spec))
    before = guard.wear.snapshot()
    file._db.execute("PRAGMA query_only = 1")  # answers like a disk that became read-only
    with pytest.raises(StorageError):
        guard.execute([pulses(spec, 3)])
    assert board.lists == 0
    assert all(torch.equal(before[name], now) for name, now in guard.wear.snapshot().items())


# Behind the guard


class Counting:
    """A board that counts lists and does nothing."""

    def __init__(self, spec: BoardSpec) -> None:
        self.spec, self.lists = spec, 0

    def execute(self, ops: list[object]) -> list[object]:
        self.lists += 1
        raise AssertionError("nothing may be sent here")

    def close(self) -> None:
        pass


def pulses(spec: BoardSpec, count: int) -> Pulse:
    blocks = Blocks((1,), (0,), (0,), 2, 2)
    shape = Shape(1.0, 1e-6, 2.5)
    return Pulse(blocks, torch.tensor([[[count, 0], [0, -1]]]), shape, shape)


def test_the_guard_stores_wear_before_pulses_and_the_exact_wear_at_the_end(
    tmp_path: Path, quiet_board: Callable[..., SimBoard]
) -> None:
    board = quiet_board()
    spec = board.spec
    seen: list[int] = []
    file = ChipFile(tmp_path, "a", spec.cells, MARGIN)

    def stored() -> int:
        row = file._db.execute("SELECT life FROM kernel WHERE k = 1").fetchone()[0]
        return int(torch.frombuffer(bytearray(row), dtype=torch.int64).max())

    execute = board.execute
    board.execute = lambda ops: (seen.append(stored()), execute(ops))[1]  # type: ignore[method-assign]
    guard = Guard(board, file.wear(spec))
    for count in (3, 3, 3, 3, 3):
        guard.execute([pulses(spec, count)])
    assert seen == [13, 13, 13, 13, 25]  # ahead of 3, 6, 9, 12, 15
    guard.close()
    guard.close()
    with ChipFile(tmp_path, "a", spec.cells) as again:
        assert int(again.load()[0][1, 0, 0]) == 15
        assert torch.equal(again.load()[0], guard.wear.life)


def test_a_worn_out_cell_stays_worn_out_in_the_next_run(
    tmp_path: Path, spec_of: Callable[..., BoardSpec], quiet_board: Callable[..., SimBoard]
) -> None:
    spec = spec_of(limits={"pulses_per_life": 8})
    for count in (5, 3):
        guard = Guard(quiet_board(spec), ChipFile(tmp_path, "a", spec.cells).wear(spec))
        guard.execute([pulses(spec, count)])
        guard.close()
    guard = Guard(quiet_board(spec), ChipFile(tmp_path, "a", spec.cells).wear(spec))
    with pytest.raises(LimitExceeded, match=r"pulses per life 9 above 8 \(kernel 1, row 0, column 0\)"):
        guard.execute([pulses(spec, 1)])
    guard.close()


def test_a_chip_file_belongs_to_one_geometry(tmp_path: Path, spec_of: Callable[..., BoardSpec]) -> None:
    with opened(tmp_path) as file, pytest.raises(CheckpointMismatch, match="geometry"):
        file.wear(spec_of())
