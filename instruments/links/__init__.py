"""Links: bytes to and from a board, with a deadline on every wait."""
