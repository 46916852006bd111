"""A source-measure unit and a switch matrix as a crossbar board: one path at a time."""
