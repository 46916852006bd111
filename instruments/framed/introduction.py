"""Meeting a framed board: who it is, before anything else is sent, and what it says it can do."""

from __future__ import annotations

from typing import Any

from hil.contract import Identity, SafeReport
from hil.errors import WireError
from instruments.framed.frame import Opcode
from instruments.framed.messages import decoded_json, decoded_safe
from instruments.framed.requests import Patience, Requests, printable
from instruments.session import Session

WIRE_VERSION = 1
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
        raise WireError(session.url, f"its identity holds no usable {wrong}: {printable(repr(texts[wrong]))}")
    if plain.get("wire") != WIRE_VERSION:
        seen = printable(repr(plain.get("wire")))
        raise WireError(
            session.url, f"it speaks version {seen} of the wire protocol, this program version {WIRE_VERSION}"
        )
    if not texts["serial"]:
        raise WireError(session.url, "it has no serial number, so its wear could not be kept")
    return Identity(**texts)


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
    requests = Requests(session, patience)
    requests.decoded(decoded_safe, requests.ask(Opcode.SAFE, what="safe state"))
    return requests.decoded(decoded_safe, requests.ask(Opcode.OUTPUTS, what="state of the outputs"))


def _plausible(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _MOST and text.isprintable()
