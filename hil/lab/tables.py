"""Tables and figures in a folder: CSV for programs, Markdown for people, PNG for both."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.errors import StorageError, UsageError
from hil.lab.checkpoint import write_atomically

Cell = str | int | float | None
Rows = Sequence[Sequence[Cell]]

COLOURS = ("#2563a8", "#d9730d", "#2f855a", "#8b3fa8", "#b3261e", "#5c6773")
GREY = "#9aa4b2"


def shown(cell: Cell) -> str:
    """One entry as people read it."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def as_csv(columns: Sequence[str], rows: Rows) -> str:
    """A table as comma-separated values with all their digits; an empty entry where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def as_markdown(columns: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [columns, ["---" if k == 0 else "---:" for k in range(len(columns))]]
    lines += [[shown(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_text(columns: Sequence[str], rows: Rows) -> list[str]:
    """A table in columns of equal width, for a terminal; words to the left, numbers to the right."""
    cells = [list(columns), *[[shown(cell) for cell in row] for row in rows]]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    words = [any(isinstance(row[k], str) for row in rows) for k in range(len(columns))]
    return [
        "  ".join(
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in cells
    ]


def new_folder(folder: Path) -> Path:
    """Makes a folder for results.

    Raises:
        UsageError: something is there already.
        StorageError: it cannot be made.
    """
    try:
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise UsageError(f"{str(folder)!r} is there already; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError, ValueError) as error:
        raise UsageError(f"{str(folder)!r} cannot be a folder for results ({error})") from error
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error
    return folder


def write(path: Path, data: bytes | str) -> Path:
    """Writes one file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_atomically(path, data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise StorageError(str(path), str(error)) from error
    return path


def tidy(axes: Any) -> None:
    """The look of the house: no box, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ee", lw=0.6)
