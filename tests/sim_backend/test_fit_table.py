"""Jump tables: what they are, what is refused, and their text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import ConfigError
from sim_backend.fit import files
from sim_backend.fit.files import as_text, read_table
from sim_backend.fit.table import Jumps, JumpTable


def jumps(rows: int = 3, columns: int = 4, seed: int = 0) -> Jumps:
    source = np.random.default_rng(seed)
    cdf = np.sort(source.random((rows, columns)), axis=1)
    cdf[:, -1] = 1.0
    return Jumps(np.sort(source.random(rows)) * 1e-4, np.sort(source.normal(size=columns)) * 1e-6, cdf)


def put(table: JumpTable, folder: Path, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in as_text(table, prefix).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def same(a: JumpTable, b: JumpTable) -> bool:
    pairs = [(getattr(a.of(up), name), getattr(b.of(up), name)) for up in (True, False) for name in ("g", "dg", "cdf")]
    return all(x.tobytes() == y.tobytes() and x.shape == y.shape for x, y in pairs)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(rows=st.integers(1, 6), columns=st.integers(1, 9), seed=st.integers(0, 999))
def test_text_files_are_read_back_bit_by_bit(tmp_path_factory, rows, columns, seed):
    table = JumpTable(jumps(rows, columns, seed), jumps(columns, rows, seed + 1))
    folder = put(table, tmp_path_factory.getbasetemp() / "round")
    again = read_table(folder)
    assert same(table, again) and as_text(again) == as_text(table) and again.digest() == table.digest()


def test_a_table_is_found_by_folder_or_prefix(tmp_path):
    one, two = JumpTable(jumps(), jumps(seed=1)), JumpTable(jumps(seed=2), jumps(seed=3))
    put(one, tmp_path / "t", "1.5V_")
    assert same(read_table(tmp_path / "t"), one) and same(read_table(tmp_path / "t" / "1.5V"), one)
    put(two, tmp_path / "t", "2V_")
    assert same(read_table(tmp_path / "t" / "2V"), two)
    with pytest.raises(ConfigError, match=r"holds 2 jump tables, name one of them: .*1.5V, .*2V"):
        read_table(tmp_path / "t")
    (tmp_path / "empty").mkdir()
    for path, problem in (
        ("empty", r"no file \*set_axis"),
        ("t/3V", "there is no file"),
        ("nul\0", "can be read|there is no file"),
    ):
        with pytest.raises(ConfigError, match=problem):
            read_table(tmp_path / path)


def test_the_digest_is_of_the_numbers_alone():
    one = JumpTable(jumps(), jumps(seed=1))
    other = JumpTable(jumps(seed=1), jumps())
    assert one.digest().startswith("sha256:") and one.digest() != other.digest()
    moved = Jumps(one.up.g, one.up.dg, one.up.cdf * np.nextafter(1.0, 0.0))
    assert JumpTable(moved, one.down).digest() != one.digest()


G, DG = np.array([1e-6, 2e-6]), np.array([-1e-6, 0.0, 1e-6])
CDF = np.array([[0.1, 0.5, 1.0], [0.2, 0.7, 1.0]])


def changed(values: np.ndarray, place: tuple[int, ...] | int, value: float) -> np.ndarray:
    values = values.copy()
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("g", "dg", "cdf", "problem"),
    [
        (G[::-1], DG, CDF, "axis of G must rise, it does not at level 2"),
        (np.array([1e-6, 1e-6]), DG, CDF, "axis of G must rise"),
        (G, changed(DG, 1, 2e-6), CDF, "axis of dG must rise, it does not at level 3"),
        (changed(G, 1, np.nan), DG, CDF, "axis of G holds a value that is not finite, at level 2"),
        (1e6 * G, DG, CDF, "values are in siemens"),
        (-G[::-1], DG, CDF, "axis of G must lie between 0 and 1 S"),
        (G, DG, CDF[:1], r"\[2, 3\], got \[1, 3\]"),
        (G, DG, CDF.T, r"\[2, 3\], got \[3, 2\]"),
        (G, DG, changed(CDF, (1, 1), np.nan), "not finite, in row 2"),
        (G, DG, changed(CDF, (1, 1), np.inf), "not finite, in row 2"),
        (G, DG, changed(CDF, (0, 1), 0.05), "must not fall along a row, it does in row 1"),
        (G, DG, changed(CDF, (0, 0), -0.1), "between 0 and 1, it does not in row 1"),
        (G, DG, changed(CDF, (1, 2), 1.1), "between 0 and 1, it does not in row 2"),
        (G, DG, changed(CDF, (1, 2), 0.9), "row 2 ends at 0.9"),
        (np.zeros(0), DG, CDF[:0], "1 to 4096 levels"),
        (np.linspace(0, 1e-3, 5000), DG, CDF, "1 to 4096 levels"),
    ],
)
def test_what_is_no_table_is_refused(g, dg, cdf, problem):
    with pytest.raises(ValueError, match=problem):
        Jumps(g, dg, cdf)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("set_axis_level_G.txt", "1e-6\nnan\n", "G.txt:2: expected a finite number, got 'nan'"),
        ("set_axis_level_G.txt", "", "the file is empty"),
        ("set_axis_level_G.txt", "2e-6\n1e-6\n3e-6\n", "set_cdf.txt: the axis of G must rise"),
        ("reset_axis_level_dG.txt", "1e-6 2e-6\n", "dG.txt:1: expected a finite number"),
        ("reset_axis_level_dG.txt", "1\n" * 5000, "dG.txt:4097: more than 4096 levels"),
        ("set_cdf.txt", "0 0 0 1\n" * 4, "set_cdf.txt:4: expected a row for each of 3 conductances, there are more"),
        ("set_cdf.txt", "0 0 0 1\n" * 2, "expected a row for each of 3 conductances, got 2"),
        ("set_cdf.txt", "0 0 1\n" * 3, "set_cdf.txt:1: expected a value for each of 4 changes, got 3"),
        ("reset_cdf.txt", "0 0 \x1b[2J 1\n" * 3, r"reset_cdf.txt:1: .*got '\\x1b"),
        ("reset_cdf.txt", "0 .5 .4 1\n" * 3, "must not fall along a row, it does in row 1"),
    ],
)
def test_hostile_files_are_refused_with_their_line(tmp_path, name, text, problem):
    folder = put(JumpTable(jumps(), jumps(seed=1)), tmp_path / "t")
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        read_table(folder)


def test_huge_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    folder = put(JumpTable(jumps(), jumps(seed=1)), tmp_path / "t")
    with (folder / "set_cdf.txt").open("r+b") as file:
        file.truncate(files.MOST_BYTES + 1)  # a sparse file: it takes no room
    with pytest.raises(ConfigError, match="of at most 128 MiB"):
        read_table(folder)
    monkeypatch.setattr(files, "MOST_VALUES", 5)
    with pytest.raises(ConfigError, match="3 x 4 values are too many"):
        read_table(folder)


def test_means_and_quantiles_of_a_row():
    one = Jumps(G, DG, CDF)
    assert one.means == pytest.approx([1e-6 * (-0.1 - 0.2 + 0.25), 1e-6 * (-0.2 - 0.25 + 0.15)])
    assert one.quantiles(0.5) == pytest.approx([0.0, -0.4e-6], abs=1e-20)
    assert one.reach == pytest.approx((0.0, 3e-6)) and Jumps(G[:1], DG, CDF[:1]).reach == (0.0, 1.0)
