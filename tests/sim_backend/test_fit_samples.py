"""Samples of pulses: the CSV they come in, what is refused, and the split."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import ConfigError
from sim_backend.fit import samples as module
from sim_backend.fit.samples import Samples, read_samples

HEAD = "G (uS), dG (nS), polarity, volts (V), width (us)\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_and_units_are_those_of_the_heading(tmp_path):
    found = read_samples(written(tmp_path, HEAD + "# a comment\n12.5, -300, set, 1.5, 2\n\n3e1,.5,-1, 1200e-3, 1\n"))
    assert found.g == pytest.approx([12.5e-6, 30e-6], rel=1e-15)
    assert found.dg == pytest.approx([-300e-9, 0.5e-9], rel=1e-15)
    assert found.up.tolist() == [True, False]
    assert found.volts.tolist() == [1.5, 1.2] and found.seconds == pytest.approx([2e-6, 1e-6])
    assert found.counts() == (1, 1) and found.shapes(True) == [(1.5, pytest.approx(2e-6), 1)]


def test_columns_may_be_few_and_in_any_order(tmp_path):
    found = read_samples(written(tmp_path, "\ufeffpolarity,dG (mS),G (S)\ndown,-1,0.5\nup,2,0.25\n"))
    assert found.g.tolist() == [0.5, 0.25] and found.dg.tolist() == [-1e-3, 2e-3] and found.up.tolist() == [False, True]
    assert np.isnan(found.volts).all() and np.isnan(found.seconds).all() and len(found.shapes(True)) == 1


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "file is empty"),
        ("G (uS), dG (uS)\n1, 1\n", 1, "no column polarity"),
        ("G, dG (uS), polarity\n", 1, "needs its unit in brackets"),
        ("G (uV), dG (uS), polarity\n", 1, "has the unit 'uV', expected S"),
        ("G (uS), dG (uS), polarity (V)\n", 1, "has no unit"),
        ("G (uS), dG (uS), polarity, mood\n", 1, "got 'mood'"),
        ("G (uS), dG (uS), polarity, G (uS)\n", 1, "got 'G"),
        (HEAD + "1, 1, set, 1, 1\n1, 1, set, 1\n", 3, "expected 5 columns as in the heading, got 4"),
        (HEAD + "1, 1, set, 1, 1\n\n\n1, nan, set, 1, 1\n", 5, "finite number, got 'nan'"),
        (HEAD + "1, 1e9999, set, 1, 1\n", 2, "finite number"),
        (HEAD + "1_0, 1, set, 1, 1\n", 2, "got '1_0'"),
        (HEAD + "2e6, 1, set, 1, 1\n", 2, "from 0 to 1 S, got 2 S"),
        (HEAD + "-1, 1, set, 1, 1\n", 2, "from 0 to 1 S, got -1 µS"),
        (HEAD + "1, 3e9, set, 1, 1\n", 2, "at most 1 S"),
        (HEAD + "1, 1, sideways, 1, 1\n", 2, "expected set, reset"),
        (HEAD + "1, 1, set, -1, 1\n", 2, "above 0"),
        (HEAD + "1, 1, set, 1, 0\n", 2, "above 0"),
        (HEAD + "1, \x1b[31m, set, 1, 1\n", 2, r"\\x1b"),
    ],
)
def test_errors_name_the_line(tmp_path, text, line, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        read_samples(written(tmp_path, text))
    assert f"s.csv:{line}:" in str(caught.value) and "\x1b" not in str(caught.value)


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="there is no file"):
        read_samples(tmp_path / "nothing.csv")
    with pytest.raises(ConfigError, match="no regular file"):
        read_samples(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        read_samples(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="expected samples after the heading"):
        read_samples(written(tmp_path, HEAD))
    (tmp_path / "binary.csv").write_bytes(b"G (uS)\xff\xfe\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_samples(tmp_path / "binary.csv")
    monkeypatch.setattr(module, "MOST_SAMPLES", 2)
    with pytest.raises(ConfigError, match=r"s.csv:4: more than 2 samples"):
        read_samples(written(tmp_path, HEAD + 3 * "1,1,set,1,1\n"))
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    with pytest.raises(ConfigError, match="at most 0 MiB, it has"):
        read_samples(written(tmp_path, HEAD))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(text=st.text(max_size=80), headed=st.booleans())
def test_whatever_stands_in_a_file_is_read_or_refused(tmp_path_factory, text, headed):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text((HEAD if headed else "") + text, encoding="utf-8", errors="surrogatepass")
    try:
        found = read_samples(path)
    except ConfigError:
        return
    assert len(found) and np.isfinite(found.g).all()


def many(up: int, down: int) -> Samples:
    g = np.linspace(1e-6, 2e-6, up + down)
    return Samples.of(g, -g, np.arange(up + down) < up)


def test_the_split_is_by_polarity_complete_and_the_same_for_a_seed():
    whole = many(300, 100)
    fitted, held = whole.split(0.2, 7)
    assert fitted.counts() == (240, 80) and held.counts() == (60, 20)
    assert sorted([*fitted.g, *held.g]) == sorted(whole.g)
    assert (whole.split(0.2, 7)[1].g == held.g).all() and (whole.split(0.2, 8)[1].g != held.g).any()
    with pytest.raises(ValueError, match="between 0 and 1"):
        whole.split(1.0, 0)


def test_few_samples_are_warned_of():
    assert many(200, 200).warnings() == []
    (warning,) = many(300, 199).warnings()
    assert warning.startswith("only 199 samples of reset pulses: below 200")


def test_pulses_of_one_shape_are_picked_per_polarity():
    one, other = many(3, 2), many(4, 1)
    both = Samples(*(np.concatenate([getattr(one, n), getattr(other, n)]) for n in ("g", "dg", "up")),
                   np.repeat([1.5, 1.6], 5), np.full(10, 1e-6))  # fmt: skip
    assert both.shapes(True) == [(1.6, 1e-6, 4), (1.5, 1e-6, 3)]
    picked = both.with_shape(True, 1.5, None)
    assert picked.counts() == (3, 3) and both.with_shape(True, 1.5, 2e-6).counts() == (0, 3)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Samples.of(np.zeros(2), np.zeros(3), np.zeros(2, dtype=bool))
    with pytest.raises(ValueError, match="finite"):
        Samples.of(np.zeros(1), np.array([np.nan]), np.zeros(1, dtype=bool))
