"""Device files: every preset loads, says where its numbers come from, and holds those of the published table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hil.errors import ConfigError
from hil.lab import config
from sim_backend.config import DeviceFile

FOLDER = Path(__file__).parent.parent.parent / "config" / "devices"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PUBLISHED = {  # dw_min, w_max, w_min, up_down, spreads of dw / up_down / w_max / w_min, cycle noise, write noise
    "reram_es": (0.00135, 1.0, -1.0, 0.259359, 0.3, 0.05, 0.3, 0.3, 5.0, 75),
    "reram_sb": (0.002, 1.25, -0.75, 0.0, 0.3, 0.01, 0.24, 0.4, 3.75, 56),
    "capacitor": (0.005, 1.0, -1.0, 0.0, 0.1, 0.06, 0.07, 0.07, 0.3, 0),
    "ecram": (0.002, 1.1724, -0.8276, 0.0, 0.1, 0.01, 0.05, 0.05, 0.3, 0),
    "ecram_mo": (2.8214e-4, 1.1714, -0.8286, 0.0, 0.1, 0.01, 0.05, 0.05, 2.0, 0),
    "idealized": (0.0002, 1.0, -1.0, 0.0, 0.3, 0.0, 0.3, 0.3, 0.3, 0),
    "gokmen_vlasov": (0.0016, 1.0, -1.0, 0.0, 0.3, 0.01, 0.3, 0.3, 0.3, 0),
    "reram_array_om": (0.0949, 1.0, -1.0, 0.0, 0.7829, 0.01, 0.3499, 0.5695, 0.4158, 1.4113),
    "reram_array_hfo2": (0.4622, 1.0, -1.0, 0.0, 0.7125, 0.01, 0.4295, 0.599, 0.2174, 0.5841),
}
"""The table of preset devices in facts/rpu.md, section 4."""


def device(name: str) -> DeviceFile:
    return config.load(FOLDER / f"{name}.yaml", DeviceFile).value


def test_all_presets_are_there():
    others = {"pcm", "pcm_inference", "daffodil_hfox", "neurram", "skywater_hfo2"}
    assert set(NAMES) == PUBLISHED.keys() | others


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_makes_cells_that_pulses_and_time_change_within_their_bounds(name):
    made = device(name)
    source = torch.Generator().manual_seed(0)
    params = made.law.build((1, 40, 40), source, torch.float32)
    g = made.law.initial(params, source)
    low, high = made.law.bounds(params)
    for dose in (2.0, -1.0, 30.0, -30.0, 5.0):
        moved = made.law.pulse(g, params, torch.full_like(g, dose), None, source)
        assert bool((moved >= low).all()) and bool((moved <= high).all()) and not torch.equal(moved, g)
        g = moved
    if made.aging is not None:
        state = {"g": g, "stuck": torch.zeros_like(g, dtype=torch.bool), "pulses": torch.zeros(g.shape).int()}
        state |= made.aging.tensors(state, source)
        assert made.aging.advance(state, 3600.0, source)
        assert bool(torch.isfinite(state["g"]).all()) and float(state["g"].min()) >= 0.0


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_numbers(name):
    step, top, bottom, up_down, of_step, of_up_down, of_top, of_bottom, cycle, write = PUBLISHED[name]
    law, window = device(name).law, top - bottom
    assert law.states == pytest.approx(window / step, rel=1e-5)
    assert law.zero == pytest.approx(-bottom / window) and law.up_down == up_down
    assert (law.step_dtod, law.up_down_dtod, law.step_std) == (of_step, of_up_down, cycle)
    assert law.high_dtod == pytest.approx(of_top * top / window, rel=1e-3)
    assert law.low_dtod == pytest.approx(of_bottom * -bottom / window, rel=1e-3)
    assert law.write_std == write


def test_presets_with_wide_bounds_are_seldom_cut_off_at_nothing():
    for name in PUBLISHED:
        law = device(name).law
        params = law.build((1, 100, 100), torch.Generator().manual_seed(0), torch.float32)
        assert float((params["low"] <= 0).float().mean()) < 0.02


def test_a_device_file_without_a_source_or_law_is_refused(tmp_path):
    text = (FOLDER / "idealized.yaml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="source"):
        config.parse("source: ' '\n" + text[text.index("law:") :], DeviceFile)
    with pytest.raises(ConfigError, match="kind"):
        config.parse(text.replace("constant_step", "constant_stepp"), DeviceFile)
    with pytest.raises(ConfigError, match="unit"):
        config.parse(text.replace("300 uS", "300"), DeviceFile)
