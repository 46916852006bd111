"""One client's line to a virtual board: pace, faults, silence, and no more waiting than there is room for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from instruments.virtual.faults import INSIDE, ON_ANSWER, ON_REQUEST, Fault, spoil_answer, spoil_request
from instruments.virtual.insides import Insides
from instruments.virtual.pacing import Way
from instruments.virtual.personality import Task
from instruments.virtual.turns import Job

MOST_TASKS = 256
"""Commands of one client that wait; more are left on the line."""

MOST_IN = 1 << 18
"""Bytes on the way to the board; more are left on the line."""

MOST_OUT = 1 << 20
"""Bytes on the way to a client; until it reads, nothing more is taken from it."""

TOO_MUCH = 1 << 28
"""Bytes on the way to a client that never reads; it is dropped."""


class Port(Protocol):
    """The system's side of a line.

    Attributes:
        full: the client does not read as fast as it is answered.
    """

    full: bool

    def write(self, data: bytes) -> None:
        """Sends bytes, or keeps them until the client reads."""
        ...

    def unsent(self) -> int:
        """Bytes that are kept."""
        ...

    def hold(self, held: bool) -> None:
        """Stops taking bytes from the client, or goes on."""
        ...

    def hang_up(self) -> None:
        """Ends the connection and loses what is kept."""
        ...


class Line:
    """A client, from its first byte to its end.

    Args:
        insides: what all lines share.
        port: the system's side.
        name: of the client, for messages.
    """

    def __init__(self, insides: Insides, port: Port, name: str) -> None:
        self._insides, self._port, self._name = insides, port, name
        self._loop = insides.loop
        self._in = Way(self._loop, self._take, insides.rate)
        self._out = Way(self._loop, self._leave, insides.rate, insides.round_trip)
        self._tasks = 0
        self._held = self._gone = False
        self._fault: Fault | None = None
        self._drawn = False
        self._heard = 0.0
        self._silence: asyncio.TimerHandle | None = None
        self._conversation = insides.personality.converse(name)
        insides.tally.clients += 1
        insides.lines.add(self)

    def arrived(self, data: bytes) -> None:
        """Takes bytes from the port."""
        self._in.put(data)
        self._weigh()

    def eased(self) -> None:
        """Looks again how much waits: the port has sent what it kept, or keeps too much."""
        self._weigh()

    def ended(self) -> None:
        """The client has ended the connection; what it sent before still arrives."""
        self._in.after(self.close)

    def drop(self) -> None:
        """Ends the connection."""
        self.close()
        self._port.hang_up()

    def close(self) -> None:
        """Ends the conversation; again, it does nothing."""
        if self._gone:
            return
        self._gone = True
        self._in.clear()
        self._out.clear()
        if self._silence is not None:
            self._silence.cancel()
        self._insides.lines.discard(self)
        self._insides.turns.forget(self)
        try:
            self._conversation.lost()
        except Exception as problem:
            self._insides.failed(f"{self._name}: the end of its connection", problem)
        self._insides.watch.look()

    def fail(self, where: str, problem: Exception) -> None:
        """Drops the client because of an error inside the board."""
        self._insides.failed(f"{self._name}: {where}", problem)
        if not self._gone:
            self._insides.tally.dropped += 1
            self.drop()

    def begin(self, fault: Fault | None) -> None:
        """Arms a fault that only the wire protocol can make, before its command begins."""
        if fault is None or fault.kind not in INSIDE:
            return
        try:
            if self._insides.personality.misbehave(fault.kind):
                self._insides.tally.faults[fault.kind] += 1
        except Exception as problem:
            self.fail("a fault", problem)

    def answer(self, answer: bytes, fault: Fault | None) -> None:
        """Sends the answer of a command, or what a fault makes of it."""
        self._tasks -= 1
        if self._gone:
            return
        if fault is None or fault.kind not in (*ON_ANSWER, "disconnect"):
            if answer:
                self._out.put(answer)
        else:
            self._insides.tally.faults[fault.kind] += 1
            if fault.kind == "disconnect":
                self.drop()
                return
            for hold, part in spoil_answer(fault, answer, self._insides.faults.settings):
                self._out.put(part, hold)
        self._weigh()

    def _take(self, data: bytes) -> None:
        """Gives the conversation what has arrived, and carries out what it completes."""
        self._insides.tally.bytes_in += len(data)
        self._heard = self._loop.time()
        if self._silence is None:
            self._silence = self._loop.call_later(self._insides.silence, self._listen)
        data = self._spoiled(data)
        try:
            for task in self._conversation.receive(data):
                if self._gone:
                    break
                self._begin(task)
        except Exception as problem:
            self.fail("what it sent", problem)

    def _spoiled(self, data: bytes) -> bytes:
        """Draws the fault of the message that begins here, and does what befalls it on its way to the board."""
        faults = self._insides.faults
        if self._drawn or faults.idle:
            return data
        self._fault, self._drawn = faults.next(), True
        if self._fault is None or self._fault.kind not in ON_REQUEST:
            return data
        data = spoil_request(self._fault, data)
        self._insides.tally.faults[self._fault.kind] += 1
        self._fault = None
        return data

    def _begin(self, task: Task) -> None:
        """Takes a command that has arrived whole."""
        fault = self._fault if self._drawn else self._insides.faults.next()
        self._fault, self._drawn = None, False
        self._insides.tally.commands += 1
        if fault is not None and fault.kind in ("lost_request", "flipped_request"):  # flipped among others: lost
            self._insides.tally.faults["lost_request"] += 1
            return
        self._tasks += 1
        self._insides.turns.take(Job(self, task.work, fault), task.urgent)

    def _leave(self, data: bytes) -> None:
        self._insides.tally.bytes_out += len(data)
        self._port.write(data)

    def _weigh(self) -> None:
        """Leaves bytes on the line while too much waits; drops a client that takes nothing at all."""
        if self._gone:
            return
        port = self._port
        held = port.full or self._tasks > MOST_TASKS or self._in.waiting > MOST_IN or self._out.waiting > MOST_OUT
        if held != self._held:
            self._held = held
            port.hold(held)
        if held and self._out.waiting + port.unsent() > TOO_MUCH:
            self.fail("its answers", OverflowError("it does not read them"))

    def _listen(self) -> None:
        """Forgets half a message after a silence that is the client's own."""
        self._silence = None
        wait = self._heard + self._insides.silence - self._loop.time()
        if self._held or self._in.waiting:
            wait = self._insides.silence
        if wait > 0:
            self._silence = self._loop.call_later(wait, self._listen)
            return
        self._drawn, self._fault = False, None
        try:
            self._conversation.silent()
        except Exception as problem:
            self.fail("a silence", problem)
