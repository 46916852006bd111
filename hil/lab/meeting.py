"""Finding boards and meeting them: what a technician asks first when a cable is in."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from hil.errors import HilError, LinkTimeout, WireError

SERIAL_HINT = "serial port"
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a board may be.

    Args:
        url: how to reach it.
        about: what the system says about it.
    """

    url: str
    about: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """What came of asking a board who it is.

    Args:
        url: where it was asked.
        speaks: the wire protocol it answered in; empty when none did.
        identity: vendor, model, serial and firmware as far as they are known.
        tried: one line for each way it was asked: what was sent, and what came back in hex.
    """

    url: str
    speaks: str
    identity: dict[str, str] = field(default_factory=dict[str, str])
    tried: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"url": self.url, "speaks": self.speaks, "identity": self.identity, "tried": list(self.tried)}

    def lines(self) -> list[str]:
        """For people."""
        head = f"{self.url}: speaks {self.speaks}" if self.speaks else f"{self.url}: nobody answered in a known way"
        facts = [f"  {name:<10}{text}" for name, text in self.identity.items() if text]
        return [head, *facts, *(f"  tried     {line}" for line in self.tried)]


def places() -> list[Place]:
    """Serial ports and VISA resources of this machine; nothing is opened."""
    from serial.tools.list_ports import comports

    from instruments.links.visa_resources import listed

    found = [Place(f"serial://{port.device}", port.description or SERIAL_HINT) for port in comports()]
    return found + [Place(f"visa://{name}", "VISA resource") for name in listed() if not name.startswith("ASRL")]


def description(url: str) -> str:
    """What a board says it is, as the text of a board file."""
    from hil.lab import config
    from hil.lab.opening import read_board

    return config.dump(read_board(url).plain)


def meet(url: str) -> Meeting:
    """Asks a board who it is, first in frames, then by ``*IDN?`` with each usual end of line.

    Nothing but identity queries is sent.

    Raises:
        LinkLost: there is nobody to ask.
        BoardInUse: another program holds the line.
    """
    from instruments.framed.introduction import identify
    from instruments.framed.requests import Patience
    from instruments.links.opening import open_link
    from instruments.ownership import device_lock
    from instruments.session import Session

    tried: list[str] = []
    with device_lock(url, "hil boards") or nullcontext():
        session = Session(open_link(url))
        try:
            try:
                found = identify(session, Patience(timeout=0.5, tries=2))
            except (LinkTimeout, WireError) as error:
                tried.append(f"frame IDENTIFY: {error}")
            else:
                names = ("name", "vendor", "model", "serial", "firmware")
                return Meeting(url, "the framed wire protocol", {n: getattr(found, n) for n in names})
            return _by_text(url, session, tried)
        finally:
            session.close()


def _by_text(url: str, session: Any, tried: list[str]) -> Meeting:
    for name, end in (("LF", b"\n"), ("CR LF", b"\r\n"), ("CR", b"\r")):
        session.drain(0.05)
        session.clean()
        try:
            session.write(b"*IDN?" + end, 0.5)
            answer: bytes = session.line(end[-1:], 0.5)
        except HilError as error:
            tried.append(f"*IDN? {name}: {error}")
            continue
        tried.append(f"*IDN? {name}: {answer[:_SHOWN].hex(' ')}")
        parts = [part.strip() for part in answer.decode("ascii", "replace").split(",")]
        if len(parts) == 4 and all(part.isprintable() for part in parts):
            return Meeting(
                url, "SCPI", dict(zip(("vendor", "model", "serial", "firmware"), parts, strict=True)), (*tried,)
            )
    return Meeting(url, "", {}, (*tried,))
