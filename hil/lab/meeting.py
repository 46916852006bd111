"""Finding boards and meeting them: what a technician asks first when a cable is in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hil.errors import HilError, LinkLost, LinkTimeout, WireError

if TYPE_CHECKING:
    from instruments.session import Session

SERIAL_HINT = "serial port"
PATIENCE = 0.4
"""s that each way of asking waits for its answer."""
SERIAL_ADVICE = (
    "a serial line needs the baud rate and the parity of its board, e.g. ?baud=921600&parity=E for an ArC ONE"
)
_SHOWN = 48
_QUIET = 0.02


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
        tried: one line for each way it was asked: what was sent, and what came back, escaped and in hex.
        advice: what to do where nobody answered; empty when there is nothing to say.
    """

    url: str
    speaks: str
    identity: dict[str, str] = field(default_factory=dict[str, str])
    tried: tuple[str, ...] = ()
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "url": self.url,
            "speaks": self.speaks,
            "identity": self.identity,
            "tried": list(self.tried),
            "advice": self.advice,
        }

    def lines(self) -> list[str]:
        """For people."""
        head = f"{self.url}: speaks {self.speaks}" if self.speaks else f"{self.url}: nobody answered in a known way"
        facts = [f"  {name:<10}{text}" for name, text in self.identity.items() if text]
        advice = [f"  advice    {self.advice}"] if self.advice else []
        return [head, *facts, *(f"  tried     {line}" for line in self.tried), *advice]


def places() -> list[Place]:
    """Serial ports and VISA resources of this machine; nothing is opened."""
    from serial.tools.list_ports import comports

    from instruments.links.visa_resources import listed

    found = [Place(f"serial://{port.device}", _about(port.description)) for port in comports()]
    return found + [Place(f"visa://{name}", "VISA resource") for name in listed() if not name.startswith("ASRL")]


def _about(description: str | None) -> str:
    """What the system says about a port: a text that its device chose, or "n/a" where there is none."""
    from instruments.links.showing import shown

    return SERIAL_HINT if description in (None, "", "n/a") else shown(description, 80)


def description(url: str) -> dict[str, Any]:
    """What a board says it is, as the plain content of a board file.

    Raises:
        LinkTimeout: nobody answers in the framed wire protocol, the only one in which boards describe themselves.
    """
    from hil.lab.opening import read_board

    try:
        return read_board(url).plain
    except LinkTimeout as error:
        error.add_note("only boards of the framed wire protocol describe themselves; write a board file for others")
        raise


def meet(url: str) -> Meeting:
    """Asks a board who it is in each known way; nothing but identity queries is sent.

    An ArC ONE is asked first where there may be one, since any other text puts it out of step until it is reset.

    Raises:
        LinkLost: there is nobody to ask.
        BoardInUse: another program holds the line.
        ConfigError: the address is none.
    """
    from instruments.links.url import SerialAddress, TcpAddress, parse
    from instruments.ownership import device_lock

    address = parse(url)
    is_serial = isinstance(address, SerialAddress) or getattr(address, "framing", None) is not None
    ways = [_text_way(*_ENDS[0]), _Way("frame IDENTIFY", _by_frame), *(_text_way(*end) for end in _ENDS[1:])]
    if is_serial or isinstance(address, TcpAddress):
        ways.insert(0, _Way("ArC ONE firmware", _by_job))
    tried: list[str] = []
    with device_lock(url, "hil boards") or nullcontext(), closing(_Line(url)) as line:
        for way in ways:
            meeting = line.ask(way, tried)
            if meeting is not None:
                return meeting
    return Meeting(url, "", {}, tuple(tried), SERIAL_ADVICE if is_serial else "")


_Found = tuple[str, dict[str, str]]
"""The wire protocol and the identity."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of asking: its name, and what asks over a session, gives what was found, or raises ``HilError``."""

    name: str
    ask: Callable[[Session], _Found]


class _Line:
    """A line to whoever it may be: all bytes are seen, and it is opened anew where the other end hangs up."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sent, self._got = bytearray(), bytearray()
        self._session: Session | None = None
        self._opened()

    def _opened(self) -> Session:
        from instruments.links.opening import open_link
        from instruments.session import Session

        if self._session is None:
            self._session = Session(open_link(self._url), tap=self._tap)
        return self._session

    def _tap(self, way: str, data: bytes) -> None:
        (self._sent if way == "sent" else self._got).extend(data)

    def ask(self, way: _Way, tried: list[str]) -> Meeting | None:
        """Asks in one way; a line about it joins those tried."""
        session = self._opened()
        session.drain(_QUIET)
        session.clean()
        self._sent.clear()
        self._got.clear()
        found, problem = None, ""
        try:
            found = way.ask(session)
        except LinkLost as error:
            problem = f"{error.problem}; "
            self.close()
        except LinkTimeout:
            problem = "no whole answer; " if self._got else ""
        except HilError as error:
            problem = f"{getattr(error, 'problem', error)}; "
        tried.append(f"{way.name}: sent {_seen(self._sent)}; {problem}{_back(self._got)}")
        return None if found is None else Meeting(self._url, *found, tuple(tried))

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _by_job(session: Session) -> _Found:
    from instruments.arcone import tokens

    session.write(tokens.firmware().data, PATIENCE)
    raw = session.exactly(4, PATIENCE, "firmware version")
    seen = tokens.version(raw)
    if session.drain(_QUIET) or max(int(part) for part in seen.split(".")) >= _UNLIKELY:
        raise WireError(session.url, "this is no firmware version")
    return "the jobs of an ArC ONE", {"vendor": "ArC Instruments", "model": "ArC ONE", "firmware": seen}


def _by_frame(session: Session) -> _Found:
    from instruments.framed.introduction import identify
    from instruments.framed.requests import Patience

    found = identify(session, Patience(timeout=PATIENCE / 2, tries=2))
    names = ("name", "vendor", "model", "serial", "firmware")
    return "the framed wire protocol", {name: getattr(found, name) for name in names}


def _text_way(name: str, end: bytes) -> _Way:
    def ask(session: Session) -> _Found:
        from instruments.scpi.identity import LONGEST, InstrumentIdentity

        session.write(b"*IDN?" + end, PATIENCE)
        line = session.line(end[-1:], PATIENCE, most=LONGEST + 1)
        try:
            return "SCPI", asdict(InstrumentIdentity.parse(line.decode("latin-1").rstrip("\r")))
        except ValueError:  # it quotes the answer, which is shown as it came
            raise WireError(session.url, "this is not vendor, model, serial number and firmware") from None

    return _Way(f"*IDN? {name}", ask)


_ENDS = (("LF", b"\n"), ("CR LF", b"\r\n"), ("CR", b"\r"))
_UNLIKELY = 1000
"""Version numbers from here on are text or noise, not a version of an ArC ONE."""


def _seen(data: bytearray) -> str:
    """Bytes as hex, cut."""
    rest = len(data) - _SHOWN
    return data[:_SHOWN].hex(" ") + (f" ... ({rest} more)" if rest > 0 else "")


def _back(data: bytearray) -> str:
    """What came back: as text that cannot harm a terminal, and as hex."""
    from instruments.links.showing import shown

    return f"came {_seen(data)} ('{shown(data, _SHOWN)}')" if data else "nothing came"
