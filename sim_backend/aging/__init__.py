"""What lab time does to cells, one kind a file: each satisfies the ``Aging`` door, on the virtual clock of the chip.

An aging keeps what it needs in the chip's own state, under names that begin with ``age.``; ``tensors`` makes them when
the chip is made, and they are saved and restored with it. Two advances of a and b seconds age cells as one of a + b.
"""
