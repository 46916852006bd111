"""Opening boards behind links: locks and identity first, wear beside the chip, nothing left held after a failure."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hil.contract import Blocks, Pulse
from hil.errors import Aborted, BoardInUse, BoardMissing, CheckpointError, ConfigError, LinkLost
from hil.lab import config, drivers, emergency
from hil.lab.boardfile import BoardFile
from hil.lab.build import guard_of, open_board
from hil.lab.emulate import framed_core
from hil.lab.opening import moved, read_board
from hil.lab.stop import StopToken
from hil.usual import usual_pulse
from instruments.links.memory import MemoryLink
from instruments.ownership import owned, owners
from instruments.virtual.arcone import ArcOne, inside_spec
from sim_backend.board import SimBoard

BOARDS = Path(__file__).parents[2] / "config" / "boards"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with locks of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIL_LOCKS", str(tmp_path / "locks"))
    return tmp_path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds a board in use says so soon."""
    monkeypatch.setattr("instruments.ownership.PATIENCE", 0.05)


@pytest.fixture
def wires(mocker: Any) -> dict[str, Any]:
    """Who answers at which URL: a virtual board each; the links that were opened are kept under "opened"."""
    boards: dict[str, Any] = {"opened": []}

    def open_link(address: Any) -> MemoryLink:
        url = address if isinstance(address, str) else address.url
        if url not in boards:
            raise LinkLost(url, "nothing listens there")
        link = MemoryLink(boards[url].converse("test"), url)
        boards["opened"].append(link)
        return link

    mocker.patch("hil.lab.drivers.open_link", open_link)
    mocker.patch("instruments.links.opening.open_link", open_link)
    return boards


@pytest.fixture
def kept(mocker: Any) -> list[str]:
    """What keepers were told; none is started."""
    said: list[str] = []

    class Told:
        def __init__(self, board: str, name: str) -> None:
            said.append(f"watch {name}")

        def dismiss(self) -> None:
            said.append("dismissed")

    mocker.patch("hil.lab.keeper.Keeper", Told)
    return said


@pytest.fixture
def arcone(wires: dict[str, Any]) -> dict[str, Any]:
    """The content of an ArC ONE's file, and the board at its end; its resets are quick."""
    schema: Any = BoardFile
    content = copy.deepcopy(config.load(BOARDS / "arcone.yaml", schema).plain)
    content |= {"url": "tcp://127.0.0.1:1", "driver": {"reset_wait": "0 s", "gap": "0 s"}}
    value = read_board(content).value
    wires[content["url"]] = ArcOne(SimBoard(inside_spec(value.spec), value.simulator, 3))  # type: ignore[arg-type]
    return content


def pulse_once(board: Any, times: int = 1) -> None:
    blocks = Blocks((0,), (3,), (4,), 1, 1)
    counts = torch.full(blocks.shape, times, dtype=torch.int32)
    board.execute([Pulse(blocks, counts, usual_pulse(board, up=True), usual_pulse(board, up=False))])


def test_wear_lives_beside_the_chip(arcone: dict[str, Any], kept: list[str], folder: Path) -> None:
    for total in (3, 6):
        board = open_board(arcone)
        assert guard_of(board).wear.life[0, 3, 4] == total - 3
        pulse_once(board, 3)
        board.close()
        board.close()
    assert (folder / "chips" / "arcone-1.db").exists() and owners() == []
    assert kept == ["watch arcone", "dismissed"] * 2


