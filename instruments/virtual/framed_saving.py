"""Saving the state of the backend inside a framed virtual board, and putting it back."""

from __future__ import annotations

from hil.contract import Backend, restorable
from hil.errors import HilError
from instruments.framed.frame import Status
from instruments.framed.messages import encoded_reason, read_tensors, write_tensors, write_time
from instruments.virtual.framed_lists import Answer
from instruments.wire.buffer import Reader, Writer


def snapshot(backend: Backend) -> Answer:
    """The whole state, or why there is none."""
    if not restorable(backend):
        return Status.UNSUPPORTED, encoded_reason("a chip cannot be copied")
    out = Writer()
    write_tensors(out, backend.snapshot())
    return Status.OK, out.done()


def put_back(backend: Backend, source: Reader) -> Answer:
    """Puts a state back; gives the lab time then.

    Raises:
        PayloadError: it is none.
    """
    now = backend.now
    if not restorable(backend):
        return Status.UNSUPPORTED, encoded_reason("a chip cannot be copied")
    saved = read_tensors(source)
    source.end()
    try:
        backend.restore(saved)
    except HilError as error:
        return Status.BAD_PAYLOAD, encoded_reason(str(error))
    out = Writer()
    write_time(out, now())
    return Status.OK, out.done()
