"""Meeting a framed board: who it is, before anything else is sent, and what it says it can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hil.contract import Identity, SafeReport
from hil.errors import HilError, WireError
from instruments.framed.frame import Opcode
from instruments.framed.messages import decoded_json, decoded_safe
from instruments.framed.requests import Patience, Requests
from instruments.links.link import Link
from instruments.links.showing import shown
from instruments.session import Session

WIRE_VERSION = 1
RETRY = 0.02
"""s between two tries to open a line that broke."""
_MOST = 100


def identify(session: Session, patience: Patience | None = None) -> Identity:
    """Asks a board who it is; what an earlier program left on the line is thrown away first.

    Raises:
        LinkTimeout: nobody answers in this wire protocol.
        WireError: the answer is no identity, or of another version of the wire protocol.
    """
    session.drain()
    requests = Requests(session, patience)
    plain = requests.decoded(decoded_json, requests.ask(Opcode.IDENTIFY, what="identity"))
    names = ("vendor", "model", "serial", "firmware", "name")
    texts = {name: plain.get(name, "") for name in names}
    wrong = next((name for name, text in texts.items() if not _plausible(text)), None)
    if wrong is not None:
        raise WireError(session.url, f"its identity holds no usable {wrong}: {shown(repr(texts[wrong]))}")
    if plain.get("wire") != WIRE_VERSION:
        seen = shown(repr(plain.get("wire")))
        raise WireError(
            session.url, f"it speaks version {seen} of the wire protocol, this program version {WIRE_VERSION}"
        )
    if not texts["serial"]:
        raise WireError(session.url, "it has no serial number, so its wear could not be kept")
    return Identity(**texts)


def meet_again(session: Session, reopen: Callable[[], Link], wanted: Identity, patience: Patience) -> None:
    """Opens a line that broke, and makes sure that the same board is there; otherwise the line stays broken.

    Args:
        session: goes on over the fresh line.
        reopen: opens the line; tried again until the patience's time-out has passed.
        wanted: the board that was there before.
        patience: how long to wait.

    Raises:
        LinkLost: it cannot be opened.
        LinkTimeout: nobody answers in this wire protocol.
        WireError: another board answers.
    """
    session.use(_opened(reopen, time.monotonic() + patience.timeout))
    try:
        found = identify(session, patience)
        if (found.vendor, found.model, found.serial) != (wanted.vendor, wanted.model, wanted.serial):
            seen = f"{found.vendor} {found.model} {found.serial}"
            raise WireError(session.url, f"the line came back with another board ({seen})")
    except HilError:
        session.link.close()  # nobody may take what is there for the board
        raise


def _opened(reopen: Callable[[], Link], until: float) -> Link:
    while True:
        try:
            return reopen()
        except HilError:
            if time.monotonic() >= until:
                raise
            time.sleep(RETRY)


def describe(session: Session, patience: Patience | None = None) -> dict[str, Any]:
    """Asks a board what it is: ``spec`` and maybe ``simulator`` of a board file, as plain values, as good as the board.

    Raises:
        LinkTimeout: it does not answer.
        WireError: the answer is no mapping.
    """
    requests = Requests(session, patience)
    return requests.decoded(decoded_json, requests.ask(Opcode.DESCRIBE, what="description"))


def command_safe(session: Session, patience: Patience | None = None) -> SafeReport:
    """Makes a board safe without owning it, and reads its outputs back.

    Raises:
        LinkTimeout: it does not answer.
        WireError: the answer makes no sense.
    """
    return made_safe(Requests(session, patience))


def made_safe(requests: Requests, tries: int | None = None) -> SafeReport:
    """Sends the safe command, then reads the outputs back; see ``command_safe``."""
    decode, ask = requests.decoded, requests.ask
    commanded = decode(decoded_safe, ask(Opcode.SAFE, what="safe state", tries=tries))
    seen = decode(decoded_safe, ask(Opcode.OUTPUTS, what="state of the outputs", tries=tries))
    return seen if commanded.confirmed else SafeReport(seen.outputs, confirmed=False)


def _plausible(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _MOST and text.isprintable()
