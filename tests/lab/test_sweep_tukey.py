"""Tukey's boxes against values worked out by hand, and the figures of sweeps by what is drawn in them."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.lab import figures, sweep_figures, sweep_results, tukey
from hil.lab.sweep_search import Trial
from hil.lab.sweep_work import RESULTS, Row

NOTHING: dict[str, Any] = dict.fromkeys(RESULTS) | {"status": "done"}


def rows_of(combinations: list[dict[str, Any]], accuracies: list[float], software: float | None = 0.9) -> list[Row]:
    return [
        Row(
            len(accuracies) * number + seed, number, seed, overrides, "r", "done", 0,
            NOTHING | {"test_accuracy": value + number / 100, "software_accuracy": software},
            {"devices": 8.0},
        )
        for number, overrides in enumerate(combinations)
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip


@pytest.fixture
def pages(mocker: Any) -> list[Any]:
    """The figures that are made, to look into."""
    made: list[Any] = []

    def keep(figure: Any) -> bytes:
        made.append(figure)
        figure.canvas.draw()
        return b"\x89PNG"

    mocker.patch.object(figures, "png", keep)
    return made


def test_a_box_by_hand() -> None:
    """1 to 9 and 20: quartiles at ranks 3.25 and 7.75, box height 4.5, whiskers within 3.25 - 6.75 and 7.75 + 6.75."""
    found = tukey.box([20, 5, 1, 2, 9, 4, 3, 6, 8, 7])
    assert (found.quartile_1, found.median, found.quartile_3) == (3.25, 5.5, 7.75)
    assert (found.low, found.high, found.outliers) == (1, 9, (20.0,))
    assert found.row() == (10, 1, 1, 3.25, 5.5, 7.75, 9, 20, 1)
    assert tukey.box([0.5]).row() == (1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0)
    with pytest.raises(ValueError, match="at least one"):
        tukey.box([])


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_box_is_in_order_and_its_whiskers_end_at_values(values: list[float]) -> None:
    found = tukey.box(values)
    reach = tukey.WHISKERS * (found.quartile_3 - found.quartile_1)
    inside = [value for value in values if found.quartile_1 - reach <= value <= found.quartile_3 + reach]
    assert found.quartile_1 <= found.median <= found.quartile_3
    assert found.low == min([*inside, found.quartile_1]) and found.high == max([*inside, found.quartile_3])
    assert sorted([*inside, *found.outliers]) == sorted(values)


def test_a_box_for_each_combination_in_its_panel(pages: list[Any]) -> None:
    """alpha along the axis, beta in colours, placing in panels; alpha 1 has one beta only."""
    combinations = [
        {"deployment.alpha": alpha, "deployment.beta": beta, "deployment.placing": placing, "steps": 3}
        for alpha, beta in ((1, 1), (2, 1), (2, 2)) for placing in ("random", "greedy")
    ]  # fmt: skip
    varied = ("deployment.alpha", "deployment.beta", "deployment.placing")
    found = sweep_results.summaries(rows_of(combinations, [0.5, 0.52, 0.55, 0.6, 0.7]), varied, ("test_accuracy",))
    sweep_figures.boxes(found, varied, ("test_accuracy", "devices"))
    page = pages[0]
    assert [axes.get_title(loc="left") for axes in page.axes] == ["placing random", "placing greedy", "", ""]
    assert [axes.get_ylabel() for axes in page.axes] == ["test accuracy, %", "", "devices", ""]
    assert [len(axes.patches) for axes in page.axes] == [3, 3, 3, 3]
    (legend,) = page.legends
    assert [text.get_text() for text in legend.get_texts()] == ["beta 1", "beta 2", "software"]
    first = page.axes[0]
    medians = sorted(line.get_ydata()[0] for line in first.lines if line.get_lw() == 2.0)
    assert medians == pytest.approx([55.0, 57.0, 59.0])
    (software,) = [line for line in first.lines if line.get_label() == "software"]
    assert set(software.get_ydata()) == {90.0} and not any(x.get_label() == "software" for x in page.axes[2].lines)
    middles = sorted(patch.get_path().get_extents().x0 + patch.get_path().get_extents().x1 for patch in first.patches)
    assert middles[0] == pytest.approx(0.0) and middles[1] + middles[2] == pytest.approx(4.0)  # above their alpha
    assert [text.get_text() for text in page.axes[2].get_xticklabels()] == ["1", "2"]


def test_few_runs_are_points(pages: list[Any]) -> None:
    found = sweep_results.summaries(rows_of([{"a": 1}, {"a": 2}], [0.1, 0.2, 0.4], None), ("a",), ("test_accuracy",))
    sweep_figures.boxes(found, ("a",), ("test_accuracy",))
    (axes,) = pages[0].axes
    assert not axes.patches and not pages[0].legends
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in points] == [
        pytest.approx([10.0, 20.0, 40.0]), pytest.approx([11.0, 21.0, 41.0]),
    ]  # fmt: skip


def test_nothing_overlaps_and_nothing_leaves_the_page(pages: list[Any]) -> None:
    """Long settings and many panels; a key of many values changes place with one of few."""
    tasks = [{"kind": "digits", "batch": 10}, {"kind": "yinyang", "batch": 100}]
    etas = [k / 8 for k in range(7)]
    combinations = [{"task": t, "x.eta": e, "$n": n} for t in tasks for e in etas for n in (1, 2, 3, 4)]
    varied = ("task", "x.eta", "$n")
    found = sweep_results.summaries(rows_of(combinations, [0.2, 0.4, 0.7]), varied, ("test_accuracy",))
    sweep_figures.boxes(found, varied, ("test_accuracy",))
    page = pages[0]
    drawn = [axes for axes in page.axes if axes.get_visible()]
    assert len(drawn) == 4 and drawn[0].get_title(loc="left") == r"\$n 1" and drawn[3].get_xlabel() == "eta"
    frame = page.bbox
    (legend,) = page.legends
    for box in (legend.get_window_extent(), *(axes.get_tightbbox() for axes in drawn)):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    for axes in drawn:
        assert axes.get_tightbbox().y0 >= legend.get_window_extent().y1
        ticks = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text() and text.get_visible()]
        upright = all(text.get_rotation() == 0 for text in axes.get_xticklabels())
        assert not upright or all(left.x1 < right.x0 for left, right in itertools.pairwise(ticks))


def test_the_quartiles_are_a_table(tmp_path: Path) -> None:
    rows = rows_of([{"a": 1}, {"a": 2}], [0.1, 0.2, 0.3, 0.4, 0.5])
    found = sweep_results.summaries(rows, ("a",), ("test_accuracy", "devices"))
    sweep_results.write_tables(tmp_path, rows, found, ("test_accuracy", "devices"))
    lines = list(csv.DictReader((tmp_path / "quartiles.csv").read_text().splitlines()))
    assert [(line["set.a"], line["number"], line["runs"]) for line in lines] == [
        ("1", "test_accuracy", "5"), ("2", "test_accuracy", "5"), ("1", "devices", "5"), ("2", "devices", "5"),
    ]  # fmt: skip
    assert [float(lines[1][name]) for name in ("quartile_1", "median", "quartile_3")] == pytest.approx(
        [0.21, 0.31, 0.41]
    )


def test_the_course_of_a_search(pages: list[Any]) -> None:
    values = [0.3, None, 0.6, 0.5, 0.7]
    found = [Trial(k, {"a": k}, "failed" if v is None else "done", v) for k, v in enumerate(values)]
    summaries = sweep_results.summaries(rows_of([{"a": k} for k in range(5)], [0.2, 0.4]), ("a",), ("test_accuracy",))
    sweep_figures.course(found, summaries, "test_accuracy")
    (axes,) = pages[0].axes
    named = {line.get_label(): line for line in axes.lines}
    assert list(named["trial"].get_xdata()) == [1, 3, 4, 5] and list(named["failed"].get_xdata()) == [2]
    assert list(named["best so far"].get_ydata()) == pytest.approx([30, 60, 60, 70, 70])
    sweep_figures.course([Trial(0, {"a": 0}, "open")], summaries, "devices")  # nothing to draw yet
    assert not pages[1].axes[0].lines and not pages[1].legends
