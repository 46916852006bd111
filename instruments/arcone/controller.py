"""The controller of an ArC ONE as the driver knows it: its settings, its answers, and the way back into step."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.contract import Bias
from hil.errors import BoardMissing, LinkTimeout, WireError
from instruments.arcone import tokens
from instruments.arcone.config import ArcOneConfig
from instruments.arcone.tokens import Job
from instruments.session import Session

QUIET = 0.02
"""s of silence after which nothing more is thought to come."""
MASKED_AT_ONCE = 32
"""Cells of one masked read: an abort waits for no more than these."""
BURST = 2 * MASKED_AT_ONCE + 8
"""Resets in a row that end any job this driver may have left half-sent: more tokens than the longest of them has."""
_LIKELY = 1000
"""Version numbers from here on are text or noise, not a version."""

Pause = Callable[[float], None]
"""Waits for some seconds."""


class Controller:
    """Jobs to one board and their answers.

    The board has no tokens, no acknowledgements and no checksums. What is known of it is what was sent since its last
    initialisation.

    Args:
        session: the link.
        config: settings.
        size: word lines and bit lines of the array.
        volts: V, read voltage of the first initialisation.
        bias: what unselected lines do at first.
    """

    def __init__(
        self, session: Session, config: ArcOneConfig, size: tuple[int, int], *, volts: float, bias: Bias
    ) -> None:
        self.session, self._config = session, config
        self._words, self._bits = size
        self._volts, self._sneak = volts, tokens.SNEAK_PATHS[bias]
        self.firmware = ""
        self._is_half_sent = False

    def identify(self, wanted: str, board: str) -> None:
        """Makes sure of the board before anything else is sent.

        Args:
            wanted: firmware version such as ``"1.2"``; empty for any; ``"none"`` for old firmware, which is silent.
            board: its name, for messages.

        Raises:
            BoardMissing: it is another board, or none.
        """
        self.session.drain(QUIET)  # what a killed program left behind
        seen = self._version(1 if wanted == "none" else self._config.retries + 1, board)
        if wanted == "none" and seen:
            raise BoardMissing(board, f"it answers as firmware {seen}, and its board file says firmware: none")
        if wanted != "none" and not seen:
            problem = (
                "it gives no firmware version; look at power, cable and port, or write firmware: none for an old one"
            )
            raise BoardMissing(board, problem)
        if wanted not in ("", "none", seen):
            raise BoardMissing(board, f"it answers as firmware {seen}, and its board file says {wanted}")
        self.firmware = seen

    def _version(self, tries: int, board: str) -> str:
        for _ in range(tries):
            self.send(tokens.firmware())
            try:
                raw = self.session.exactly(4, self._deadline(tokens.firmware()), "firmware version")
            except LinkTimeout as error:
                if error.got:
                    self.session.drain(QUIET)
                continue
            more = self.session.drain(QUIET)
            seen = tokens.version(raw)
            if more or max(int(n) for n in seen.split(".")) >= _LIKELY:
                problem = f"it is no ArC ONE: 4 bytes of version were expected, {4 + more} came ({raw.hex(' ')} ...)"
                raise BoardMissing(board, problem)
            return seen
        return ""

    # -- in step ---------------------------------------------------------------------------------------------------

    def restart(self, pause: Pause) -> None:
        """Resets and initialises the board: the only way back into step, and the way to switch its lines off.

        The reset is sent first, whatever state the line is in. When the board does not come back it may have taken
        the reset for the rest of a half-sent job, so a burst of resets fills that up.

        Raises:
            LinkTimeout: it does not come back.
            WireError: it answers with something else.
        """
        self.session.dirty = True
        for times in (1, BURST):
            self.send(tokens.reset(times, ends_token=self._is_half_sent or times > 1))
            pause(self._config.reset_wait)
            self.session.drain()
            try:
                self._initialise()
            except (LinkTimeout, WireError):
                if times == BURST:
                    raise
                continue
            self.session.clean()
            return

    def _initialise(self) -> None:
        config, mode = self._config, tokens.mode_for(self._config.read_mode, self._volts)
        job = tokens.initialise(
            config.read_cycles, self._words, self._bits,
            mode=mode, session=tokens.SESSIONS[config.session], sneak=self._sneak, volts=self._volts,
        )  # fmt: skip
        self.send(job)
        line = self.session.line(b"\n", self._deadline(job), most=64, waited_for=job.name)
        if line != tokens.READY:
            raise WireError(self.session.url, f"the initialisation was answered by {ascii(line)[:60]}, expected '1'")
        self.send(tokens.set_read(mode, self._volts))

    def in_step(self, pause: Pause) -> None:
        """Brings the board back into step where that is needed; bytes that nobody asked for are a sign of it."""
        if self.session.dirty or self.session.drain():
            self.restart(pause)

    def verify(self) -> None:
        """Makes sure that it is still the same board that answers.

        Raises:
            LinkTimeout: it does not answer.
            WireError: it answers as another one.
        """
        if self.firmware and (seen := tokens.version(self._answer(tokens.firmware()))) != self.firmware:
            raise WireError(self.session.url, f"firmware {seen} answers where {self.firmware} was")

    # -- settings --------------------------------------------------------------------------------------------------

    def set_volts(self, volts: float) -> None:
        """Sets the read voltage, and the mode with its sign, where they change."""
        if volts != self._volts:
            self.send(tokens.set_read(tokens.mode_for(self._config.read_mode, volts), volts))
            self._volts = volts

    def set_sign(self, volts: float) -> None:
        """Sets the read mode for a job that brings its own read voltage, where the sign changes it."""
        mode = self._config.read_mode
        if tokens.mode_for(mode, volts) != tokens.mode_for(mode, self._volts):
            self.set_volts(volts)

    def set_bias(self, bias: Bias) -> None:
        """Sets what unselected lines do, where it changes."""
        sneak = tokens.SNEAK_PATHS[bias]
        if sneak != self._sneak:
            self.send(tokens.update(self._config.read_cycles, sneak))
            self._sneak = sneak

    # -- jobs ------------------------------------------------------------------------------------------------------

    def send(self, job: Job) -> None:
        """Sends a job whole."""
        self._is_half_sent = True
        self.session.write(job.data, self._deadline(job))
        self._is_half_sent = False

    def ask(self, job: Job) -> tuple[float, ...]:
        """Sends a job and gives the numbers of its answer.

        Raises:
            LinkTimeout: they did not come; the session is dirty.
        """
        return tokens.resistances(self._answer(job))

    def ask_masked(self, cells: list[tuple[int, int]]) -> list[float]:
        """Reads up to ``MASKED_AT_ONCE`` cells, given as (word, bit), in one job."""
        self.send(tokens.read_masked(self._words, self._bits, len(cells)))
        return [self.ask(tokens.pair(word, bit))[0] for word, bit in cells]

    def _answer(self, job: Job) -> bytes:
        self.send(job)
        return self.session.exactly(4 * job.floats, self._deadline(job), job.name)

    def _deadline(self, job: Job) -> float:
        """Seconds that a job may take: its bytes both ways, 11 bits each, its conversions, its pulse, and a margin."""
        config = self._config
        wire = (len(job.data) + 4 * job.floats) * 11 / config.baud
        return wire + job.floats * config.conversion + job.seconds + config.margin


def sleep(seconds: float) -> None:
    """A pause that nothing ends early."""
    time.sleep(seconds)
