"""The page of the simulator's keys says what the code says: every key, what it takes, and its default."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch

from hil.lab import config, yaml_text
from hil.lab.devicefile import with_device
from hil.units import Unit, parse
from sim_backend.config import DeviceFile, SimulatorConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/simulator.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs/how-to/choose-a-device.md").read_text(encoding="utf-8")
PRESETS = sorted((ROOT / "config/devices").glob("*.yaml"))


def parts_of(hint: Any) -> list[Any]:
    """What a key may hold, None left out."""
    if get_origin(hint) in (Union, UnionType):
        return [part for option in get_args(hint) for part in parts_of(option)]
    return [] if hint is NoneType else [hint]


def written(part: type) -> Iterator[tuple[str, Any, Any]]:
    """The keys that a class itself adds to those it inherits: name, type and field."""
    fields, hints = {f.name: f for f in dataclasses.fields(part)}, get_type_hints(part, include_extras=True)
    for name in part.__annotations__:
        if name in fields and fields[name].init:
            yield name, hints[name], fields[name]


def classes() -> dict[str, type]:
    """Every class of a board file's simulator part and of a device file, by the heading of its section."""
    found: dict[str, type] = {}
    waiting: list[type] = [SimulatorConfig, DeviceFile]
    while waiting:
        part = waiting.pop(0)
        for base in part.__mro__:
            if dataclasses.is_dataclass(base) and heading(base) not in found:
                found[heading(base)] = base
                for _, hint, _ in written(base):
                    inner = [arg for p in parts_of(hint) for arg in (get_args(p) or (p,))]
                    waiting += [p for p in inner if dataclasses.is_dataclass(p) and isinstance(p, type)]
    return found


def heading(part: type) -> str:
    """The kind of a part that has one, else its place in the file."""
    kind = {f.name: f.default for f in dataclasses.fields(part)}.get("kind")
    places = {
        "SimulatorConfig": "simulator", "DeviceFile": "device file", "Cell": "all laws", "StepCell": "laws with steps",
        "Wires": "wires", "Faults": "faults", "DriverErrors": "drivers", "AmplifierErrors": "amplifiers",
        "Supply": "supply", "Energy": "energy", "SpreadAt": "ages",
    }  # fmt: skip
    return kind if isinstance(kind, str) else places.get(part.__name__, part.__name__)


def takes(hint: Any) -> str:
    """What may be written for a key, as the page names it."""
    found = []
    for part in parts_of(hint):
        bare = get_args(part)[0] if get_origin(part) is Annotated else part
        units = [note.symbol for note in getattr(part, "__metadata__", ()) if isinstance(note, Unit)]
        if units:
            found += units
        elif get_origin(bare) is Literal:
            found += [f"`{option}`" for option in get_args(bare)]
        elif get_origin(bare) in (tuple, list):
            found.append("list")
        elif dataclasses.is_dataclass(bare):
            found.append("part")
        else:
            found.append({bool: "yes/no", int: "whole number", float: "number", str: "text"}[bare])
    return ", ".join(dict.fromkeys(found))


def is_default(cell: str, field: Any, hint: Any) -> bool:
    """Whether a cell of the page tells the default of a field."""
    value = field.default
    if value is dataclasses.MISSING:
        return cell == ("needed" if field.default_factory is dataclasses.MISSING else "its defaults")
    if value is None or value == "":
        return cell == {None: "none", "": "empty"}[value]
    if isinstance(value, bool):
        return cell == str(value).lower()
    if isinstance(value, str):
        return cell == f"`{value}`"
    if isinstance(value, tuple):
        return cell == str(list(value))
    unit = next((note.symbol for p in parts_of(hint) for note in getattr(p, "__metadata__", ())), None)
    return (float(cell) if unit is None else parse(cell, unit)) == value


@cache
def tables() -> dict[str, dict[str, list[str]]]:
    """The tables of keys: heading -> key -> what it takes, default, meaning."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in PAGE.splitlines():
        title = re.match(r"#+ .*?`([^`]+)`", line) or re.match(r"#+ (.*)", line)
        if title:
            section = title[1].lower()
        row = re.match(r"\| `(\w+)` \|", line)
        if row:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert row[1] not in found.setdefault(section, {}), f"{section}.{row[1]} stands twice on the page"
            found[section][row[1]] = cells[1:]
    return found


@pytest.mark.parametrize("name", classes())
def test_every_key_stands_in_the_section_of_its_kind_with_unit_and_default(name: str) -> None:
    fields = {key: (hint, field) for key, hint, field in written(classes()[name]) if key != "kind"}
    rows = tables().get(name, {})
    assert set(rows) == set(fields), f"the keys of {name}"
    for key, (hint, field) in fields.items():
        what, default, meaning = rows[key]
        assert what == takes(hint), f"{name}.{key} takes {takes(hint)}"
        assert is_default(default, field, hint), f"the default of {name}.{key} is {field.default!r}"
        assert len(meaning) > 8, f"{name}.{key} needs a meaning"


def test_the_page_has_no_section_of_keys_that_the_code_does_not_know() -> None:
    assert set(tables()) <= set(classes())


@pytest.mark.parametrize("text", [PAGE, HOW_TO], ids=["reference", "how-to"])
def test_snippets_load(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    snippets = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert snippets
    for snippet in snippets:
        if snippet.startswith("simulator:"):
            whole: Any = with_device(yaml_text.read_text(snippet, "page"), ROOT / "board.yaml").value
            config.from_mapping(whole["simulator"], SimulatorConfig)
        else:
            config.parse(snippet, DeviceFile)


def quiet(path: Path) -> Any:
    """The law of a preset without spreads and noise."""
    law = config.load(path, DeviceFile).value.law
    names = [f.name for f in dataclasses.fields(law) if f.name.endswith(("_dtod", "_std", "_noise"))]
    return dataclasses.replace(law, corrupt=0.0, **dict.fromkeys(names, 0.0))


def steps(law: Any, way: float) -> list[float]:
    """One usual pulse at 10, 50 and 90 % of the window, in per cent of the window."""
    source = torch.Generator().manual_seed(0)
    params = law.build((1, 1, 3), source, torch.float64)
    g = law.low + law.window * torch.tensor([[[0.1, 0.5, 0.9]]], dtype=torch.float64)
    moved = law.pulse(g, params, torch.full_like(g, way), None, source)
    return [100 * float(x) / law.window for x in (moved - g).view(-1)]


@pytest.mark.parametrize("path", PRESETS, ids=[path.stem for path in PRESETS])
def test_the_presets_are_listed_with_their_kind_states_and_steps(path: Path) -> None:
    row = next((line for line in HOW_TO.splitlines() if line.startswith(f"| `{path.stem}` |")), None)
    assert row, f"{path.stem} is not in the table of presets"
    name, kind, aging, states, up, down = (cell.strip(" `") for cell in row.strip("|").split("|"))
    file = config.load(path, DeviceFile).value
    law = quiet(path)
    assert (name, kind, aging) == (path.stem, law.kind, "none" if file.aging is None else file.aging.kind)
    assert float(states.replace(",", "")) == pytest.approx(law.states, rel=5e-3)
    assert [float(x) for x in up.split(" / ")] == pytest.approx(steps(law, 1.0), rel=6e-3)
    if down != "to the bottom":
        assert [float(x) for x in down.split(" / ")] == pytest.approx([-x for x in steps(law, -1.0)], rel=6e-3)
    else:
        assert [x + share for x, share in zip(steps(law, -1.0), (10, 50, 90), strict=True)] == pytest.approx(
            [0] * 3, abs=1
        )
