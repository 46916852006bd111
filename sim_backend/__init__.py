"""The software crossbar: a board in memory that behaves like a chip."""
