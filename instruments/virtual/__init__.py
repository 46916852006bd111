"""The virtual board: a shell that gives any backend the wire of a real board."""