def test_a_damaged_chip_file_leaves_nothing_held(
    arcone: dict[str, Any], kept: list[str], wires: dict[str, Any], folder: Path
) -> None:
    (folder / "chips").mkdir()
    (folder / "chips" / "arcone-1.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        open_board(arcone)
    assert owners() == [] and kept == ["watch arcone", "dismissed"]
    assert wires[arcone["url"]].outputs.facts() == {"on": False, "volts": 0.0}
    with pytest.raises(LinkLost, match="closed"):
        wires["opened"][-1].drain()
    report = emergency.secure(read_board(arcone).value, "test")  # making safe needs no chip file
    assert report.confirmed


def test_no_board_without_its_keeper(arcone: dict[str, Any], wires: dict[str, Any], mocker: Any) -> None:
    mocker.patch("hil.lab.keeper.Keeper", side_effect=BoardMissing("arcone", "its keeper does not start"))
    with pytest.raises(BoardMissing, match="keeper"):
        open_board(arcone)
    assert owners() == []
    assert wires[arcone["url"]].counters["resets"] == 2  # as it was opened, and to make it safe


def test_a_silent_arcone_says_what_resets_it(arcone: dict[str, Any], kept: list[str], wires: dict[str, Any]) -> None:
    arcone["driver"] |= {"margin": "1 ms", "retries": 0}
    for task in wires[arcone["url"]].converse("cut off").receive(b"2\n2\n32\n32\n5\n1\n"):
        list(task.work)  # type: ignore[arg-type]
    with pytest.raises(BoardMissing, match="`hil safe` with its file resets it"):
        open_board(arcone)
    assert [link.sent for link in wires["opened"]] == [[b"999\n"]] and owners() == []
    assert emergency.secure(read_board(arcone).value, "test").confirmed
    open_board(arcone).close()


def test_another_arcone_is_not_reset(arcone: dict[str, Any], wires: dict[str, Any]) -> None:
    arcone["spec"]["identity"]["firmware"] = "7.3"
    for act in (open_board, lambda board: emergency.secure(read_board(board).value, "test")):
        with pytest.raises(BoardMissing, match=r"answers as firmware 1\.0, and its board file says 7\.3"):
            act(arcone)
    assert {bytes(data) for link in wires["opened"] for data in link.sent} == {b"999\n"}


@pytest.fixture
def framed(wires: dict[str, Any]) -> dict[str, Any]:
    """The content of a framed board's file, and the board at its end."""
    schema: Any = BoardFile
    loaded = config.load(BOARDS / "daffodil_framed.yaml", schema)
    content = {**copy.deepcopy(loaded.plain), "url": "tcp://127.0.0.1:2"}
    wires[content["url"]] = framed_core(loaded, 3)
    return content


def test_a_framed_board_by_file_and_by_its_own_words(framed: dict[str, Any], folder: Path) -> None:
    for opened in (framed, framed["url"]):
        board = open_board(opened)
        assert guard_of(board).restorable
        pulse_once(board)
        board.close()
    described = read_board(framed["url"])
    assert described.plain["spec"]["limits"] == framed["spec"]["limits"]
    assert described.value.spec.abilities.watchdog and not (folder / "chips").exists() and owners() == []


@pytest.mark.parametrize(("name", "value"), [("serial", "x"), ("vendor", "X"), ("model", "y"), ("firmware", "9")])
def test_another_framed_board(framed: dict[str, Any], wires: dict[str, Any], name: str, value: str) -> None:
    framed["spec"]["identity"][name] = value
    with pytest.raises(BoardMissing, match=f"has the {name} .* expected '{value}'.*nothing else was sent"):
        open_board(framed)
    assert [len(link.sent) for link in wires["opened"]] == [1] and owners() == []
    with pytest.raises(BoardMissing, match="its outputs were switched off"):
        emergency.secure(read_board(framed).value, "test")


def test_a_board_has_one_owner(framed: dict[str, Any], impatient: None) -> None:
    board = open_board(framed)
    with pytest.raises(BoardInUse):
        open_board(framed)
    board.close()
    open_board(framed).close()


@pytest.mark.slow
def test_a_new_owner_waits_for_a_keeper_only() -> None:
    def take(run: str, stop: StopToken) -> None:
        with drivers.ExitStack() as held:
            drivers.take(held, "tcp://127.0.0.1:9", "chip-1", run, stop)

    stop = StopToken()
    with owned("chip-1", "keeper"):
        stop.abort("operator")
        with pytest.raises(Aborted):
            take("run", stop)
    keeper = owned("chip-1", "keeper")
    timer = threading.Timer(0.6, keeper.close)
    timer.start()
    take("run", StopToken())
    timer.join()
    with owned("chip-1", "somebody"), pytest.raises(BoardInUse):
        take("run", StopToken())
    assert owners() == []


def test_moving_a_board(framed: dict[str, Any], arcone: dict[str, Any]) -> None:
    for content in (framed, arcone):
        there = moved(read_board(content), "serial:///dev/ttyACM7")
        assert there.value.url == there.plain["url"] == "serial:///dev/ttyACM7"  # type: ignore[union-attr]
        assert there.value.spec.cells == read_board(content).value.spec.cells
    for name in ("ideal", "smu_matrix"):
        with pytest.raises(ConfigError, match="is not at one address"):
            moved(read_board(BOARDS / f"{name}.yaml"), "tcp://127.0.0.1:5")


def test_a_board_that_describes_nonsense(framed: dict[str, Any], wires: dict[str, Any], mocker: Any) -> None:
    nonsense: list[dict[str, Any]] = [{}, {"spec": 1}, {"spec": {**framed["spec"], "limits": {"read_cell_volts": 1e9}}}]
    for said in nonsense:
        mocker.patch("instruments.framed.introduction.describe", lambda session, said=said: said)
        with pytest.raises(ConfigError) as caught:
            read_board(framed["url"])
        assert framed["url"] in str(caught.value)


def test_a_bench_whose_matrix_is_gone_has_its_source_switched_off(
    wires: dict[str, Any], mocker: Any, impatient: None
) -> None:
    from hil.lab.emulate import _bench

    schema: Any = BoardFile
    content = copy.deepcopy(config.load(BOARDS / "smu_matrix.yaml", schema).plain)
    content |= {"source_url": "tcp://127.0.0.1:3", "matrix_url": "tcp://127.0.0.1:4"}
    value = read_board(content).value
    bench = _bench(value, 0)
    wires[content["source_url"]] = source = bench["source"]
    inside = source._bench  # type: ignore[attr-defined]
    inside.set_level(1.0)
    inside.switch(True)
    report = emergency.secure(value, "test")
    assert not inside.on and not report.confirmed and dict(report.outputs) == {"source": "off", "matrix": "unreadable"}
    wires[content["matrix_url"]] = bench["matrix"]
    inside.switch(True)
    assert emergency.secure(value, "test").confirmed and not inside.on and inside.volts == 0.0
    with owned(value.spec.identity.serial, "somebody"), pytest.raises(BoardInUse):
        emergency.secure(value, "test")
