"""``hil device``: what fit, plot and bias write, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hil.lab import config, device_bias, studies
from hil.lab.cli import main
from hil.lab.studies import figure
from protocols.studies.modeling_bias import Model, Pulsed, modeling_bias
from protocols.studies.study import Axis, Series, Study, Table
from protocols.studies.training import Data
from sim_backend.fit.files import read_table
from sim_backend.fit.study import Truth
from sim_backend.laws.jump_table import JumpTableLaw

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def samples(points: int = 300, volts: tuple[float, ...] = (1.5,), polarities: str = "both") -> Path:
    """A CSV of pulses of a soft-bounds device; every amplitude in turn."""
    drawn = Truth().samples(points, 0)
    lines = ["G (uS), dG (uS), polarity, volts (V), width (us)"]
    for k, (g, dg, up) in enumerate(zip(drawn.g, drawn.dg, drawn.up, strict=True)):
        if polarities == "both" or up:
            shape = f"{volts[k % len(volts)] if up else 1.2}, {1 if up else 2}"
            lines.append(f"{1e6 * g!r}, {1e6 * dg!r}, {'set' if up else 'reset'}, {shape}".replace("np.float64", ""))
    path = Path("s.csv")
    path.write_text("\n".join(line.replace("(", "").replace(")", "") if n else line for n, line in enumerate(lines)))
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["device", *words])
    shown = capsys.readouterr()
    assert ended.value.code == code, shown.err
    return shown.out + shown.err


def test_fit_writes_a_table_and_a_device_file_that_the_law_takes(capsys):
    text = told(capsys, "fit", str(samples()), "--out", "t")
    assert "reset" in text and "digest sha256:" in text and "t/device.yaml" in text and "warning" not in text
    table = read_table(Path("t"))
    file: dict[str, Any] = config.load("t/device.yaml", dict[str, Any]).value
    assert "s.csv, quantile bins" in file["source"] and file["law"]["digest"] == table.digest()
    law = config.from_mapping(file["law"], JumpTableLaw).value
    assert (law.volts_up, law.volts_down, law.seconds, law.seconds_down) == (1.5, 1.2, 1e-6, 2e-6)
    assert 10e-6 <= law.low < 12e-6 and 108e-6 < law.high <= 110e-6 and len(table.up.g) == round(240 ** (1 / 3))
    assert json.dumps(config.json_schema(JumpTableLaw))


def test_fit_tells_a_program_the_same_and_is_the_same_for_a_seed(capsys):
    words = ["fit", str(samples()), "--method", "equal", "--bins", "5", "--seed", "3", "--json"]
    one, two = (json.loads(told(capsys, *words, "--out", out).splitlines()[0]) for out in ("a", "b"))
    assert one["fitted"] == {"set": 240, "reset": 240} and one["scores"]["set"]["held_out"] == 60
    assert {**one, "folder": ""} == {**two, "folder": ""}
    words[-2] = "4"
    assert json.loads(told(capsys, *words, "--out", "c").splitlines()[0])["digest"] != one["digest"]


def test_few_samples_are_warned_of_and_all_may_be_fitted(capsys):
    text = told(capsys, "fit", str(samples(150)), "--out", "t", "--held-out", "0")
    assert "warning: only 150 samples of set pulses" in text and "warning: only 150 samples of reset" in text
    assert "150" in text and " - " in text


def test_pulses_of_several_shapes_must_be_chosen_from(capsys):
    path = str(samples(volts=(1.5, 1.6, 1.6)))
    text = told(capsys, "fit", path, "--out", "t", code=2)
    assert "the set pulses have 2 shapes: 1.6 V 1 µs (200), 1.5 V 1 µs (100)" in text and "--set-volts" in text
    assert not Path("t").exists()
    assert "digest" in told(capsys, "fit", path, "--out", "t", "--set-volts", "1.6 V")
    assert "no set pulses of the shape asked for" in told(
        capsys, "fit", path, "--out", "u", "--set-volts", "9 V", code=2
    )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--held-out", "1"], "--held-out must be"),
        (["--bins", "0"], "bins must be at least 1"),
        (["--set-volts", "1.5"], "has no unit"),
        (["--reset-width", "1 V"], "expected s"),
    ],
)
def test_fit_refuses(capsys, words, problem):
    assert problem in told(capsys, "fit", str(samples(20)), "--out", "t", *words, code=2)
    assert not Path("t").exists()


def test_fit_refuses_one_polarity_bad_files_and_a_full_folder(capsys):
    assert "no reset pulses" in told(capsys, "fit", str(samples(20, polarities="set")), "--out", "t", code=2)
    assert "there is no file" in told(capsys, "fit", "nothing.csv", "--out", "t", code=2)
    Path("full").mkdir()
    Path("full/x").touch()
    assert "there already" in told(capsys, "fit", str(samples(20)), "--out", "full", code=2)


def test_plot_draws_a_table_with_and_without_samples(capsys):
    path = str(samples())
    told(capsys, "fit", path, "--out", "t")
    text = told(capsys, "plot", "t", "--out", "t.png")
    assert f"digest {read_table(Path('t')).digest()}" in text and "set: 6 levels of G" in text
    told(capsys, "plot", "t", "--out", "u.png", "--samples", path)
    bare, marked = Path("t.png").read_bytes(), Path("u.png").read_bytes()
    assert bare.startswith(PNG) and marked.startswith(PNG) and len(marked) > len(bare) > 10_000
    assert "must end with .png" in told(capsys, "plot", "t", "--out", "t.gif", code=2)
    Path("t/set_cdf.txt").write_text("0 1\n")
    assert "set_cdf.txt:1: expected a value for each of" in told(capsys, "plot", "t", "--out", "v.png", code=2)
    assert not Path("v.png").exists()


def test_bias_is_a_study(capsys, monkeypatch):
    found = Study(name="modeling_bias", title="B", table=Table("t", ("x",), ((1,),)), x=Axis(label="x"),
                  y=Axis(label="y"), series=(Series("s", (1, 2), (1, 2)),), notes=("noise floor 1",))  # fmt: skip
    monkeypatch.setitem(studies.STUDIES, "modeling_bias", lambda effort: found if effort.quick else None)
    assert "noise floor 1" in told(capsys, "bias", "--quick", "--out", "b")
    assert Path("b/modeling_bias.png").read_bytes().startswith(PNG)


# -- the study itself, tiny --------------------------------------------------------------------------------------------


def blobs() -> Data:
    """Three classes that a small network tells apart."""
    source = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 3
    x = 0.5 * torch.randn(240, 6, generator=source) + torch.nn.functional.one_hot(y, 6)
    return Data(x[:180], y[:180], x[180:], y[180:])


def test_a_tiny_study_finds_a_broken_model_and_clears_a_good_one():
    truth = Truth()
    how = Pulsed(window=(truth.low, truth.high), hidden=0, steps=60, replicas=4, batch=8)

    class Broken:
        """A device that goes down whatever it is told."""

        def draw(self, g: torch.Tensor, up: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return torch.full_like(g, -2e-5)

    facts: dict[str, Any] = {"points": 50, "bins": 1, "wasserstein": 0.0, "ks": 0.0}
    models = [Model(name="good", devices=[truth, truth], **facts), Model(name="broken", devices=[Broken()], **facts)]
    study = modeling_bias(blobs(), truth, models, how, repeats=3)
    rows = {row[0]: row for row in study.table.rows}
    good, broken = (float(rows[name][5]) for name in ("good", "broken"))  # type: ignore[arg-type]
    floor = study.series[-2].y[0]
    assert floor > 0 and abs(good) < 2 * floor and broken < -15 and broken < -3 * floor
    assert study.series[-2].y[0] == -study.series[-1].y[0] and "noise floor" in study.notes[0]
    assert study == modeling_bias(blobs(), truth, models, how, repeats=3)
    assert figure(study).startswith(PNG)


def test_tables_of_few_samples_are_further_off_than_those_of_many():
    study = device_bias.modeling_bias(blobs(), points=(20, 500), bins=(8,), sets=2, replicas=2, repeats=2, steps=20)
    names = [row[0] for row in study.table.rows]
    assert names == 2 * ["8 equal bins, nearest"] + 2 * ["quantile bins, interpolated"]
    w1 = [float(row[3]) for row in study.table.rows]  # type: ignore[arg-type]
    assert w1[0] > 2 * w1[1] and w1[2] > 2 * w1[3] and np.isfinite(w1).all()


@pytest.mark.slow
def test_the_bias_is_large_at_few_samples_and_within_the_noise_at_many():
    found = studies.STUDIES["modeling_bias"](studies.Effort(quick=True))
    rows = {(row[0], row[1]): float(row[5]) for row in found.table.rows}  # type: ignore[arg-type]
    few, many = rows["30 equal bins, nearest", 50], rows["30 equal bins, nearest", 1000]
    assert few < -1 and abs(many) < 1.5 and abs(few) > abs(many)
