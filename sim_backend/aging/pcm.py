"""Drift of phase-change cells, and the read noise that grows with it.

    g(t) = g_prog ((t + t0) / t0)^-nu, t since the last pulse
    nu = |mu + sigma xi|, mu = clip(0.0244 - 0.0155 ln x, 0.049, 0.1), sigma = clip(-0.0059 - 0.0125 ln x, 0.008, 0.045)
    sigma_read = g(t) Q sqrt(ln((t + t0 + t_read) / (2 t_read))), Q = min(0.0088 / max(x^0.65, 0.001), 0.2)

with x = g_prog / g_max at least 1e-7, and one xi for each cell of the chip. As xi stays with its cell, drift needs no
draws, and how a span of time is cut does not matter. The source draws nu from the target; here it is the conductance
that the last pulse left.

Reference: aihwkit 1.2.0, PCMLikeNoiseModel (after Nandakumar et al. 2020 and Joshi et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, Siemens
from sim_backend.aging.ages import age_tensors, due, renewed, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmDrift:
    """Power-law drift.

    Args:
        g_max: conductance of a fully crystallised cell.
        t0: time after programming at which the conductance is the programmed one; 20 s where it was measured.
        exponent: how strong drift is; 1 as measured, 0 for none.
        exponent_dtod: how strong its spread between cells is; 1 as measured, 0 for none.
        read_noise_scale: how strong read noise is; 1 as measured, 0 for none.
        read_time: time of one reading, for the read noise.
        refresh: lab time that may pass before conductances are brought up to date; 0 for after every operation.
    """

    kind: Literal["pcm_drift"] = "pcm_drift"
    g_max: Siemens = 25e-6
    t0: Seconds = 20.0
    exponent: float = 1.0
    exponent_dtod: float = 1.0
    read_noise_scale: float = 1.0
    read_time: Seconds = 250e-9
    refresh: Seconds = 0.0

    def __post_init__(self) -> None:
        above_zero(self, "g_max", "t0", "read_time")
        not_negative(self, "exponent", "exponent_dtod", "read_noise_scale", "refresh")

    def tensors(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """What the chip keeps for it, see ``sim_backend.aging``."""
        g = state["g"]
        xi = torch.randn(g.shape, generator=generator, dtype=g.dtype)
        return age_tensors(g, state["pulses"]) | {"age.xi": xi, "age.nu": self._exponents(g, xi)}

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """See ``Aging``."""
        fresh = renewed(state)
        if fresh is not None:
            start, xi = state["age.start"].view(-1)[fresh], state["age.xi"].view(-1)[fresh]
            state["age.nu"].view(-1)[fresh] = self._exponents(start, xi)
        if not due(state, seconds, self.refresh):
            return False
        grown = (state["age.clock"] - state["age.born"]).div_(self.t0).log1p_()
        return shown(state, state["age.start"] * grown.mul_(state["age.nu"]).neg_().exp_())

    def read_noise(self, state: Mapping[str, Tensor]) -> Tensor:
        """Noise of one reading of each cell now, rms, S; as a conductance, like ``read_noise`` of the simulator."""
        x = (state["age.start"] / self.g_max).clamp_(min=1e-7)
        relative = (0.0088 / x.pow_(0.65).clamp_(min=1e-3)).clamp_(max=0.2)
        age = state["age.clock"] - state["age.born"]
        grown = ((age + self.t0 + self.read_time) / (2.0 * self.read_time)).log_().sqrt_()
        return relative.mul_(grown.to(relative.dtype)).mul_(state["g"]).mul_(self.read_noise_scale)

    def _exponents(self, start: Tensor, xi: Tensor) -> Tensor:
        log = (start / self.g_max).clamp_(min=1e-7).log_()
        mean = (-0.0155 * log + 0.0244).clamp_(0.049, 0.1)
        spread = (-0.0125 * log - 0.0059).clamp_(0.008, 0.045)
        return (mean + self.exponent_dtod * spread * xi).abs_().mul_(self.exponent)
