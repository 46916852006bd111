"""The file in which a chip's wear lives, across all runs: ``chips/<serial>.db``.

It may read too high after a crash, never too low: pulses are stored, with a margin, before they are sent. A clean close
stores the exact numbers. One process at a time owns a chip's file.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from hil.contract import BoardSpec
from hil.errors import BoardMissing, CheckpointError, CheckpointMismatch, StorageError
from hil.lab import config
from hil.lab.transaction import transaction
from hil.lab.wear import Wear

_APPLICATION = 0x48494C43  # "HILC", as `file` shows it
_VERSION = 1
_TABLES = """
CREATE TABLE chip (serial TEXT NOT NULL, kernels INTEGER NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL);
CREATE TABLE kernel (k INTEGER PRIMARY KEY, life BLOB NOT NULL, formed BLOB NOT NULL, crc INTEGER NOT NULL);
"""


class ChipFile:
    """The wear of one chip on disk.

    Args:
        folder: where chip files are kept; made when it is missing.
        serial: serial number of the chip; it names the file, so it may hold letters, digits, '.', '_' and '-' only.
        cells: (kernels, rows, cols) of the chip.
        margin: pulses of each cell that are stored ahead; what a crash may cost. A larger one means fewer writes.
        full_sync: wait for the disk at each write, so that a power failure costs no more than a crash.

    Raises:
        BoardMissing: another process owns the file.
        CheckpointError: the file is damaged, or is no chip file.
        CheckpointMismatch: the file belongs to another chip.
        StorageError: the file cannot be made.
    """

    def __init__(
        self, folder: Path, serial: str, cells: tuple[int, int, int], margin: int = 100, *, full_sync: bool = False
    ) -> None:
        config.run_name(serial, "chip serial")
        self._serial, self._cells, self._margin, self._full_sync = serial, cells, margin, full_sync
        self._closed = False
        with self._disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = config.inside(folder, f"{serial}.db")
        with self._disk(self.path):
            self._db = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        try:
            with self._disk(self.path):
                self._open()
            self._life, self._formed = self._read()
        except BaseException:
            self._db.close()
            raise
        self._exact, self._stored_formed = self._life.clone(), self._formed.clone()

    def load(self) -> tuple[Tensor, Tensor]:
        """Pulses of each cell in its life, int64 [K, R, C], and whether it was formed, bool [K, R, C]."""
        return self._life.clone(), self._formed.clone()

    def reserve(self, life: Tensor, formed: Tensor) -> Tensor:
        """Stores a life that is ahead of what is about to be sent, and gives it, int64 [K, R, C].

        Cells that got pulses since the file was opened or settled are stored with the margin on top, so that the next
        pulses of many cells cost no write. Cells about to be formed are stored as formed.

        Args:
            life: pulses of each cell with those about to be sent, int64 [K, R, C].
            formed: cells formed or about to be, bool [K, R, C].
        """
        ahead = torch.where(life > self._exact, life + self._margin, life)
        reserved = torch.maximum(ahead, self._life)
        self._write(reserved, formed | self._formed)
        return reserved.clone()

    def settle(self, life: Tensor, formed: Tensor) -> None:
        """Stores the exact numbers, at a clean close."""
        self._write(life, formed)
        self._exact = life.clone()

    def wear(self, spec: BoardSpec) -> Wear:
        """The counters of the chip, which this file keeps."""
        if spec.cells != self._cells:
            raise CheckpointMismatch(str(self.path), "chip geometry", self._cells, spec.cells)
        life, formed = self.load()
        return Wear(spec, life, formed, self.reserve, self.finish)

    def finish(self, life: Tensor, formed: Tensor) -> None:
        """Stores the exact numbers and lets go of the file; again, it does nothing."""
        if not self._closed:
            self.settle(life, formed)
            self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._closed = True
        self._db.close()

    def __enter__(self) -> ChipFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Takes the file for this process; makes the tables of a new one."""
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if self._full_sync else 'NORMAL'}")
        with transaction(self._db):
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables:
                self._make()
        (application,), (version,) = (db.execute(f"PRAGMA {n}").fetchone() for n in ("application_id", "user_version"))
        if application != _APPLICATION:
            raise CheckpointError(str(self.path), "is not a chip file of Crossbar-HIL")
        if version != _VERSION:
            raise CheckpointError(str(self.path), f"has version {version}, this program knows version {_VERSION}")

    def _make(self) -> None:
        for statement in _TABLES.strip().splitlines():
            self._db.execute(statement)
        self._db.execute("INSERT INTO chip VALUES (?, ?, ?, ?)", (self._serial, *self._cells))
        zeros = torch.zeros(self._cells, dtype=torch.int64)
        for k in range(self._cells[0]):
            self._store(k, zeros[k], zeros[k] > 0)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _read(self) -> tuple[Tensor, Tensor]:
        with self._disk(self.path):
            chips = self._db.execute("SELECT serial, kernels, rows, cols FROM chip").fetchall()
            kernels = self._db.execute("SELECT k, life, formed, crc FROM kernel ORDER BY k").fetchall()
        if len(chips) != 1:
            raise CheckpointError(str(self.path), f"names {len(chips)} chips instead of one")
        serial, *cells = chips[0]
        if serial != self._serial:
            raise CheckpointMismatch(str(self.path), "chip serial", serial, self._serial)
        if tuple(cells) != self._cells:
            raise CheckpointMismatch(str(self.path), "chip geometry", tuple(cells), self._cells)
        life = torch.zeros(self._cells, dtype=torch.int64)
        formed = torch.zeros(self._cells, dtype=torch.bool)
        if [row[0] for row in kernels] != list(range(self._cells[0])):
            raise CheckpointError(str(self.path), "does not hold each kernel once")
        shape = self._cells[1:]
        for k, life_bytes, formed_bytes, crc in kernels:
            if not self._sound(life_bytes, formed_bytes, crc):
                raise CheckpointError(str(self.path), f"the counters of kernel {k} are damaged")
            life[k] = torch.frombuffer(bytearray(life_bytes), dtype=torch.int64).view(shape)
            formed[k] = torch.frombuffer(bytearray(formed_bytes), dtype=torch.uint8).view(shape) != 0
        if bool((life < 0).any()):
            raise CheckpointError(str(self.path), "holds a pulse count below 0")
        return life, formed

    def _sound(self, life: object, formed: object, crc: object) -> bool:
        count = self._cells[1] * self._cells[2]
        if not isinstance(life, bytes) or not isinstance(formed, bytes):
            return False
        return len(life) == 8 * count and len(formed) == count and zlib.crc32(life + formed) == crc

    def _write(self, life: Tensor, formed: Tensor) -> None:
        """Stores the kernels that changed, in one transaction."""
        changed = ((life != self._life) | (formed != self._formed)).any(2).any(1)
        if not bool(changed.any()):
            return
        with self._disk(self.path), transaction(self._db):
            for k in (k for k, is_changed in enumerate(changed) if is_changed):
                self._store(k, life[k], formed[k])
        self._life, self._formed = life.clone(), formed.clone()

    def _store(self, k: int, life: Tensor, formed: Tensor) -> None:
        """Stores one kernel: int64 in the machine's (little-endian) order, one byte a cell for formed."""
        life_bytes, formed_bytes = life.numpy().tobytes(), formed.to(torch.uint8).numpy().tobytes()
        row = (k, life_bytes, formed_bytes, zlib.crc32(life_bytes + formed_bytes))
        self._db.execute("INSERT OR REPLACE INTO kernel VALUES (?, ?, ?, ?)", row)

    @contextmanager
    def _disk(self, path: Path) -> Generator[None]:
        """Turns what disk and database say into errors that help."""
        try:
            yield
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise BoardMissing(self._serial, f"another process uses its chip file {path}; end that one") from None
            if name == "SQLITE_ERROR":  # a table or column is missing
                raise CheckpointError(str(path), f"is not a chip file that can be read ({error})") from None
            raise StorageError(str(path), str(error)) from None
        except sqlite3.ProgrammingError as error:
            raise StorageError(str(path), str(error)) from None
        except sqlite3.DatabaseError as error:
            raise CheckpointError(str(path), f"is damaged or no chip file ({error})") from None
        except OSError as error:
            raise StorageError(str(path), error.strerror or str(error)) from None
