"""A driver that waits ends its list with a fault when the operator aborts; the run ends as aborted, not as failed."""

from __future__ import annotations

import pytest
from guard_operations import Audit, Recorder, pulse, written

from hil.errors import Aborted, BoardFault
from hil.lab.guard import Guard
from hil.lab.stop import StopToken


@pytest.mark.parametrize("aborts", [True, False])
def test_a_fault_after_an_abort_is_the_abort_and_what_was_done_is_booked(spec_of, aborts):
    stop, audit = StopToken(), Audit()

    def answer(ops):
        if aborts:
            stop.abort("the operator")
        raise BoardFault("tiny", "it was made safe in the middle", done=written(ops[:1]), index=1)

    guard = Guard(Recorder(spec_of(), answer), stop=stop, audit=audit)
    with pytest.raises(Aborted if aborts else BoardFault) as caught:
        guard.execute([pulse(), pulse()])
    if aborts:
        assert isinstance(caught.value.__context__, BoardFault)  # what the board said is not lost
    assert guard.ledger.as_dict()["pulses"] > 0 and ("outcome", 1) in audit.log
