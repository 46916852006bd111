"""A virtual board that speaks SCPI in a process of its own, over TCP: as a raw socket and through PyVISA."""

from __future__ import annotations

import copy
import time
from contextlib import contextmanager

import framed_boards
import pytest
import scpi_boards
import torch
from framed_boards import pulses, read
from run_folders import rows

from hil.contract import Wait
from hil.errors import BoardFault, BoardMissing
from hil.lab import config
from hil.lab.build import open_board
from hil.lab.emergency import made_safe
from hil.lab.opening import read_board
from hil.lab.runs import run
from instruments.framed.requests import Patience
from instruments.links.opening import open_link
from instruments.scpi.board import met
from instruments.session import Session
from instruments.virtual.control_client import Control
from instruments.virtual.faults import FaultSettings
from instruments.virtual.shell import ShellSettings

WAYS = ("tcp", "visa")
SETTINGS = ShellSettings(control="127.0.0.1:0")


def url_of(addresses, way: str) -> str:
    url = addresses["tcp"]
    if way == "tcp":
        return url
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return f"visa://TCPIP::{host}::{port}::SOCKET"


def board_file(url: str, folder) -> str:
    """A board file of the virtual Daffodil at an address."""
    plain = read_board(framed_boards.DAFFODIL).plain
    path = folder / "board.yaml"
    path.write_text(config.dump({**plain, "kind": "scpi", "url": url}))
    return str(path)


@contextmanager
def control(addresses):
    found = Control(addresses["control"])
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def board():
    """A board that never faults."""
    with scpi_boards.daffodil(SETTINGS) as addresses:
        yield addresses


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_answers_are_those_of_the_same_board_in_this_process(board, way):
    driver, twin = scpi_boards.connected(url_of(board, way)), framed_boards.twin()
    for batch in (1, 300, 2):  # one that takes more than a segment, with every byte there is in it
        ops = [pulses(driver, 3), read(driver, batch=batch), Wait(0.1)]
        for got, wanted in zip(driver.execute(ops), twin.execute(ops), strict=True):
            assert (got.value is None) == (wanted.value is None)
            assert got.value is None or torch.equal(got.value, wanted.value)
    saved = driver.snapshot()
    assert saved.keys() == twin.snapshot().keys()
    driver.restore(saved)
    assert driver.now() == twin.now()
    driver.close()
    assert driver.make_safe().confirmed  # as it was left
    with control(board) as look:
        assert look.inspect("outputs") == {"on": False, "volts": 0.0}


@pytest.mark.slow
def test_safe_from_outside_stops_the_owner(board, tmp_path):
    path = board_file(board["tcp"], tmp_path)
    driver = open_board(path)
    driver.execute([read(driver)])
    name, report = made_safe(path)
    assert name == "daffodil" and report.confirmed
    with pytest.raises(BoardFault, match="made the board safe"):
        driver.execute([read(driver)])
    driver.close()


@pytest.mark.slow
def test_another_board_is_refused(board, tmp_path):
    path = tmp_path / "board.yaml"
    plain = copy.deepcopy(dict(read_board(board_file(board["tcp"], tmp_path)).plain))
    plain["spec"]["identity"]["serial"] = "no"
    path.write_text(config.dump(plain))
    with pytest.raises(BoardMissing, match="serial 'daffodil-sim-1', expected 'no'"):
        open_board(str(path))
    with pytest.raises(BoardMissing, match="serial"):
        made_safe(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_pulse_is_applied_once_whatever_the_line_does(way):
    rates = {
        "lost_request": 0.02, "flipped_request": 0.02, "duplicate_request": 0.02, "no_answer": 0.02, "late": 0.02,
        "truncated": 0.02, "flipped_bit": 0.02, "garbage": 0.02, "duplicate": 0.02,
    }  # fmt: skip
    settings = ShellSettings(control="127.0.0.1:0", silence=0.01, faults=FaultSettings(late_seconds=0.06))
    with scpi_boards.daffodil(settings) as addresses, control(addresses) as steer:
        driver = scpi_boards.connected(url_of(addresses, way), patience=Patience(timeout=0.05, tries=12))
        steer.faults(rates, seed=3)
        started = time.monotonic()
        for number in range(150):
            driver.execute([pulses(driver, 1 + number % 2)])
        assert time.monotonic() - started < 30.0
        steer.faults(dict.fromkeys(rates, 0.0))
        assert rates.keys() == steer.counters()["faults"].keys()
        assert steer.inspect("pulses", sum=True) == 225 * 6
        assert steer.inspect("counters")["repeated"] > 0
        assert driver.make_safe().confirmed
        driver.close()
        assert steer.inspect("history", last=1) == [["outputs", "off"]]


@pytest.mark.slow
def test_a_host_that_falls_silent_finds_a_safe_board(board):
    spec = framed_boards.twin().spec
    driver = scpi_boards.connected(board["tcp"], watchdog=0.3)
    driver.execute([read(driver)])
    driver._heartbeat.stop()  # as a frozen host
    with control(board) as look:
        until = time.monotonic() + 5.0
        while look.inspect("outputs")["on"] and time.monotonic() < until:
            time.sleep(0.02)
        assert look.inspect("counters")["watchdog"] == 1
    session = Session(open_link(board["tcp"]))
    assert met(session, spec).query(":OUTP?") == "rows,OFF,cols,OFF,gates,OFF"
    session.close()
    with pytest.raises(BoardFault, match="watchdog"):
        driver.execute([read(driver)])
    driver.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_training_gives_the_same_losses_as_in_this_process(tmp_path, way):
    few = ["steps=6", "evaluate_every=6", "checkpoint_every=6", "network.hidden=[8]", "software=null"]
    here = run("config/runs/digits_node.yaml", out=tmp_path / "here", overrides=few)
    with scpi_boards.daffodil(SETTINGS) as addresses:
        path = board_file(url_of(addresses, way), tmp_path)
        there = run("config/runs/digits_node.yaml", out=tmp_path / "there", overrides=[*few, f"board={path}"])
    assert here.exit_code == there.exit_code == 0
    assert [row.loss for row in rows(tmp_path / "there")] == [row.loss for row in rows(tmp_path / "here")]
