"""Noise and bound management: inputs that fill the drivers' range, and another read where an amplifier railed.

Noise management divides each input vector by a scale of its own before the read and multiplies the product by it
afterwards, so that small vectors do not drown in noise. A vector of zeros has a product of zeros and is not read. Bound
management reads those vectors again, with smaller inputs, whose currents met a rail of the amplifiers; it costs lab
time, and reruns are counted. Reads that bypass a layer's ``Reading``, like those of a single line, are not managed.

References: Gokmen, Onen and Haensch 2017, Front. Neurosci. 11, 538 (both managements); Gokmen, Rasch and Haensch 2018
(stochastic rounding of inputs). Scales and stop tests follow the code of aihwkit, commit 4545f11b; there rails are
numbers of the model, here they are what the board flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Flag, Outcome, Read
from hil.converters import pick_range
from hil.draws import generator
from hil.errors import UsageError
from hil.layers import CrossbarLayer, PlainReading, collected
from hil.matrix import PlacedMatrix

Noise = Literal["abs_max", "max", "constant", "average_abs_max"]
Bound = Literal["none", "iterative", "worst_case"]

_RAILS = int(Flag.SAT_LOW | Flag.SAT_HIGH)
_LEAST_CODES = 4
"""An input range of fewer codes on each side, less than two bits, is not worth another read."""


@dataclass(slots=True)
class _Memory:
    """What a layer's reading remembers.

    Args:
        passes: passes so far; numbers the draws.
        reruns: vectors that were read again.
        clipped: vectors that were accepted with a current at a rail.
        cut: vectors with inputs beyond the range of the drivers, which were cut.
        average: running average of the largest inputs; -1 before the first.
    """

    passes: int = 0
    reruns: int = 0
    clipped: int = 0
    cut: int = 0
    average: float = -1.0


class ManagedReading:
    """Reads with noise and bound management.

    Args:
        noise: what a vector is divided by: its largest magnitude (``abs_max``), its largest input (``max``; the largest
            magnitude where no input is positive), ``threshold`` (``constant``), or the running average of the largest
            magnitudes (``average_abs_max``). Inputs that are then beyond the drivers' range are cut, and counted.
        threshold: upper limit of the scale, or the constant; None for no limit, or for inputs as they are.
        bound: what happens where a current met a rail: nothing; inputs are halved again and again (``iterative``); they
            are once made so small that the largest conductances could not rail (``worst_case``).
        max_factor: inputs are not made smaller any more once they are this many times smaller.
        input_levels: levels that inputs are rounded to, an odd number, symmetric and with 0; None for the board's.
        stochastic_inputs: round inputs at random so that their mean is exact.
        decay: weight of a new vector in the running average.
        seed: root seed of stochastic rounding.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        noise: Noise = "abs_max",
        threshold: float | None = None,
        bound: Bound = "iterative",
        max_factor: float = 1000.0,
        input_levels: int | None = None,
        stochastic_inputs: bool = False,
        decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if threshold is not None and not threshold > 0:
            raise ValueError(f"threshold must be above 0, got {threshold}")
        if not max_factor >= 1 or not 0 < decay <= 1:
            raise ValueError("max_factor must be at least 1, and decay above 0 and at most 1")
        if input_levels is not None and (input_levels < 3 or input_levels % 2 == 0):
            raise ValueError(f"input_levels must be odd and at least 3, so that 0 is a level, got {input_levels}")
        self.noise: Noise = noise
        self.bound: Bound = bound
        self.threshold, self.max_factor, self.decay, self.seed = threshold, max_factor, decay, seed
        self.input_levels, self.stochastic_inputs = input_levels, stochastic_inputs
        self._memories: dict[str, _Memory] = {}

    @property
    def reruns(self) -> int:
        """Vectors that were read again, over all layers."""
        return sum(memory.reruns for memory in self._memories.values())

    @property
    def clipped(self) -> int:
        """Vectors whose last read still met a rail, over all layers."""
        return sum(memory.clipped for memory in self._memories.values())

    @property
    def cut(self) -> int:
        """Vectors with inputs beyond the drivers' range, over all layers."""
        return sum(memory.cut for memory in self._memories.values())

    def products(self, layer: CrossbarLayer, x: Tensor) -> Tensor:
        """See ``Reading``.

        Raises:
            UsageError: the board lacks what the management needs to know.
        """
        memory = self._memories.setdefault(layer.name, _Memory())
        z = torch.zeros(x.shape[0], layer.n_out, dtype=x.dtype)
        left = x.ne(0).any(1).nonzero()[:, 0]
        if not len(left):
            return z
        scale = self._scale(layer, memory, x[left])
        memory.cut += int((x[left].abs() > scale).any(1).sum())
        factor = torch.ones_like(scale)
        matrices, first = list(layer.visible.values()), True
        while len(left):
            inputs = self._inputs(layer, memory, x[left] / (scale * factor))
            reads = [matrix.read(inputs, layer.sense) for matrix in matrices]
            outcomes = layer.backend.execute(reads)
            railed = _railed(matrices, outcomes)
            done = ~railed | self._last(layer, factor[:, 0], first)
            total = collected(matrices, outcomes).to(x.dtype) * (scale * factor / layer.mapping.x_max)
            z[left[done]] = total[done]
            memory.clipped += int((railed & done).sum())
            memory.reruns += int((~done).sum())
            if self.bound == "worst_case" and not bool(done.all()):
                factor = factor * self._worst(layer, reads).to(x.dtype)
            else:
                factor = factor * 2
            left, scale, factor, first = left[~done], scale[~done], factor[~done], False
        return z

    def errors(self, layer: CrossbarLayer, d: Tensor) -> Tensor:
        """See ``Reading``: noise management by the largest magnitude, no bound management, no rounding."""
        back = torch.zeros(d.shape[0], layer.n_in, dtype=d.dtype)
        rows = d.ne(0).any(1).nonzero()[:, 0]
        if len(rows):
            back[rows] = PlainReading().errors(layer, d[rows])
        return back

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """See ``Reading``."""
        memory = self._memories.get(layer.name, _Memory())
        return {"numbers": torch.tensor(astuple(memory), dtype=torch.float64)}

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """See ``Reading``."""
        shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in saved.items()}
        if shapes != {"numbers": ((5,), torch.float64)}:
            raise RuntimeError(f"the reading of {layer.name} does not fit: it holds {shapes}")
        passes, reruns, clipped, cut, average = (float(number) for number in saved["numbers"])
        if any(count < 0 or count != int(count) for count in (passes, reruns, clipped, cut)):
            raise RuntimeError(f"the reading of {layer.name} does not fit: its counts are not whole numbers")
        self._memories[layer.name] = _Memory(int(passes), int(reruns), int(clipped), int(cut), average)

    def told(self) -> str:
        """See ``Reading``."""
        what = {
            "read again with smaller inputs": self.reruns,
            "accepted at a rail": self.clipped,
            "with inputs cut": self.cut,
        }
        return ", ".join(f"{count:,} vectors {text}" for text, count in what.items() if count)

    def _scale(self, layer: CrossbarLayer, memory: _Memory, x: Tensor) -> Tensor:
        """What noise management divides each vector by, [batch, 1]; no vector is all zero."""
        largest = x.abs().amax(1, keepdim=True)
        if self.noise == "constant":
            return torch.full_like(largest, self.threshold or layer.mapping.x_max)
        if self.noise == "average_abs_max":
            # the vectors of a batch have no order, so each of them counts with the mean of all
            past = (1.0 - self.decay) ** len(x) if memory.average >= 0 else 0.0
            memory.average = past * memory.average + (1.0 - past) * float(largest.mean(dtype=torch.float64))
            return torch.full_like(largest, memory.average)
        if self.noise == "max":
            positive = x.amax(1, keepdim=True)
            largest = torch.where(positive > 0, positive, largest)
        return largest if self.threshold is None else largest.clamp(max=self.threshold)

    def _inputs(self, layer: CrossbarLayer, memory: _Memory, share: Tensor) -> Tensor:
        """Inputs [batch, n_in] as the drivers get them, of shares of their range; never beyond it."""
        memory.passes += 1
        share = share.clamp(-1.0, 1.0)
        codes = self._rounding(layer, share)
        if codes is not None:
            share = share * codes
            if self.stochastic_inputs:
                source = generator(self.seed, f"inputs/{layer.name}", memory.passes)
                share = share + (torch.rand(share.shape, generator=source, dtype=share.dtype) - 0.5)
            share = share.round() / codes
        x_max, mapping = torch.tensor(layer.mapping.x_max, dtype=share.dtype), layer.mapping
        if float(x_max * mapping.volts_per_input) > float(torch.tensor(mapping.volts, dtype=share.dtype)):
            x_max = torch.nextafter(x_max, torch.zeros_like(x_max))  # the limit holds to the last bit
        return (share * x_max).clamp(-x_max, x_max)

    def _rounding(self, layer: CrossbarLayer, share: Tensor) -> float | Tensor | None:
        """Codes on either side of 0 that inputs are rounded to here; None where that is left to the board.

        Raises:
            UsageError: nobody says how many.
        """
        if self.input_levels is None and not self.stochastic_inputs:
            return None
        levels = layer.backend.spec.reading.input_levels
        if self.input_levels is None and levels is not None:  # such boards count from the largest of each vector
            return (levels - 1) / share.abs().amax(1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
        codes = self._codes(layer)
        if codes is None:
            raise UsageError(
                f"stochastic_inputs cannot round for board {layer.backend.spec.identity.name}: its inputs are "
                "continuous; set input_levels in the run file's network.reading"
            )
        return codes

    def _codes(self, layer: CrossbarLayer) -> float | None:
        """Codes from 0 to the full input; None where inputs keep all their levels however small they are."""
        if self.input_levels is not None:
            return (self.input_levels - 1) / 2
        step = layer.backend.spec.reading.volts_step
        return None if step is None else layer.mapping.volts / step

    def _last(self, layer: CrossbarLayer, factor: Tensor, first: bool) -> Tensor:
        """Which vectors are not read again whatever came of this pass, bool [batch]."""
        if self.bound == "iterative":
            codes = self._codes(layer)
            most = self.max_factor if codes is None else min(self.max_factor, codes / _LEAST_CODES)
            return factor > most
        return torch.full_like(factor, self.bound == "none" or not first, dtype=torch.bool)

    def _worst(self, layer: CrossbarLayer, reads: Sequence[Read]) -> Tensor:
        """How many times smaller inputs must be so that no line can rail, [batch, 1], at least 1.

        Raises:
            UsageError: the board states no range of currents.
        """
        spec = layer.backend.spec
        chosen = pick_range(spec.reading.ranges, layer.sense.full_scale)
        if chosen is None:
            raise UsageError(
                f"bound: worst_case needs the current ranges of board {spec.identity.name}, and its file states none; "
                "use bound: iterative"
            )
        codes, worst = self._codes(layer), torch.ones(())
        most = self.max_factor if codes is None else min(self.max_factor, codes / _LEAST_CODES)
        for read in reads:
            for sign, rail in ((1, chosen.positive), (-1, chosen.negative)):
                if rail > chosen.step:  # a rail at 0 is met by every current of the wrong sign, however small
                    volts = (sign * read.volts).clamp(min=0).sum(-1).amax(0)
                    worst = torch.maximum(worst, volts * layer.mapping.siemens_high / (rail - chosen.step))
        return worst.clamp(max=most)[:, None]


def _railed(matrices: Sequence[PlacedMatrix], outcomes: Sequence[Outcome]) -> Tensor:
    """Which vectors met a rail on a line that counts, bool [batch]."""
    met: list[Tensor] = []
    for matrix, outcome in zip(matrices, outcomes, strict=True):
        assert outcome.value is not None
        if outcome.flags is None:
            met.append(torch.zeros(outcome.value.shape[1], dtype=torch.bool))
            continue
        counts = (matrix.out_index >= 0) & (matrix.gain != 0)
        # a rail at 0 A, where a board reads one polarity only, says nothing about the inputs
        rails = ((outcome.flags & _RAILS) != 0) & counts[:, None, :] & (outcome.value != 0)
        met.append(rails.any(2).any(0))
    return torch.stack(met).any(0)
