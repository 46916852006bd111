"""A plain nodal analysis of an array: every resistor is stamped one by one, and the dense system is solved.

It shares nothing with the simulator: resistors of 0 ohm join nodes, sources hold theirs, floating ends have none.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


class Nodal:
    """The circuit of one tile.

    Args:
        g: [R, C] S.
        r_word, r_bit: ohm of a segment.
        driver, amplifier: ohm at the ends.
        word_both, bit_both: tie the far ends to the same source.
    """

    def __init__(self, g, r_word, r_bit, driver=0.0, amplifier=0.0, word_both=False, bit_both=False):
        self.g = np.asarray(g, dtype=float)
        self.rows, self.cols = self.g.shape
        self.resistors = []
        for i in range(self.rows):
            self._line([("w", i, j) for j in range(self.cols)], ("row", i), r_word, driver, word_both)
        for j in range(self.cols):
            self._line([("b", i, j) for i in reversed(range(self.rows))], ("col", j), r_bit, amplifier, bit_both)
        self.parents: dict = {}
        for one, other, ohms in self.resistors:
            if ohms == 0:
                self.parents[self._root(one)] = self._root(other)

    def _line(self, nodes, end, segment, extra, both):
        self.resistors += [(one, other, segment) for one, other in pairwise(nodes)]
        self.resistors.append((nodes[0], end, segment + extra))
        if both:
            self.resistors.append((nodes[-1], end, segment + extra))

    def _root(self, node):
        while node in self.parents:
            node = self.parents[node]
        return node

    def solve(self, sources):
        """Node voltages (word, bit: [R, C]) and the currents that leave through column ends, {j: A}.

        ``sources`` maps ("row", i) and ("col", j) to volts; ends that are left out float.
        """
        index: dict = {}
        stamps = [(one, other, 1.0 / ohms) for one, other, ohms in self.resistors if ohms > 0]
        stamps += [(("w", i, j), ("b", i, j), g) for (i, j), g in np.ndenumerate(self.g)]
        stamps = [(self._root(one), self._root(other), g) for one, other, g in stamps]
        held = {self._root(end): volts for end, volts in sources.items()}
        for one, other, _ in stamps:
            for node in (one, other):
                if node not in held:
                    index.setdefault(node, len(index))
        a, rhs = np.zeros((len(index), len(index))), np.zeros(len(index))
        for one, other, g in stamps:
            for here, there in ((one, other), (other, one)):
                if here in index:
                    a[index[here], index[here]] += g
                    if there in index:
                        a[index[here], index[there]] -= g
                    else:
                        rhs[index[here]] += g * held[there]
        found = np.linalg.solve(a, rhs) if index else rhs
        volts = held | {node: found[k] for node, k in index.items()}
        at = np.vectorize(lambda kind, i, j: volts[self._root((kind, i, j))], otypes=[float])
        i, j = np.indices(self.g.shape)
        word, bit = at("w", i, j), at("b", i, j)
        return word, bit, (self.g * (word - bit)).sum(0)
