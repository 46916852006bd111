"""The states of a run: what is in the table can happen, nothing else can."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from hil.errors import UsageError
from hil.lab.states import TRANSITIONS, Machine, RunState

S = RunState
WALKS = {
    "done": [S.IDLE, S.RUNNING, S.STOPPING, S.SAFE],
    "paused": [S.IDLE, S.RUNNING, S.PAUSING, S.PAUSED, S.RUNNING, S.STOPPING, S.SAFE],
    "aborted": [S.IDLE, S.RUNNING, S.ABORTING, S.SAFE],
    "aborted in a pause": [S.IDLE, S.RUNNING, S.PAUSING, S.PAUSED, S.ABORTING, S.SAFE],
    "aborted while it stops": [S.IDLE, S.RUNNING, S.STOPPING, S.ABORTING, S.FAULT],
    "not safe": [S.IDLE, S.RUNNING, S.ABORTING, S.FAULT],
    "halted": [S.IDLE, S.RUNNING, S.HALTED],
}


def machine_in(state: RunState) -> Machine:
    machine = Machine()
    machine.state = state
    return machine


@pytest.mark.parametrize(("old", "new"), list(product(RunState, RunState)), ids=lambda s: s.value)
def test_every_pair_of_states(old: RunState, new: RunState) -> None:
    seen: list[tuple[RunState, RunState]] = []
    machine = Machine(lambda a, b: seen.append((a, b)))
    machine.state = old
    if new in TRANSITIONS[old]:
        machine.to(new)
        assert machine.state is new and seen == [(old, new)]
    else:
        with pytest.raises(UsageError, match=f"that is {old.value} cannot become {new.value}"):
            machine.to(new)
        assert machine.state is old and not seen


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS.keys())
def test_the_walks_of_a_run(walk: list[RunState]) -> None:
    machine = Machine()
    assert machine.state is walk[0]
    for _, state in pairwise(walk):
        assert not machine.ended
        machine.to(state)
    assert machine.ended


def test_a_run_ends_only_in_three_states_and_never_leaves_them() -> None:
    assert {state for state in RunState if machine_in(state).ended} == {S.SAFE, S.FAULT, S.HALTED}


def test_no_state_but_a_halt_ends_without_making_the_board_safe() -> None:
    """SAFE and FAULT, where the outputs are known or known to be unknown, come after STOPPING or ABORTING only."""
    for old, allowed in TRANSITIONS.items():
        if allowed & {S.SAFE, S.FAULT}:
            assert old in (S.STOPPING, S.ABORTING)
        if old not in (S.SAFE, S.FAULT, S.HALTED):
            assert S.HALTED in allowed
