"""Opens a link by its address."""

from __future__ import annotations

from instruments.links.link import Link
from instruments.links.recording import replayed
from instruments.links.serial_port import SerialLink
from instruments.links.tcp import TcpLink
from instruments.links.url import Address, ReplayAddress, SerialAddress, TcpAddress, parse
from instruments.links.visa import VisaLink


def open_link(url: str | Address) -> Link:
    """Opens a link; the caller closes it.

    Args:
        url: an address as text (see ``url``), or one that was read already.

    Raises:
        ConfigError: the address is none, or its transcript cannot be read.
        LinkLost: the other end cannot be reached.
    """
    address = parse(url) if isinstance(url, str) else url
    match address:
        case TcpAddress():
            return TcpLink(address)
        case SerialAddress():
            return SerialLink(address)
        case ReplayAddress():
            return replayed(address.path, address.url)
        case _:
            return VisaLink(address)
