"""Boards that all rooms' tests share. Test files cannot import each other, so builders come as fixtures.

What is heavy is imported by the fixtures: the process of xdist that only hands out tests loads this file too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tiny_boards import BoardFile

    from hil.contract import Blocks, BoardSpec
    from sim_backend.board import SimBoard

MEMORY = Path("/dev/shm")  # pytest makes a folder of its own there, that nobody else can read


def pytest_configure() -> None:
    """Keeps the folders of tests in memory where there is room: thousands of runs wait for each of their syncs."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_addoption(parser: Any) -> None:
    """Adds ``--board URL``: the battery of tests/conformance then runs on that board."""
    parser.addoption("--board", default=None, help="URL or file of a board on which tests marked hardware run")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keeps torch from fighting over the two cores of a test machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def board_file() -> Callable[[str], BoardFile]:
    """``board_file("daffodil")``: a file of config/boards, loaded."""
    import tiny_boards

    return tiny_boards.board_file


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., BoardSpec]:
    """``spec_of(drive=Side.ROWS, selector="passive", ops=(...), ...)``: a tiny board of 4 kernels of 6 x 5 cells."""
    import tiny_boards

    return tiny_boards.spec_of


@pytest.fixture(scope="session")
def quiet_board() -> Callable[..., SimBoard]:
    """``quiet_board(spec, dtype="float64", physics={...}, **law)``: no noise, faults, spreads or converters.

    ``physics`` adds parts of the simulator's configuration: ``{"supply": Supply(...)}``.
    """
    import tiny_boards

    return tiny_boards.quiet_board


@pytest.fixture(scope="session")
def noisy_board() -> Callable[..., SimBoard]:
    """``noisy_board(spec, seed=0, fraction=0.05, **law)``: a board with converters, noise, spreads and stuck cells."""
    import tiny_boards

    return tiny_boards.noisy_board


@pytest.fixture(scope="session")
def whole() -> Callable[[BoardSpec], Blocks]:
    """``whole(spec)``: one block for each kernel, all its cells."""
    import tiny_boards

    return tiny_boards.whole
