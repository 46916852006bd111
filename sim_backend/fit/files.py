"""Jump tables as text: for each polarity two axes, one number a line, and a cdf with one row a line.

    set_axis_level_G.txt  set_axis_level_dG.txt  set_cdf.txt  (and the same for reset; a prefix such as 1.5V_ may stand
    before all six)

This is the format of the public TiOx tables of XBTorch. Numbers are written with all their digits, so that what is read
back is equal bit by bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hil.errors import ConfigError
from sim_backend.fit.table import MOST_LEVELS, MOST_VALUES, Array, Jumps, JumpTable
from sim_backend.fit.text import cut, floating, opened

MOST_BYTES = 1 << 27
_FIRST = "set_axis_level_G.txt"
_POLARITIES = ("set", "reset")


def read_table(path: Path) -> JumpTable:
    """Reads a table.

    Args:
        path: a folder that holds one table, or a folder and the prefix of its files, ``tables/1.5V``.

    Raises:
        ConfigError: there is no such table, or it cannot be used.
    """
    folder, prefix = _found(path)
    return JumpTable(*(_read_jumps(folder, f"{prefix}{polarity}_") for polarity in _POLARITIES))


def as_text(table: JumpTable, prefix: str = "") -> dict[str, str]:
    """The six files of a table: their text by name."""
    found: dict[str, str] = {}
    for polarity, jumps in zip(_POLARITIES, (table.up, table.down), strict=True):
        found |= {
            f"{prefix}{polarity}_axis_level_G.txt": "".join(f"{value!r}\n" for value in jumps.g.tolist()),
            f"{prefix}{polarity}_axis_level_dG.txt": "".join(f"{value!r}\n" for value in jumps.dg.tolist()),
            f"{prefix}{polarity}_cdf.txt": "".join(" ".join(map(repr, row)) + "\n" for row in jumps.cdf.tolist()),
        }
    return found


def _found(path: Path) -> tuple[Path, str]:
    """The folder of a table and the prefix of its files."""
    try:
        is_folder = path.is_dir()
        firsts = sorted(path.glob(f"*{_FIRST}")) if is_folder else []
    except (OSError, ValueError) as error:
        raise ConfigError.at(cut(str(path)), "", f"cannot be looked into ({cut(str(error))})") from error
    if not is_folder:
        return path.parent, f"{path.name}_"
    prefixes = [first.name.removesuffix(_FIRST) for first in firsts]
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith("_")]  # "reset" ends with "set" as well
    if len(prefixes) == 1:
        return path, prefixes[0]
    if not prefixes:
        raise ConfigError.at(str(path), "", f"expected a jump table, there is no file *{_FIRST} in this folder")
    names = ", ".join(str(path / prefix.removesuffix("_")) for prefix in prefixes[:5])
    raise ConfigError.at(str(path), "", f"holds {len(prefixes)} jump tables, name one of them: {names}")


def _read_jumps(folder: Path, prefix: str) -> Jumps:
    g = _read_axis(folder / f"{prefix}axis_level_G.txt")
    dg = _read_axis(folder / f"{prefix}axis_level_dG.txt")
    path = folder / f"{prefix}cdf.txt"
    cdf = _read_cdf(path, len(g), len(dg))
    try:
        return Jumps(g, dg, cdf)
    except ValueError as error:
        raise ConfigError.at(str(path), "", str(error)) from None


def _read_axis(path: Path) -> Array:
    values: list[float] = []
    with opened(path, "an axis of a jump table", MOST_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if len(values) >= MOST_LEVELS:
                raise ConfigError.at(f"{path}:{number}", "", f"more than {MOST_LEVELS} levels are too many")
            if line.strip():
                values.append(floating(f"{path}:{number}", line))
    if not values:
        raise ConfigError.at(str(path), "", "expected one level a line, the file is empty")
    return np.array(values)


def _read_cdf(path: Path, rows: int, columns: int) -> Array:
    found: list[list[float]] = []
    if rows * columns > MOST_VALUES:
        raise ConfigError.at(str(path), "", f"{rows} x {columns} values are too many, at most {MOST_VALUES:,}")
    with opened(path, "the cdf of a jump table", MOST_BYTES) as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            where = f"{path}:{number}"
            if len(words) != columns:
                raise ConfigError.at(where, "", f"expected a value for each of {columns} changes, got {len(words)}")
            if len(found) >= rows:
                raise ConfigError.at(where, "", f"expected a row for each of {rows} conductances, there are more")
            found.append([floating(where, word) for word in words])
    if len(found) != rows:
        raise ConfigError.at(str(path), "", f"expected a row for each of {rows} conductances, got {len(found)}")
    return np.array(found)
