"""Boards and instruments that speak SCPI, and the text layer they share."""
