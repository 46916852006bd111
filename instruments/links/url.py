"""Addresses of boards: one line of text that says which link to open, and how.

``tcp://host:port``, ``serial:///dev/ttyACM0?baud=921600&parity=E``, ``serial://COM3``,
``visa://TCPIP::127.0.0.1::5025::SOCKET``, ``visa://ASRL/dev/ttyUSB0::INSTR?baud=9600&backend=@py``, ``replay:path``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from hil.errors import ConfigError
from instruments.links.showing import shown

LONGEST = 1024
"""Characters of the longest address that is looked at."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How bits go over a serial line.

    Args:
        baud: bits per second.
        bits: data bits of a character, 5 to 8.
        parity: ``N`` none, ``E`` even, ``O`` odd, ``M`` mark or ``S`` space.
        stop: stop bits: 1, 1.5 or 2.
    """

    baud: int = 115200
    bits: int = 8
    parity: str = "N"
    stop: float = 1.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes that the line carries: a byte takes a start bit, its data, its parity and its stop bits."""
        return self.baud / (1 + self.bits + (self.parity != "N") + self.stop)

    def __str__(self) -> str:
        return f"{self.baud} baud {self.bits}{self.parity}{self.stop:g}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A board that listens on a TCP port."""

    url: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """A board on a serial port; ``device`` is a path or a name such as ``COM3``."""

    url: str
    device: str
    framing: Framing


@dataclass(frozen=True, slots=True)
class VisaAddress:
    """A board behind VISA.

    Args:
        url: as written.
        resource: name of the VISA resource.
        backend: which VISA library, as PyVISA spells it: ``@py``, ``@ivi``, ``@sim``, each with a path before it.
        framing: of the serial line; None for a resource that is none.
    """

    url: str
    resource: str
    backend: str
    framing: Framing | None

    @property
    def device(self) -> str | None:
        """The serial device behind an ASRL resource, named as a ``serial://`` address names it."""
        if self.framing is None:
            return None
        board = re.sub(r"(?i)^ASRL|::INSTR$", "", self.resource)
        return f"COM{board}" if board.isdigit() else board


@dataclass(frozen=True, slots=True)
class ReplayAddress:
    """A transcript that plays the board."""

    url: str
    path: str


Address = TcpAddress | SerialAddress | VisaAddress | ReplayAddress

SCHEMES = {"tcp": "tcp://host:port", "serial": "serial://device", "visa": "visa://resource", "replay": "replay:path"}
FRAMING = ("baud", "bits", "parity", "stop")


def parse(url: str) -> Address:
    """Reads an address.

    Raises:
        ConfigError: it is none; the message names the part that is wrong and what is allowed there.
    """
    if len(url) > LONGEST:
        raise _wrong(url, "url", f"has {len(url)} characters, more than the {LONGEST} of the longest address")
    if not url.isprintable():
        raise _wrong(url, "url", "holds control characters")
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in SCHEMES:
        raise _wrong(url, "scheme", f"no such kind of link; there are {', '.join(SCHEMES.values())}", scheme, SCHEMES)
    if scheme == "replay":
        if not rest:
            raise _wrong(url, "path", "a transcript is named behind the colon, replay:path")
        return ReplayAddress(url, rest)
    if not rest.startswith("//"):
        raise _wrong(url, "scheme", f"two slashes follow the colon: {SCHEMES[scheme]}")
    place, _, query = rest[2:].partition("?")
    options = _options(url, query, {"tcp": (), "serial": FRAMING, "visa": (*FRAMING, "backend")}[scheme])
    if scheme == "tcp":
        return _tcp(url, place)
    if scheme == "serial":
        if not place.strip("/"):
            raise _wrong(url, "device", "a device is missing, e.g. serial:///dev/ttyACM0 or serial://COM3")
        return SerialAddress(url, unquote(place), _framing(url, options))
    return _visa(url, place, options)


def bytes_per_second(address: Address) -> float | None:
    """What a link carries, B/s; None where that is no bound.

    A pseudo-terminal has no pace of its own, so there only a written ``baud`` counts.
    """
    framing = getattr(address, "framing", None)
    if framing is None or ("/pts/" in address.url and "baud=" not in address.url):
        return None
    return framing.bytes_per_second


def _tcp(url: str, place: str) -> TcpAddress:
    found = re.fullmatch(
        r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>[^:/]*)", place.rstrip("/")
    )
    if found is None:
        problem = "host and port are wanted, e.g. tcp://192.168.1.20:5025; IPv6 in brackets, tcp://[::1]:5025"
        raise _wrong(url, "host", problem)
    return TcpAddress(url, found["six"] or found["host"], _port(url, found["port"]))


def _visa(url: str, place: str, options: Mapping[str, str]) -> VisaAddress:
    if not re.match(r"(?i)(ASRL|TCPIP|USB|GPIB|PXI|VXI|PRLGX)", place):
        problem = "a VISA resource is wanted, e.g. TCPIP::192.168.1.20::5025::SOCKET, USB0::...::INSTR or ASRL3::INSTR"
        raise _wrong(url, "resource", problem)
    backend = options.get("backend", "@py")
    if "@" not in backend:
        raise _wrong(url, "backend", f"{shown(backend)!r} names no VISA library; write @py, @ivi or @sim")
    if place.upper().endswith("::SOCKET"):
        _port(url, place.split("::")[-2])
    serial = place.upper().startswith("ASRL")
    for name in () if serial else FRAMING:
        if name in options:
            raise _wrong(url, name, "only a serial resource (ASRL...) has it")
    return VisaAddress(url, place, backend, _framing(url, options) if serial else None)


def _port(url: str, text: str) -> int:
    port = _number(url, "port", text)
    if not 1 <= port <= 65535:
        raise _wrong(url, "port", f"{port} is none; ports go from 1 to 65535")
    return port


def _framing(url: str, options: Mapping[str, str]) -> Framing:
    baud = _number(url, "baud", options.get("baud", "115200"))
    if not 50 <= baud <= 20_000_000:
        raise _wrong(url, "baud", f"{baud} is out of range; 50 to 20000000 bits per second")
    bits = _choice(url, "bits", options.get("bits", "8"), ("5", "6", "7", "8"))
    parity = _choice(url, "parity", options.get("parity", "N").upper()[:99], ("N", "E", "O", "M", "S"))
    stop = _choice(url, "stop", options.get("stop", "1"), ("1", "1.5", "2"))
    return Framing(baud, int(bits), parity, float(stop))


def _number(url: str, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):  # int() would take " 1_0" and digits of other scripts
        raise _wrong(url, key, f"{shown(text, 30)!r} is no whole number")
    return int(text)


def _choice(url: str, key: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise _wrong(url, key, f"{shown(text, 30)!r} is not one of {', '.join(allowed)}")
    return text


def _options(url: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise _wrong(url, "option", f"{shown(name, 30)!r} is no option of this link; {there}", name, known)
        if not equals or not value:
            raise _wrong(url, name, f"a value is missing, {name}=...")
        if name in options:
            raise _wrong(url, name, "is given twice")
        options[name] = unquote(value)
    return options


def _wrong(
    url: str, key: str, problem: str, name: str = "", known: tuple[str, ...] | Mapping[str, str] = ()
) -> ConfigError:
    near = difflib.get_close_matches(name[:30], list(known), 1)
    return ConfigError.at(shown(url), key, problem, near[0] if near else None)
