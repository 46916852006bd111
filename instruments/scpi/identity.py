"""Who an instrument says it is, and whether it is the one that is meant."""

from __future__ import annotations

from dataclasses import dataclass

from instruments.scpi.text import told

LONGEST = 255
"""Bytes of the longest identity that is looked at."""


@dataclass(frozen=True, slots=True)
class InstrumentIdentity:
    """The four fields of an answer to ``*IDN?``."""

    vendor: str
    model: str
    serial: str
    firmware: str

    @classmethod
    def parse(cls, line: str) -> InstrumentIdentity:
        """Reads an answer to ``*IDN?``; what follows the third comma is the firmware.

        Raises:
            ValueError: it has not four fields of plain text.
        """
        if not line.strip():
            raise ValueError("it says nothing about who it is")
        if len(line) > LONGEST:
            raise ValueError(f"its identity is longer than {LONGEST} characters: {told(line)}")
        fields = [field.strip() for field in line.split(",", 3)]
        if len(fields) != 4 or not all(fields[:3]) or not (line.isascii() and line.isprintable()):
            raise ValueError(f"its identity is not vendor, model, serial number and firmware: {told(line)}")
        return cls(*fields)

    def __str__(self) -> str:
        return f"{self.vendor}, {self.model}, serial {self.serial}, firmware {self.firmware or 'not told'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedInstrument:
    """Which instrument is meant.

    Args:
        vendor: what its vendor begins with; case does not matter.
        model: a word of its model, such as ``2450``; case does not matter.
        serial: its serial number; empty for any.
        firmware: what its firmware begins with; empty for any.
    """

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""

    def refusal(self, found: InstrumentIdentity) -> str:
        """Why a found instrument is not the one meant; an empty text when it is."""
        seen = told(str(found), 160)
        if not found.vendor.lower().startswith(self.vendor.lower()):
            return f"expected an instrument of {self.vendor}, found {seen}"
        if self.model.lower() not in found.model.lower().split():
            return f"expected a model {self.model}, found {seen}"
        if self.serial and found.serial != self.serial:
            return f"expected serial number {self.serial}, found {seen}"
        if not found.firmware.startswith(self.firmware):
            return f"expected firmware {self.firmware}, found {seen}"
        return ""
