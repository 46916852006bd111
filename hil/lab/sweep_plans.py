"""The combinations of a sweep: run file and board file of each, checked beforehand and made when a run is ordered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hil.errors import ConfigError, StorageError
from hil.lab import config, sweep_jobs, tables, yaml_text
from hil.lab.boardfile import BoardFile, SimulatedBoard
from hil.lab.opening import read_board
from hil.lab.overrides import override
from hil.lab.plain import Plain, printable
from hil.lab.runfile import tightened
from hil.lab.sweepfile import as_overrides, parted

BOARDS = "boards"


class Combinations:
    """Makes run files and board files of combinations.

    Args:
        run_file: the run file.
        where: ``file:line`` of the sweep file's keys.

    Raises:
        ConfigError: the run file cannot be read.
    """

    def __init__(self, run_file: Path, where: Mapping[str, str]) -> None:
        self._file, self._where = run_file, where
        self._tree = yaml_text.read_file(run_file)
        self.run = cast(dict[str, Plain], self._tree.value) if isinstance(self._tree.value, dict) else {}
        self.boards: dict[str, dict[str, Plain]] = {}
        """Complete board files by their names in the run file."""
        self.fixed_chip = False
        """Whether a board file names the seed of its chip."""
        self._stored: dict[str, str] = {}
        """Paths of board files in the sweep's folder, by name and varied settings."""

    def check(self, combination: Mapping[str, Any]) -> None:
        """Reads run file and board file of a combination.

        Raises:
            ConfigError: they cannot be used together, or the board is not simulated.
        """
        try:
            self._check(*parted(combination))
        except ConfigError as error:
            error.add_note(f"in the combination {printable(', '.join(as_overrides(combination)), 500)}")
            raise

    def _check(self, settings: Mapping[str, Any], of_board: Mapping[str, Any]) -> None:
        plan = sweep_jobs.read_plan(self._file, self.run, self._overrides(settings))
        board = plan.board
        self.boards[plan.run.value.board] = board.plain
        if of_board:
            board = read_board(_changed(board.plain, of_board))
            tightened(board.value.spec, plan.run.value.limits, plan.run.where)
        value: BoardFile = board.value
        if not isinstance(value, SimulatedBoard):
            problem = "names a board that is not simulated; a chip has one owner, and is worn by every run of a sweep"
            raise ConfigError.at(self._where.get("run", str(self._file)), "run", problem)
        self.fixed_chip |= value.simulator.seed is not None

    def _overrides(self, settings: Mapping[str, Any]) -> list[str]:
        own = () if sweep_jobs.is_deployment(self.run) else ("threads=1",)
        return [*own, *as_overrides(settings)]

    def content(self, combination: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
        """The content of a run file; its board is an absolute path in the sweep's folder, and is written there.

        Raises:
            StorageError: the board file cannot be written.
        """
        settings, of_board = parted(combination)
        plain = cast(dict[str, Any], override(self._tree, self._overrides(settings)).value)
        return {**plain, "seed": seed, "board": self._board(str(plain["board"]), of_board, folder)}

    def _board(self, name: str, settings: Mapping[str, Any], folder: Path) -> str:
        key = " ".join([name, *as_overrides(settings)])
        if key not in self._stored:
            text = config.dump(_changed(self.boards[name], settings))
            try:
                (folder / BOARDS).mkdir(exist_ok=True)
            except OSError as error:
                raise StorageError(str(folder), str(error)) from error
            # named after its content, so that no run ever finds another board under the path that it was given
            path = config.inside(folder, f"{BOARDS}/board-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml")
            tables.write(path, text)
            self._stored[key] = str(path)
        return self._stored[key]


def _changed(plain: dict[str, Plain], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A board file with other settings."""
    return cast(dict[str, Any], override(yaml_text.read_plain(plain, "<board>"), as_overrides(settings)).value)
