"""The pulsed update: signed pulse counts of many cells at once, its two paths, and what a batch of updates may share.

The counts themselves are one matrix product (``hil.contract.cost.coincidences``), which keeps the correlations between
the cells of a row or a column, since these share their trains. What k equal pulses do to one cell is a closed form of
its law (``sim_backend.laws``).

Random numbers belong to (seed, number of the operation): the board seeds one stream for each operation, and it is used
in the order of the cells in the blocks, piece by piece. The dense path draws for every cell of the blocks, the path of
the active cells for those that got a pulse; so the two agree in law, and in every bit where a law draws nothing or all
cells got a pulse. Which path is taken depends on place and counts alone. Threads of torch do not matter: counts
are whole numbers below 2^24, exact in float32 in any order of adding, random numbers are drawn by one thread, and the
rest goes cell by cell. One thread is also the fastest: pieces are too small to be worth waking a second one.
"""
