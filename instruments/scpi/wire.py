"""What crosses the line of a crossbar board that speaks SCPI: text for people, frames inside blocks for work.

``:CROSsbar:FRAMe? <block>`` carries one frame of the framed wire protocol and is answered by a block with one frame. So
sequence numbers, tokens, checks and statuses are those of the frames (``docs/reference/scpi.md``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from hil.contract import BoardSpec, SafeReport
from instruments.links.showing import shown
from instruments.scpi.identity import ExpectedInstrument, InstrumentIdentity
from instruments.scpi.lines import END
from instruments.scpi.text import Block, command, told
from instruments.session import Session

FRAME, SAFE, OUTPUTS = ":CROS:FRAM?", ":CROS:SAFE", ":OUTP:STAT?"
_WORDS = {"off": "OFF", "on": "ON", "unreadable": "UNR"}
_STATES = {word: state for state, word in _WORDS.items()}


def wrapped(frame: bytes) -> bytes:
    """The message that carries a frame."""
    return command(FRAME, Block(frame)) + END


class FrameLink:
    """A link for frames over a line that speaks SCPI.

    What comes back is given as it is: whoever looks for frames skips what is around them, and what was damaged.

    Args:
        session: the line, which the link owns.
    """

    def __init__(self, session: Session) -> None:
        self.url = session.url
        self._session = session

    def write(self, data: bytes, until: float) -> None:
        """Sends one frame, in a message of its own; see ``Link``."""
        self._session.write(wrapped(data), until - time.monotonic())

    def read(self, wanted: int, until: float) -> bytes:
        """See ``Link``."""
        return self._session.some(wanted, until)

    def drain(self, quiet: float = 0.0) -> int:
        """See ``Link``."""
        return self._session.drain(quiet)

    def close(self) -> None:
        """See ``Link``."""
        self._session.close()


# -- identity ----------------------------------------------------------------------------------------------------------


def idn_field(text: str) -> str:
    """A text as a field of ``*IDN?``, which holds plain characters and no comma."""
    return shown(text.encode()).replace(",", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedBoard(ExpectedInstrument):
    """The board of a spec: vendor, model and serial number to the letter, and the firmware where it is given."""

    @classmethod
    def of(cls, spec: BoardSpec) -> ExpectedBoard:
        """The board that a spec is about."""
        who = spec.identity
        fields = {name: idn_field(getattr(who, name)) for name in ("vendor", "model", "serial", "firmware")}
        return cls(**fields)

    def refusal(self, found: InstrumentIdentity) -> str:
        """Why a found board is not the one meant; an empty text when it is."""
        for name in ("vendor", "model", "serial", "firmware"):
            wanted, seen = getattr(self, name), getattr(found, name)
            if seen != wanted and (wanted or name != "firmware"):
                return f"the board that answers has the {name} {told(seen)}, expected {told(wanted)}"
        return ""


# -- outputs -----------------------------------------------------------------------------------------------------------


def written_outputs(report: SafeReport) -> str:
    """The answer to ``:OUTPut:STATe?``: ``rows,OFF,cols,ON``."""
    return ",".join(f"{idn_field(name)},{_WORDS[state]}" for name, state in report.outputs.items())


def read_outputs(line: str) -> SafeReport:
    """Reads an answer to ``:OUTPut:STATe?``; a word that is not known means that an output is not known.

    Raises:
        ValueError: it is none.
    """
    parts = [part.strip() for part in line.split(",")]
    if len(parts) % 2 or not all(parts):
        raise ValueError(f"expected outputs and their states, got {told(line)}")
    outputs = {name: _STATES.get(word, "unreadable") for name, word in zip(parts[::2], parts[1::2], strict=True)}
    return SafeReport(outputs, confirmed=set(outputs.values()) == {"off"})
