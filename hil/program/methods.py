"""The methods of write-verify; the one that is used is the object passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hil.contract.bounds import above_zero, at_least_one
from hil.program.ramps import AnyRamp, GateRamp, VoltsRamp
from hil.program.verify import Verify
from hil.units import Amps, Siemens, Volts

_SHORT_SET = ("set_volts", "gate_low", "gate_high", "gate_step")
_SHORT_RESET = ("reset_low", "reset_high", "reset_step")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPulses(Verify):
    """Programs by usual pulses and reads in turn, as many pulses as the remaining error asks for.

    Args:
        rounds: most rounds of pulses.
        give_up: rounds without movement after which a cell counts as stuck.
        most: most pulses a cell gets in one round.
        damping: share of the estimated number of pulses that is sent.
    """

    kind: Literal["pulses"] = "pulses"
    rounds: int = 30
    give_up: int = 6
    most: int = 20
    damping: float = 0.7

    def __post_init__(self) -> None:
        Verify.__post_init__(self)
        above_zero(self, "damping")
        at_least_one(self, "most")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRamps(Verify):
    """Programs by SET ramps for cells below their window and RESET ramps for cells above it.

    SET by the gate with RESET by amplitude is IGVVA, both by amplitude is ISPVA (Perez et al.). Each direction takes a
    ramp (``set``, ``reset``); IGVVA can be written flat instead (``set_volts``, ``gate_*``, ``reset_*``). The rules
    that end a ramp early are those learned in labs; None switches one off.

    Args:
        rounds: most SET and RESET rounds.
        give_up: rounds in which a cell goes through a whole ramp without moving, after which it counts as stuck.
        set: ramp that raises conductances.
        reset: ramp that lowers them.
        set_volts: amplitude of the SET pulses of a gate ramp, when ``set`` is left out.
        gate_low: its first gate voltage.
        gate_high: its last gate voltage.
        gate_step: its step.
        reset_low: first amplitude of a RESET ramp, when ``reset`` is left out.
        reset_high: its last amplitude.
        reset_step: its step.
        jump: rise of the current in one step, or above the first reading, that ends a RESET ramp at once (8 uA:
            Daffodil's control library).
        rise: ``rises`` steps in a row that each rise by more than this end a RESET ramp.
        rises: see ``rise``.
        rise_after: (V, A): once the knob has passed the first, a single rise above the second ends a RESET ramp.
        slope: A/V over three steps of a SET ramp that is evidence of switching; the ramp then ends when the current is
            flat, and not at the window.
        flat: with evidence seen ``hits`` times, a step smaller than this ends the SET ramp.
        hits: see ``flat``.
        amps_max: current that ends any ramp; None for the board's limit of a cell.
    """

    kind: Literal["ramps"] = "ramps"
    rounds: int = 3
    give_up: int = 2
    set: GateRamp | VoltsRamp | None = None
    reset: GateRamp | VoltsRamp | None = None
    set_volts: Volts | None = None
    gate_low: Volts | None = None
    gate_high: Volts | None = None
    gate_step: Volts | None = None
    reset_low: Volts | None = None
    reset_high: Volts | None = None
    reset_step: Volts | None = None
    jump: Amps | None = 8e-6
    rise: Amps | None = None
    rises: int = 3
    rise_after: tuple[Volts, Amps] | None = None
    slope: Siemens | None = None
    flat: Amps | None = None
    hits: int = 3
    amps_max: Amps | None = None

    def __post_init__(self) -> None:
        Verify.__post_init__(self)
        above_zero(self, "gate_step", "reset_step", "jump", "rise", "slope", "flat", "amps_max")
        at_least_one(self, "rises", "hits")
        self._either("set", _SHORT_SET)
        self._either("reset", _SHORT_RESET)
        for low, high in (("gate_low", "gate_high"), ("reset_low", "reset_high")):
            first, last = getattr(self, low), getattr(self, high)
            if first is not None and first > last:
                raise ValueError(f"{low} {first:g} V lies above {high} {last:g} V")
        if (self.slope is None) != (self.flat is None):
            missing, given = ("slope", "flat") if self.slope is None else ("flat", "slope")
            raise ValueError(f"{missing} is missing: {given} alone tells no SET ramp that a cell has switched")
        _ = self.set_ramp, self.reset_ramp  # whatever is wrong with them is said now

    def _either(self, ramp: str, short: tuple[str, ...]) -> None:
        """Refuses a direction that is given twice, or not wholly."""
        given = [name for name in short if getattr(self, name) is not None]
        if getattr(self, ramp) is not None and given:
            raise ValueError(f"{given[0]} says again what {ramp} says; leave {', '.join(given)} out")
        if getattr(self, ramp) is None and len(given) < len(short):
            missing = [name for name in short if name not in given]
            raise ValueError(f"{missing[0]} is missing: a ramp needs {', '.join(short)}, or {ramp} in their place")

    @property
    def set_ramp(self) -> AnyRamp:
        """The ramp that raises conductances."""
        if self.set is not None:
            return self.set
        volts, low, high, step = self.set_volts, self.gate_low, self.gate_high, self.gate_step
        assert volts is not None and low is not None and high is not None and step is not None
        return GateRamp(volts=volts, low=low, high=high, step=step)

    @property
    def reset_ramp(self) -> AnyRamp:
        """The ramp that lowers conductances."""
        if self.reset is not None:
            return self.reset
        low, high, step = self.reset_low, self.reset_high, self.reset_step
        assert low is not None and high is not None and step is not None
        return VoltsRamp(low=low, high=high, step=step)


Method = ByPulses | ByRamps
