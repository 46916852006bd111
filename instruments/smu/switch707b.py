"""The Keithley 707B switch matrix, speaking TSP."""

from __future__ import annotations

from collections.abc import Sequence

from hil.errors import WireError
from instruments.scpi.identity import ExpectedInstrument
from instruments.scpi.text import Quoted, told
from instruments.smu.channels import channel
from instruments.smu.tsp import TspClient, assignment, call

_AT_ONCE = 24
"""Channels in one statement, so that lines stay short."""
_OPEN_ALL = call("channel.exclusiveclose", Quoted(""))


class Switch707B:
    """Plays ``SwitchMatrix``.

    Args:
        client: the line to it, over any link.
        forbidden: channels that must never be closed; the instrument itself refuses them.
        serial: the serial number it must have; empty for any.
    """

    def __init__(self, client: TspClient, *, forbidden: Sequence[str] = (), serial: str = "") -> None:
        self._client = client
        self._forbidden = tuple(channel(name) for name in forbidden)
        self._expected = ExpectedInstrument(vendor="KEITHLEY", model="707B", serial=serial)

    def identify(self) -> str:
        """See ``SwitchMatrix``."""
        return str(self._client.identify(self._expected))

    def prepare(self) -> None:
        """See ``SwitchMatrix``; relays break before they make.

        Raises:
            InstrumentErrors: it refused a part of the set-up.
            WireError: a relay reads back as closed.
        """
        run = self._client.run
        run(assignment("localnode.prompts", 0))
        run(assignment("localnode.showerrors", 0))
        run(call("errorqueue.clear"))
        run(_OPEN_ALL)
        run(assignment("channel.connectrule", "channel.BREAK_BEFORE_MAKE"))
        for first in range(0, len(self._forbidden), _AT_ONCE):
            run(call("channel.setforbidden", Quoted(",".join(self._forbidden[first : first + _AT_ONCE]))))
        self._client.check("the set-up")
        self._verify(set())

    def connect(self, channels: Sequence[str]) -> None:
        """See ``SwitchMatrix``.

        Raises:
            InstrumentErrors: it refused; nothing moved.
            WireError: other relays read back as closed.
        """
        wanted = [channel(name) for name in channels]
        self._client.run(call("channel.exclusiveclose", Quoted(",".join(wanted))))
        self._client.check(f"closing {', '.join(wanted)}")
        self._verify(set(wanted))

    def off(self) -> None:
        """See ``SwitchMatrix``."""
        self._client.run_only(_OPEN_ALL)

    def is_off(self) -> bool:
        """See ``SwitchMatrix``."""
        return not self._closed()

    def close(self) -> None:
        """See ``SwitchMatrix``."""
        self._client.close()

    def _verify(self, wanted: set[str]) -> None:
        closed = self._closed()
        if closed != wanted:
            expected, got = ", ".join(sorted(wanted)) or "none", ", ".join(sorted(closed)) or "none"
            raise WireError(self._client.lines.session.url, f"closed channels: expected {expected}, got {got}")

    def _closed(self) -> set[str]:
        answer = self._client.value(call("channel.getclose", Quoted("allslots")))
        if answer == "nil":
            return set()
        try:
            return {channel(name.strip()) for name in answer.replace(";", ",").split(",")}
        except ValueError:
            raise self._client.lines.wrong(f"expected a list of channels or nil, got {told(answer)}") from None
