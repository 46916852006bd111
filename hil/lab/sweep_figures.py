"""Figures of sweeps: Tukey boxes over the seeds against the varied settings, and the course of a search."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hil.lab import figures, tables, tukey
from hil.lab.plain import printable
from hil.lab.sweep_results import Summary, for_people, is_share, short
from hil.lab.sweep_search import Trial
from hil.lab.sweep_space import as_text

MOST_AT = 40
"""Values along the axis of a panel."""
MOST_PANELS = 12
MOST_NUMBERS = 6
_ACROSS = 3
"""Panels side by side where only one number is shown; of several numbers each has a row of its own."""
_LONGEST = 28
_UNITS = {"lab_seconds": "lab time, s", "seconds": "wall time, s", "joules": "energy, J"}
_BOX = 0.34
"""Inches along the axis for one box."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Where each combination is drawn.

    Args:
        found: the combinations.
        varied: keys that take more than one value.
        key: the key whose values stand along the axis; empty when nothing varies.
        coloured: the key whose values have a colour each; empty when there is none.
        apart: keys whose combinations have a panel each.
    """

    found: Sequence[Summary]
    varied: Sequence[str]
    key: str
    coloured: str
    apart: tuple[str, ...]

    @classmethod
    def of(cls, found: Sequence[Summary], varied: Sequence[str]) -> Chart:
        """The first varied key along the axis, the second in colours, the others in panels.

        The first two change places when only the first has so few values that each gets a colour of its own.
        """
        keys = list(varied)
        if len(keys) > 1:
            first, second = (len(_values(found, key)) for key in keys[:2])
            if second > len(tables.COLOURS) >= first:
                keys[:2] = [keys[1], keys[0]]
        return cls(found, varied, keys[0] if keys else "", keys[1] if len(keys) > 1 else "", tuple(keys[2:]))

    @property
    def along(self) -> list[str]:
        """The values along the axis, as text."""
        return _values(self.found, self.key)[:MOST_AT]

    @property
    def colours(self) -> list[str]:
        """The values that have a colour each, as text; one empty text when there are none."""
        return _values(self.found, self.coloured)

    @property
    def panels(self) -> list[dict[str, str]]:
        """The settings of each panel, as text."""
        each = itertools.product(*(_values(self.found, key) for key in self.apart))
        return [dict(zip(self.apart, values, strict=True)) for values in each]

    @property
    def wide(self) -> float:
        """Width of a panel, inches."""
        return min(max(1.3 + _BOX * len(self.along) * len(self.colours), 3.6), 16.0)

    def inside(self, panel: Mapping[str, str]) -> list[Summary]:
        """The combinations of one panel."""
        return [one for one in self.found if all(_text(one, key) == text for key, text in panel.items())]

    def words(self, settings: Mapping[str, str]) -> str:
        """Settings as ``placing greedy, fraction 0.1``."""
        named = [(_clean(short(key, self.varied)), self.word(key, text)) for key, text in settings.items()]
        return ", ".join(f"{key} {value}" for key, value in named)

    def word(self, key: str, text: str) -> str:
        """A value as people read it."""
        value: Any = next(one.overrides[key] for one in self.found if _text(one, key) == text)
        return _clean(for_people(value))


def boxes(found: Sequence[Summary], varied: Sequence[str], shown: Sequence[str]) -> bytes:
    """Each number that is shown over the seeds of each combination, PNG.

    Args:
        found: the combinations.
        varied: keys that take more than one value.
        shown: names of numbers; a row of panels each.
    """
    chart = Chart.of(found, varied)
    panels, names = chart.panels[:MOST_PANELS], list(shown)[:MOST_NUMBERS]
    across = min(len(panels), _ACROSS) if len(names) == 1 else len(panels)
    down = -(-len(panels) // across) if len(names) == 1 else len(names)
    page = figures.canvas(min(0.6 + chart.wide * across, 40.0), 1.1 + 3.1 * down)
    grid = page.subplots(down, across, squeeze=False, sharex=True, sharey="all" if len(names) == 1 else "row")
    cells = [(name, panel) for name in names for panel in panels]
    for number, axes in enumerate(grid.flat):
        if number >= len(cells):
            axes.set_visible(False)
            continue
        name, panel = cells[number]
        _draw(axes, chart, chart.inside(panel), name)
        if number % across == 0:
            axes.set_ylabel(_quantity(name))
        if panel and number < len(panels):
            axes.set_title(chart.words(panel), loc="left", fontsize=9)
        if number + across >= len(cells):
            axes.tick_params(labelbottom=True)
            _name_axis(axes, chart)
    _legend(page, grid, chart)
    page.suptitle(_title(chart, shown), fontsize=10, x=0.02, ha="left")
    return figures.png(page)


def _title(chart: Chart, shown: Sequence[str]) -> str:
    most = max((len(one.done) for one in chart.found), default=0)
    what = "Tukey boxes" if most >= tukey.FEWEST else "Each run, a dash at the median,"
    cut = [
        f"the first {limit} of {count} {things}"
        for limit, count, things in (
            (MOST_PANELS, len(chart.panels), "panels"),
            (MOST_AT, len(_values(chart.found, chart.key)), "values"),
            (MOST_NUMBERS, len(shown), "numbers"),
        )
        if count > limit
    ]
    return f"{what} over {most} {'seed' if most == 1 else 'seeds'}" + (f" ({', '.join(cut)})" if cut else "")


def _draw(axes: Any, chart: Chart, found: Sequence[Summary], name: str) -> None:
    scale = 100.0 if is_share(name) else 1.0
    slot = 0.84 / max(len(chart.colours), 1)
    for at, value in enumerate(chart.along):
        here = {_text(one, chart.coloured): one.numbers(name) for one in found if _text(one, chart.key) == value}
        present = [text for text in chart.colours if here.get(text)]
        for number, text in enumerate(present):  # in the middle above the value, whichever combinations there are
            place = at + (number - (len(present) - 1) / 2) * slot
            values = [scale * number_of for number_of in here[text]]
            tukey.draw(axes, [(place, values)], min(0.8 * slot, 0.5), _colour(chart.colours.index(text)))
    if is_share(name) and name != "software_accuracy":
        _draw_software(axes, chart, found)
    axes.set_xlim(-0.6, max(len(chart.along), 1) - 0.4)
    tables.tidy(axes)
    axes.grid(visible=False, axis="x")


def _draw_software(axes: Any, chart: Chart, found: Sequence[Summary]) -> None:
    """The mean of the software baseline, level over the width of each value along the axis."""
    edges: list[float] = []
    level: list[float] = []
    for at, value in enumerate(chart.along):
        numbers = [n for one in found if _text(one, chart.key) == value for n in one.numbers("software_accuracy")]
        if numbers:
            edges += [at - 0.5, at + 0.5]
            level += [100 * fmean(numbers)] * 2
    if level:
        axes.plot(edges, level, color=tables.GREY, lw=1.4, ls="--", label="software", zorder=1)


def _legend(page: Any, grid: Any, chart: Chart) -> None:
    from matplotlib.patches import Patch

    entries: list[Any] = []
    for number, text in enumerate(chart.colours if chart.coloured else []):
        colour = _colour(number)
        entries.append(Patch(fc=tukey.pale(colour), ec=colour, label=chart.words({chart.coloured: text})))
    lines = [line for axes in grid.flat for line in axes.get_lines() if line.get_label() == "software"]
    entries += lines[:1]
    if entries:
        longest = max(len(str(entry.get_label())) for entry in entries)
        fitting = int(page.get_figwidth() / (0.6 + 0.075 * longest))
        count = max(min(len(entries), fitting, 6), 1)
        page.legend(handles=entries, loc="outside lower center", ncols=count, fontsize=8, frameon=False)


def _name_axis(axes: Any, chart: Chart) -> None:
    if not chart.key:
        axes.set_xticks([])
        return
    names = [chart.word(chart.key, text) for text in chart.along]
    crowded = 0.075 * (max(map(len, names)) + 2) * len(names) > chart.wide - 0.8
    turn: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), names, fontsize=8, **turn)
    axes.set_xlabel(_clean(short(chart.key, chart.varied)))


def course(found: Sequence[Trial], summaries: Sequence[Summary], maximise: str) -> bytes:
    """What each trial of a search came to, from the lowest to the highest seed, and the best up to there, PNG."""
    scale = 100.0 if is_share(maximise) else 1.0
    page = figures.canvas(7.0, 4.0)
    axes = page.subplots()
    done = [(trial.number + 1, scale * trial.value, trial) for trial in found if trial.value is not None]
    tops = list(itertools.accumulate((value for _, value, _ in done), max))
    colour = tables.COLOURS[0]
    if done:
        for at, _, trial in done:
            each = [scale * value for value in summaries[trial.number].numbers(maximise)]
            axes.plot([at, at], [min(each), max(each)], color=tukey.pale(colour), lw=3.0, solid_capstyle="butt")
        axes.plot([at for at, *_ in done], [value for _, value, _ in done], "o", ms=4, color=colour, label="trial")
        ends = [at for at, *_ in done] + [max(trial.number for trial in found) + 1]
        axes.step(ends, [*tops, tops[-1]], where="post", color=tables.COLOURS[1], lw=1.6, label="best so far")
    failed = [trial.number + 1 for trial in found if trial.state == "failed"]
    if failed:
        foot = axes.get_xaxis_transform()
        axes.plot(failed, [0.02] * len(failed), "x", ms=5, color=tables.GREY, transform=foot, label="failed")
    axes.set(xlabel="trial", ylabel=_quantity(maximise), xlim=(0.2, max(len(found), 4) + 0.8))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("Search: mean over the seeds, bars from the lowest to the highest", loc="left", fontsize=10)
    tables.tidy(axes)
    if done or failed:
        page.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figures.png(page)


# -- words -------------------------------------------------------------------------------------------------------------


def _text(summary: Summary, key: str) -> str:
    return as_text(summary.overrides[key]) if key else ""


def _values(found: Sequence[Summary], key: str) -> list[str]:
    """The values of a key in order, as text; one empty text for no key."""
    return list(dict.fromkeys(_text(one, key) for one in found)) if key else ([""] if found else [])


def _clean(text: str) -> str:
    """Text that the figure does not take for a formula."""
    return printable(text, _LONGEST).replace("$", r"\$")


def _quantity(name: str) -> str:
    if is_share(name):
        return f"{_clean(name).replace('_', ' ')}, %"
    return _UNITS.get(name, _clean(name).replace("_", " "))


def _colour(number: int) -> str:
    return tables.COLOURS[number % len(tables.COLOURS)]
