"""What a run makes of its link, and what a dry run says about it beforehand."""

from __future__ import annotations

import pytest
from framed_boards import framed

from hil.contract import Traffic, Wait
from hil.errors import ConfigError
from hil.lab import config
from hil.lab.boardfile import FramedBoardFile, SimulatedBoard
from hil.lab.dryrun import DryBoard, dry
from hil.lab.forecast import forecast
from hil.lab.linkuse import LinkUse, LinkWatch
from hil.lab.opening import moved, read_board
from hil.lab.runs import read_plan

SLOW = Traffic(300, 1_000_000, 5.0, round_trip=2e-3, bytes_per_second=1e5, in_real_time=True)


def test_bounds_add_up_and_name_the_longest():
    assert SLOW.bounds == {"round trips": pytest.approx(0.6), "bytes": 10.0, "board": 5.0}
    assert SLOW.least_seconds == pytest.approx(15.6) and SLOW.bound_by == "bytes"


def test_a_board_that_only_counts_its_time_is_no_bound():
    counted = Traffic(1, 1, 5.0, 0.0, None, in_real_time=False)
    assert counted.bounds == {"round trips": 0.0, "bytes": 0.0, "board": 0.0}


def test_the_share_of_the_bound_is_told_with_what_bounds():
    use = LinkUse(SLOW, steps=100, seconds=20.0)
    assert use.fraction == pytest.approx(0.78)
    assert str(use).startswith("78 % of what link and board allow") and "bound by bytes" in str(use)
    assert "3.0 frames and 10,000 bytes a step" in str(use)


def test_a_run_far_from_the_bound_is_told_where_its_time_goes():
    text = str(LinkUse(SLOW, steps=100, seconds=200.0))
    assert text.startswith("8 %") and "this program's or a virtual board's" in text


def test_a_watch_counts_from_where_it_began(noisy_board):
    board = framed(noisy_board())
    board.execute([Wait(1.0)])
    watch = LinkWatch(board)
    board.execute([Wait(1.0)])
    board.execute([Wait(1.0)])
    use = watch.use(2)
    board.close()
    assert use is not None and use.traffic.messages == 2 and use.traffic.board_seconds == 2.0


def test_a_board_in_this_process_has_no_link(noisy_board):
    assert LinkWatch(noisy_board()).use(1) is None


@pytest.fixture
def framed_plan(tmp_path):
    """The main job on a framed board that is never opened."""
    plain = dict(read_board("config/boards/daffodil.yaml").plain)
    plain |= {"kind": "framed", "url": "serial:///dev/not-there?baud=115200"}
    plain["spec"] = {**plain["spec"], "timing": {**plain["spec"]["timing"], "round_trip": "2 ms"}}
    path = tmp_path / "framed.yaml"
    path.write_text(config.dump(plain))
    return read_plan("config/runs/digits_node.yaml", [f"board={path}", "software=null"])


def test_a_dry_run_counts_frames_and_bytes_and_names_the_bound(framed_plan):
    simulated = forecast(read_plan("config/runs/digits_node.yaml", ["software=null"]))
    found = forecast(framed_plan)
    assert found.link is not None and simulated.link is None
    assert found.link.messages <= 3.1 * found.steps  # L + 1 frames a step for L = 2 layers, and the set-up
    assert found.link.bytes_per_second == 11520 and found.link.round_trip == 2e-3
    assert found.link.bound_by == "board" and found.link.bounds["bytes"] > 1000
    assert found.loss_first == simulated.loss_first and found.reads == simulated.reads
    assert any(line.startswith("bound by        board") for line in found.lines())


def test_a_dry_run_opens_nothing(framed_plan):
    dried = dry(framed_plan.board).value
    assert isinstance(framed_plan.board.value, FramedBoardFile) and isinstance(dried, DryBoard) and dried.is_framed


def test_a_board_can_move_unless_it_is_simulated(framed_plan):
    there = moved(framed_plan.board, "tcp://127.0.0.1:5025")
    assert there.value.url == there.plain["url"] == "tcp://127.0.0.1:5025"
    here = read_board("config/boards/ideal.yaml")
    assert isinstance(here.value, SimulatedBoard)
    with pytest.raises(ConfigError, match="is not at one address"):
        moved(here, "tcp://127.0.0.1:5025")
