"""Quantities with units: SI numbers inside, engineering units in files and on screen.

``Volts`` and its sisters are plain floats to Python. Their annotation tells the configuration loader which unit the
value of a key must carry, so that ``read_cell_volts: 0.3 V`` is read and ``300`` or ``0.3 A`` is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

_POWERS = {
    "f": -15, "p": -12, "n": -9, "u": -6, "\u00b5": -6, "\u03bc": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9,
}  # fmt: skip
_OTHER_SCALES = {("s", "min"): (60.0, 0), ("s", "h"): (3600.0, 0), ("", "%"): (1.0, -2)}
_OHM_SIGNS = str.maketrans({"Ω": "ohm", "\u2126": "ohm"})
_QUANTITY = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]+))?\s*([^\s0-9].*?)?\s*")
_LONGEST = 64
_SHOWN = [
    (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"),
]  # fmt: skip


def parse(text: str, unit: str) -> float:
    """Reads a quantity such as ``"0.3 V"`` or ``"85 µA"`` into SI units.

    Args:
        text: the number and its unit.
        unit: the SI unit expected: V, A, S, s, ohm, B/s, J, Hz.

    Raises:
        ValueError: no number, no unit, another unit, or a value that is not finite. The text says what to write.
    """
    example = f"write a number and its unit, like 0.3 {unit}"
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity; {example}")
    number, exponent, found = match[1], int(match[2] or 0), match[3] or ""
    if unit and not found:
        raise ValueError(f"{text!r} has no unit; {example}")
    scale = _scale(found, unit)
    if scale is None:
        raise ValueError(f"{text!r} has the unit {found!r}, expected {unit}; {example}")
    factor, power = scale
    value = float(f"{number}e{exponent + power}") * factor  # rounded once: 100 uA is the float nearest to 1e-4
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _scale(found: str, unit: str) -> tuple[float, int] | None:
    """Gives the factor and the power of ten that a written unit stands for."""
    if (unit, found) in _OTHER_SCALES:
        return _OTHER_SCALES[unit, found]
    prefix = found.translate(_OHM_SIGNS).removesuffix(unit)
    if not found.translate(_OHM_SIGNS).endswith(unit) or prefix not in _POWERS:
        return None
    return 1.0, _POWERS[prefix]


def engineering(value: float, unit: str) -> str:
    """Writes an SI value in engineering units with at most four digits: ``0.0003, "A"`` becomes ``300 µA``."""
    if not unit or not math.isfinite(value) or value == 0:
        return f"{value:.6g} {unit}".rstrip()
    scale, prefix = next((pair for pair in _SHOWN if abs(value) >= 0.99995 * pair[0]), _SHOWN[-1])
    return f"{value / scale:.4g} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Writes a lab time for people: ``75.2 s``, ``12.5 min``, ``36.1 h``."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Unit:
    """The annotation of a quantity: the SI unit that its value must carry in a file."""

    symbol: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Tells pydantic to read text with a unit; called only by the configuration loader."""
        from pydantic_core import core_schema

        def read(value: object) -> float:
            if isinstance(value, str):
                return parse(value, self.symbol)
            raise ValueError(f"{value!r} has no unit; write a number and its unit, like 0.3 {self.symbol}")

        names = [self.symbol, *(name for unit, name in _OTHER_SCALES if unit == self.symbol)]
        pattern = rf"^[+-]?[0-9.]+([eE][+-]?[0-9]+)? ?\S?({'|'.join(names)})$"
        return core_schema.no_info_plain_validator_function(
            read, json_schema_input_schema=core_schema.str_schema(pattern=pattern)
        )


Volts = Annotated[float, Unit("V")]
Amps = Annotated[float, Unit("A")]
Siemens = Annotated[float, Unit("S")]
Seconds = Annotated[float, Unit("s")]
Ohms = Annotated[float, Unit("ohm")]
BytesPerSecond = Annotated[float, Unit("B/s")]
Hertz = Annotated[float, Unit("Hz")]
