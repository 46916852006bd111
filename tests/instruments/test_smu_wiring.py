"""Channels and wiring: what would join the wrong lines is refused when the file is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import smu_benches

from instruments.smu.channels import SmuMatrixConfig, channel, line_of, matrix_row

GOOD = SmuMatrixConfig(rows=(("1A01", "1A02"),), cols=(("1B03", "2B01"),))


def test_a_path_is_one_channel_for_each_terminal():
    assert GOOD.path(0, 1, 1) == ("1A02", "2B01")
    assert matrix_row("2B01") == "B" and line_of("2B01") == "2-01"


@pytest.mark.parametrize("name", ["1A01", "6H12", "3D99"])
def test_names_of_channels(name):
    assert channel(name) == name


@pytest.mark.parametrize("name", ["0A01", "7A01", "1I01", "1A00", "1A1", "1A001", " 1A01", "1A01\n", "", 101, None])
def test_what_is_no_channel(name):
    with pytest.raises(ValueError, match="not a channel"):
        channel(name)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rows": ()}, "rows"),
        ({"rows": (("1A01", "1A1"),)}, "rows"),
        ({"cols": (("1B03", "1B03"),)}, "cols"),
        ({"cols": (("1A03", "2B01"),)}, "cols must not use matrix row A"),
        ({"cols": (("1B01", "2B01"),)}, "cols must not use matrix column 1-01"),
        ({"settle": -1.0}, "settle"),
        ({"level_settle": -1.0}, "level_settle"),
        ({"shortest_pulse": 0.0}, "shortest_pulse"),
        ({"width_tolerance": 0.0}, "width_tolerance"),
        ({"plc": 0.0}, "plc"),
    ],
)
def test_a_wrong_wiring_names_its_field(changes, word):
    with pytest.raises(ValueError) as wrong:
        replace(GOOD, **changes)
    assert str(wrong.value).startswith(word)


def test_forbidden_channels_are_those_that_reach_the_wrong_terminal():
    assert GOOD.forbidden() == ("1A03", "1B01", "1B02", "2A01")


def test_the_wiring_must_fit_the_board(spec_of):
    spec = spec_of(selector="passive", kernels=2, rows=3, cols=2)
    smu_benches.wiring(spec).fits(spec)
    for other in ({"kernels": 1}, {"rows": 4}, {"cols": 1}):
        with pytest.raises(ValueError, match="must name"):
            smu_benches.wiring(spec).fits(
                spec_of(**{"selector": "passive", "kernels": 2, "rows": 3, "cols": 2} | other)
            )


def test_the_lab_reads_it_from_a_file(tmp_path):
    from hil.lab import config

    path = tmp_path / "smu.yaml"
    path.write_text('rows: [["1A01", "1A02"]]\ncols: [["1B03", "2B01"]]\nsettle: 4 ms\nplc: 0.1\n')
    assert config.load(path, SmuMatrixConfig).value == replace(GOOD, settle=4e-3, plc=0.1)
